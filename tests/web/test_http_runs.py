"""Starting, reading, changing runs by HTTP."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import quote

import httpx
import pytest
from support.cluster import Cluster
from support.waiting import until_sync
from web_kit import Api, ended, problem, start

from agnt5 import Budget
from agnt5.contracts.budgets import budgets_of


def waiting(client: httpx.Client, run_id: str) -> None:
    until_sync(lambda: client.get(f"/runs/{run_id}").json()["status"] == "waiting", 15)


def fresh(word: str = "run") -> str:
    return f"{word}-{uuid.uuid4().hex[:12]}"


def test_a_started_run_has_an_address_and_a_result(ann):
    started = start(ann, "web_shop.add", {"a": 2, "b": 3})
    assert started.status_code == 201
    assert started.json()["handler"] == "web_shop.add"
    address = started.headers["location"]
    assert address == f"/api/v1/runs/{started.json()['id']}"
    assert ended(ann, started.json()["id"]) == {
        "id": started.json()["id"], "status": "completed", "result": 5, "error": None
    }  # fmt: skip
    state = ann.get(f"{ann.base_url.copy_with(path=address)}").json()
    assert state["input"] == {"a": 2, "b": 3}
    assert state["started_at"] is not None


def test_one_id_is_one_run(ann):
    run_id = fresh()
    assert start(ann, "web_shop.add", {"a": 1}, id=run_id).status_code == 201
    again = start(ann, "web_shop.add", {"a": 1}, id=run_id)
    assert again.status_code == 200
    assert again.json()["id"] == run_id
    problem(start(ann, "web_shop.add", {"a": 2}, id=run_id), 409, "duplicate-run")
    assert ended(ann, run_id)["result"] == 2


def test_fifty_starts_with_one_key_are_one_run(ann):
    key = {"Idempotency-Key": f'"{uuid.uuid4()}"'}
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: start(ann, "web_shop.add", {"a": 1}, headers=key), range(50)))
    assert sorted(one.status_code for one in made) == [200] * 49 + [201]
    assert len({one.json()["id"] for one in made}) == 1
    body = problem(start(ann, "web_shop.add", {"a": 2}, headers=key), 422, "idempotency-key-reused")
    assert "a': 1" not in str(body)


def test_a_key_is_its_owners_alone(api, ann):
    key = {"Idempotency-Key": fresh("key")}
    ours = start(ann, "web_shop.add", {"a": 1}, headers=key)
    with api.client("bob") as bob:
        theirs = start(bob, "web_shop.add", {"a": 2}, headers=key)
        assert theirs.status_code == 201
        assert theirs.json()["id"] != ours.json()["id"]
        problem(start(bob, "web_shop.add", {"a": 1}, id=ours.json()["id"]), 422, "invalid-input")
    problem(start(ann, "web_shop.add", {"a": 1}, id="x", headers=key), 422)
    problem(start(ann, "web_shop.add", {"a": 1}, headers={"Idempotency-Key": "a b"}), 422)


@pytest.mark.parametrize(
    "run_id", ["a/b", "a:b@c", "x/result", "signals/go", "50%", "a%2Fb", "ü/ß?#", "a/../b", "/", "."]
)
def test_ids_with_special_characters_are_found(ann, cluster: Cluster, run_id):
    run_id = f"{fresh()}{run_id}"
    started = start(ann, "web_shop.trip", {"to": "Rome"}, id=run_id)
    assert started.status_code == 201, started.text
    at = f"/runs/{quote(run_id, safe='')}"
    assert started.headers["location"] == f"/api/v1{at}"
    until_sync(lambda: ann.get(at).json()["status"] == "waiting", 15)
    child = ann.get(f"{at}/timeline").json()["moments"][1]["child"]
    assert child == f"{run_id}~1"
    assert ended(ann, child)["result"] == 3
    assert ann.get(f"{at}/history").json()["events"][0]["data"]["handler"] == "web_shop.trip"
    assert ann.post(f"{at}/signals/go", json={"payload": {"n": 1}}).status_code == 202
    assert ended(ann, run_id)["result"] == {"to": "Rome", "total": 3, "word": {"n": 1}}


def test_a_slash_in_an_id_may_be_sent_as_it_is(ann):
    run_id = f"{fresh()}/b"
    start(ann, "web_shop.add", {"a": 1}, id=run_id)
    assert ann.get(f"/runs/{run_id}").json()["id"] == run_id
    assert ann.get(f"/runs/{run_id}/result", params={"wait_s": 20}).json()["result"] == 2


def test_a_name_of_a_signal_may_have_a_slash(ann, cluster: Cluster):
    run_id = start(ann, "web_shop.trip", {"to": "Bonn"}).json()["id"]
    assert ann.post(f"/runs/{run_id}/signals/{quote('a/b ü', safe='')}", json={"payload": 1}).status_code == 202
    assert [event.name for event in cluster.client.history(run_id) if type(event).__name__ == "SignalReceived"] == [
        "a/b ü"
    ]


def test_allowed_headers_reach_the_handler_and_no_others(ann, api, cluster: Cluster):
    sent = {
        "User-Agent": "till/1", "X-Request-Id": "r-1", "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad-01",
        "Accept-Language": "de", "Cookie": "session=secret", "X-Api-Key": "k", "X-Other": "o",
        "X-Correlation-Id": "c" * 3000,
    }  # fmt: skip
    answer = start(ann, "web_shop.headers", headers=sent)
    assert answer.headers["x-request-id"] == "r-1"
    found = ended(ann, answer.json()["id"])["result"]
    assert found == {
        "user-agent": "till/1", "x-request-id": "r-1", "accept-language": "de", "x-correlation-id": "c" * 1024,
        "traceparent": sent["Traceparent"],
    }  # fmt: skip
    first = cluster.client.history(answer.json()["id"])[0]
    assert first.requester == "ann"
    assert api.secrets["ann"] not in repr(first)


def test_a_long_poll_answers_when_the_run_ends(ann):
    run_id = start(ann, "web_shop.trip", {"to": "Oslo"}).json()["id"]
    waiting(ann, run_id)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ann.get, f"/runs/{run_id}/result", params={"wait_s": 15})
        ann.post(f"/runs/{run_id}/signals/go", json={"payload": "now"})
        begun = time.monotonic()
        answer = asked.result()
    assert answer.status_code == 200
    assert answer.json()["result"]["word"] == "now"
    assert time.monotonic() - begun < 3


def test_a_long_poll_says_that_a_run_goes_on(ann):
    run_id = start(ann, "web_shop.trip", {"to": "Oslo"}).json()["id"]
    begun = time.monotonic()
    answer = ann.get(f"/runs/{run_id}/result", params={"wait_s": 0.3})
    assert answer.status_code == 202
    assert time.monotonic() - begun >= 0.3
    assert answer.json()["status"] in {"queued", "running", "waiting"}
    problem(ann.get(f"/runs/{run_id}/result", params={"wait_s": 61}), 422)
    problem(ann.get("/runs/none-such/result", params={"wait_s": 5}), 404, "run-not-found")


def test_a_failed_run_is_an_answer_and_can_be_retried(ann, cluster: Cluster):
    word = fresh("word")
    run_id = start(ann, "web_shop.broken", {"until": word}).json()["id"]
    outcome = ended(ann, run_id)
    assert outcome["status"] == "failed"
    assert outcome["error"]["type"] == "ValueError"
    (cluster.notes / word).write_text("yes\n")
    retried = ann.post(f"/runs/{run_id}/retry")
    assert retried.status_code == 202
    until_sync(lambda: ann.get(f"/runs/{run_id}").json()["status"] == "completed", 15)
    problem(ann.post(f"/runs/{run_id}/retry"), 409, "not-failed")
    problem(ann.post("/runs/none-such/retry"), 404)


def test_a_cancelled_run_says_why(ann):
    run_id = start(ann, "web_shop.trip", {"to": "Oslo"}).json()["id"]
    assert ann.post(f"/runs/{run_id}/cancel", json={"reason": "no time"}).status_code == 202
    outcome = ended(ann, run_id)
    assert outcome["status"] == "cancelled"
    assert outcome["error"]["message"] == "no time"
    problem(ann.post(f"/runs/{run_id}/signals/go"), 409, "run-ended")
    problem(ann.post("/runs/none-such/cancel"), 404)


def test_a_signal_with_a_key_is_delivered_once(ann, cluster: Cluster):
    run_id = start(ann, "web_shop.trip", {"to": "Oslo"}).json()["id"]
    for _ in range(3):
        answer = ann.post(f"/runs/{run_id}/signals/other", json={"payload": 1}, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 202
    names = [type(event).__name__ for event in cluster.client.history(run_id)]
    assert names.count("SignalReceived") == 1
    problem(ann.post(f"/runs/{run_id}/signals/human.approval"), 422)
    problem(ann.post("/runs/none-such/signals/go"), 404)


def test_runs_are_listed_in_pages(ann):
    mark = []
    for _ in range(5):  # one after the other: ended runs are listed by their end
        mark.append(start(ann, "web_shop.slow", {"seconds": 0}).json()["id"])
        ended(ann, mark[-1])
    open_ids = [start(ann, "web_shop.trip", {"to": "Rom"}).json()["id"] for _ in range(3)]
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = ann.get("/runs", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["runs"]) <= 3
        found += [run["id"] for run in page["runs"]]
        cursor, pages = page["cursor"], pages + 1
    assert len(found) == len(set(found))
    assert {*mark, *open_ids} <= set(found)
    assert [one for one in found if one in open_ids] == open_ids[::-1]
    assert [one for one in found if one in mark] == mark[::-1]
    only = ann.get("/runs", params={"handler": "web_shop.slow", "status": "completed"}).json()["runs"]
    assert {run["handler"] for run in only} == {"web_shop.slow"}
    problem(ann.get("/runs", params={"status": "asleep"}), 422)
    problem(ann.get("/runs", params={"cursor": "WzEsMl0"}), 422)
    problem(ann.get("/runs", params={"limit": 0}), 422)


def test_a_run_is_started_with_budgets(ann, cluster: Cluster):
    limits = [{"cost": 2.5, "requests": 0}, {"key": "customer:acme", "tokens": 100, "per_s": 86_400}]
    run_id = start(ann, "web_shop.add", {"a": 1}, id=fresh(), budget=limits).json()["id"]
    (started, *_) = cluster.client.history(run_id)
    budgets = (Budget(cost=2.5, requests=0), Budget(key="customer:acme", tokens=100, per=timedelta(days=1)))
    assert budgets_of(started.headers) == budgets
    again = start(ann, "web_shop.add", {"a": 1}, id=run_id, budget=[{"cost": 9}])
    assert (again.status_code, budgets_of(cluster.client.history(run_id)[0].headers)) == (200, budgets)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ([{"key": "acme"}], "at least one limit"),
        ([{"key": "a b", "cost": 1}], "budget key"),
        ([{"cost": 1}, {"tokens": -1}], "#/budget/1/tokens"),
        ([{"cost": 1, "per_s": 0.5}], "#/budget/0/per_s"),
        ([{"cost": 1, "per": 60}], "#/budget/0/per"),
        ([{"cost": 1}] * 17, "#/budget"),
        ({"cost": 1}, "#/budget"),
    ],
)
def test_a_budget_that_is_none_is_told_with_its_place(ann, limits, said):
    body = problem(start(ann, "web_shop.add", {"a": 1}, budget=limits), 422)
    assert said in str(body)


def test_wrong_input_is_told_with_its_place(ann):
    body = problem(start(ann, "web_shop.add", {"c": 1}), 422, "invalid-input")
    assert "'a' is missing" in body["detail"]
    body = problem(start(ann, "web_shop.nothing"), 404, "handler-not-found")
    assert "web_shop.add" in body["detail"]
    body = problem(ann.post("/runs", json={"handler": 1, "wrong": 2}), 422)
    assert {fault["pointer"] for fault in body["errors"]} == {"#/handler", "#/wrong"}
    body = problem(ann.post("/runs", content=b'{"handler": ', headers={"Content-Type": "application/json"}), 422)
    assert "character 12" in body["errors"][0]["detail"]
    body = problem(start(ann, "web_shop.add", {"a": 1}, id="a~b"), 422)
    assert "'~'" in body["detail"]
    problem(start(ann, "web_shop.add", {"a": 1}, priority=10), 422)
    problem(ann.post("/runs", content=b"handler=web_shop.add"), 422)


@pytest.mark.parametrize("text", ["NaN", "1e999", '"\\ud800"', "[" * 5000 + "]" * 5000, "1" * 5000, '"\\u0000"'])
def test_hostile_json_is_refused_or_kept(ann, text):
    body = b'{"handler": "web_shop.add", "input": {"a": 1, "b": %s}}' % text.encode()
    answer = ann.post("/runs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {201, 400, 422}, answer.text
    assert answer.status_code == 201 or problem(answer, answer.status_code)


def test_config_is_listed(cluster, ann):
    cluster.client.set_config("http.tax", True, rollout=25, by="ann", comment="a quarter")
    (found,) = [one for one in ann.get("/config").json()["configs"] if one["key"] == "http.tax"]
    assert found.pop("changed_at")
    assert found == {
        "key": "http.tax", "rule": {"value": True, "rollout": 25}, "text": "true (true or false) for 25 %", "wrong": "",
        "changed_by": "ann", "comment": "a quarter",
    }  # fmt: skip
    cluster.client.unset_config("http.tax")


def test_handlers_and_workers_are_told(ann):
    found = {one["address"]: one for one in ann.get("/handlers").json()["handlers"]}
    assert found["web_shop.add"]["parameters"][0] == {"name": "a", "required": True, "schema": {"type": "integer"}}
    fleet = ann.get("/workers").json()
    assert [worker["alive"] for worker in fleet["workers"]] == [True]
    assert "agnt5.web_shop" in {queue["name"] for queue in fleet["queues"]}


def test_health_and_readiness_need_no_token(api: Api):
    with api.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").json() == {"status": "ready"}
        problem(client.get("/nowhere"), 404)
        problem(client.delete("/health"), 405)

"""Approvals and entities by HTTP."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from support.cluster import Cluster
from support.waiting import until_sync
from web_kit import LINK_SECRET, Api, ended, problem, start

from agnt5.links import DecisionLinks

NAME = quote("deploy/production", safe="")


@pytest.fixture
def bob(api: Api):
    with api.client("bob") as client:
        yield client


def deploy(client: httpx.Client, **more) -> str:
    """A deployment that waits for its approval."""
    run_id = start(client, "web_shop.deploy", {"version": "1.2", **more}).json()["id"]
    until_sync(lambda: client.get(f"/runs/{run_id}/approvals").json()["approvals"], 15)
    return run_id


def decide(client: httpx.Client, run_id: str, decision: str = "approved", **more) -> httpx.Response:
    headers = more.pop("headers", {})
    return client.post(
        f"/runs/{run_id}/approvals/{NAME}/decision", json={"decision": decision, **more}, headers=headers
    )


# ---- approvals


def test_an_approval_is_seen_decided_and_reaches_the_workflow(ann, bob, cluster: Cluster):
    run_id = deploy(bob, roles=["ops"])
    seen = next(
        one for one in ann.get("/approvals", params={"role": "ops"}).json()["approvals"] if one["run_id"] == run_id
    )
    assert seen["name"] == "deploy/production"
    assert seen["payload"] == {"version": "1.2"}
    assert seen["requester"] == "bob"
    decided = decide(ann, run_id, comment="go", ref=seen["ref"])
    assert decided.status_code == 200, decided.text
    assert decided.json()["status"] == "approved"
    assert [vote["approver"] for vote in decided.json()["votes"]] == ["ann"]
    assert ended(ann, run_id)["result"] == ["approved", "ann", "go", None]
    assert problem(decide(ann, run_id, "rejected"), 409)["type"].endswith(("approval-decided", "run-ended"))


def test_who_may_not_decide_is_told_why_and_nothing_changes(api: Api, ann, bob):
    run_id = deploy(ann, roles=["ops"])
    assert problem(decide(bob, run_id), 403, "approval-refused")["reason"] == "role"
    assert problem(decide(ann, run_id), 403, "approval-refused")["reason"] == "self"
    with api.client("root") as root:  # may do all, and has no role
        assert problem(decide(root, run_id), 403, "approval-refused")["reason"] == "role"
    for_carl = deploy(bob, assignee="carl")
    assert problem(decide(ann, for_carl), 403, "approval-refused")["reason"] == "assignee"
    for one in (run_id, for_carl):
        approval = ann.get(f"/runs/{one}/approvals").json()["approvals"][0]
        assert approval["status"] == "open"
        assert approval["votes"] == []
    problem(
        ann.post(f"/runs/{run_id}/approvals/other/decision", json={"decision": "approved"}), 404, "approval-not-found"
    )
    problem(decide(ann, "none-such"), 404, "run-not-found")
    problem(decide(ann, run_id, "perhaps"), 422)


def test_a_form_is_asked_for(ann, bob):
    form = {"type": "object", "properties": {"window": {"type": "string"}}, "required": ["window"]}
    run_id = deploy(bob, form=form)
    assert problem(decide(ann, run_id), 422, "approval-refused")["reason"] == "form"
    assert decide(ann, run_id, data={"window": "night"}).status_code == 200
    assert ended(ann, run_id)["result"][3] == {"window": "night"}


def test_fifty_decisions_are_one(api: Api, ann, bob, cluster: Cluster):
    run_id = deploy(bob, roles=["ops"])
    with api.client("decider") as decider, ThreadPoolExecutor(10) as pool:
        people = [(ann, "approved"), (decider, "rejected"), (bob, "approved")]
        answers = list(pool.map(lambda at: decide(people[at % 3][0], run_id, people[at % 3][1]), range(51)))
    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert {answer.status_code for answer in answers} <= {200, 403, 409}
    assert ended(ann, run_id)["result"][0] == won[0].json()["status"]


def test_a_repeated_decision_with_a_key_is_one_decision(ann, bob):
    run_id = deploy(bob)
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = decide(ann, run_id, headers=key)
    assert first.status_code == 200
    ended(ann, run_id)
    assert decide(ann, run_id, headers=key).status_code == 200


def test_who_may_only_decide_sees_what_is_for_them(api: Api, ann, bob):
    theirs, others, anybodys = deploy(bob, roles=["ops"]), deploy(bob, roles=["legal"]), deploy(bob, assignee="ann")
    with api.client("decider") as decider:
        seen = {one["run_id"] for one in decider.get("/approvals", params={"limit": 500}).json()["approvals"]}
        assert theirs in seen
        assert not {others, anybodys} & seen
        assert decider.get(f"/runs/{others}/approvals").json()["approvals"] == []
        problem(decider.get(f"/runs/{theirs}"), 403)
    mine = {one["run_id"] for one in ann.get("/approvals", params={"mine": True, "limit": 500}).json()["approvals"]}
    assert {theirs, anybodys} <= mine
    assert others not in mine
    assert others in {one["run_id"] for one in ann.get("/approvals", params={"limit": 500}).json()["approvals"]}


def test_the_local_identity_has_every_role(cluster: Cluster):
    with Api(cluster.server.url) as alone, alone.client() as client:
        run_id = deploy(client, roles=["ops", "legal"])
        assert decide(client, run_id).status_code == 200
        assert ended(client, run_id)["result"][:2] == ["approved", "local"]
        problem(client.post("/links/x", json={"decision": "approved"}), 404, "no-links")


def test_a_link_decides_as_the_person_it_names(api: Api, ann, bob):
    run_id = deploy(bob, roles=["ops"])
    ref = ann.get(f"/runs/{run_id}/approvals").json()["approvals"][0]["ref"]
    links, soon = DecisionLinks(LINK_SECRET), datetime.now(UTC) + timedelta(hours=1)
    make = {"approver": "dora", "roles": ["ops"], "expires_at": soon}
    token = links.make(run_id, "deploy/production", ref, **make)
    bad = {
        "forged": DecisionLinks("another secret, also long").make(run_id, "deploy/production", ref, **make),
        "changed": token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        "old": links.make(run_id, "deploy/production", ref, **{**make, "expires_at": soon - timedelta(hours=2)}),
    }
    with api.client() as anybody:
        for one in bad.values():
            problem(anybody.post(f"/links/{one}", json={"decision": "approved"}), 403, "link-not-valid")
        problem(anybody.post(f"/links/{token}", json={"decision": "approved", "approver": "eve"}), 422)
        weak = links.make(run_id, "deploy/production", ref, **{**make, "roles": []})
        assert problem(anybody.post(f"/links/{weak}", json={"decision": "approved"}), 403)["reason"] == "role"
        other = links.make(run_id, "deploy/production", "0.99", **make)
        problem(anybody.post(f"/links/{other}", json={"decision": "approved"}), 404, "approval-not-found")
        done = anybody.post(f"/links/{token}", json={"decision": "rejected", "comment": "late"})
        assert done.json()["status"] == "rejected"
        assert "votes" not in done.json()
        assert ended(ann, run_id)["result"][:3] == ["rejected", "dora", "late"]
        problem(anybody.post(f"/links/{token}", json={"decision": "approved"}), 409)
    assert token not in api.output()


# ---- entities


def call(client: httpx.Client, key: str, method: str, value=None, **more) -> httpx.Response:
    url = f"/entities/WebCounter/{quote(key, safe='')}/{method}"
    return client.post(url, json={"input": value}, params=more.pop("params", {}), **more)


@pytest.mark.parametrize("key", ["plain", "a/b", "a:b@c", "x/total", "ü%2F?"])
def test_a_method_is_called_and_its_state_is_seen(ann, key):
    key = f"{uuid.uuid4().hex[:8]}{key}"
    done = call(ann, key, "add", {"n": 3})
    assert done.status_code == 200, done.text
    assert done.json()["result"] == 3
    assert call(ann, key, "total").json()["result"] == 3
    seen = ann.get(f"/entities/WebCounter/{quote(key, safe='')}").json()
    assert seen["key"] == key
    assert seen["state"] == {"total": 3}
    assert seen["recent"][0] == done.json()["id"]
    run = ann.get(done.headers["location"].removeprefix("/api/v1")).json()
    assert run["id"].startswith(f"WebCounter/{key}~@")
    assert run["kind"] == "entity"


def test_a_failed_method_changes_nothing(ann):
    key = uuid.uuid4().hex
    call(ann, key, "add", {"n": 3})
    failed = call(ann, key, "add", {"n": -1}).json()
    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "ValueError"
    assert ann.get(f"/entities/WebCounter/{key}").json()["state"] == {"total": 3}


def test_a_call_with_a_key_is_made_once(ann):
    key, headers = uuid.uuid4().hex, {"Idempotency-Key": str(uuid.uuid4())}
    ids = {call(ann, key, "add", {"n": 5}, headers=headers).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    assert call(ann, key, "total").json()["result"] == 5
    problem(call(ann, key, "add", {"n": 6}, headers=headers), 422, "idempotency-key-reused")
    started = start(ann, "WebCounter.add", {"n": 1}, key=key)
    assert started.status_code == 201
    assert ended(ann, started.json()["id"])["result"] == 6


def test_a_long_call_goes_on_as_a_run_and_holds_its_entity(api: Api, ann, cluster: Cluster):
    key, word = uuid.uuid4().hex, uuid.uuid4().hex
    held = call(ann, key, "hold", {"word": word}, params={"wait_s": 0.2})
    assert held.status_code == 202
    seen = until_sync(lambda: (one := ann.get(f"/entities/WebCounter/{key}")).status_code == 200 and one.json(), 10)
    assert seen["holder"] == held.json()["id"]
    with api.client("root") as root:
        problem(root.delete(f"/entities/WebCounter/{key}"), 409, "entity-busy")
        (cluster.notes / word).write_text("go\n")
        assert ended(ann, held.json()["id"])["result"] == word
        call(ann, key, "add", {"n": 1})
        assert root.delete(f"/entities/WebCounter/{key}").status_code == 204
        problem(root.delete(f"/entities/WebCounter/{key}"), 404, "entity-not-found")
    problem(ann.get(f"/entities/WebCounter/{key}"), 404, "entity-not-found")


def test_entities_are_listed_newest_change_first(ann):
    keys = [uuid.uuid4().hex for _ in range(3)]
    for key in keys:
        call(ann, key, "add", {"n": 1})
    found = [one["key"] for one in ann.get("/entities", params={"type": "WebCounter"}).json()["entities"]]
    assert found[:3] == keys[::-1]
    problem(ann.get("/entities", params={"type": "no type"}), 422)


def test_what_is_no_method_is_told(ann):
    problem(call(ann, "k", "subtract", {"n": 1}), 404, "handler-not-found")
    problem(call(ann, "k", "total", {"m": 1}), 422)
    problem(call(ann, "k~", "add", {"n": 1}), 422)
    problem(start(ann, "WebCounter.add", {"n": 1}), 422)

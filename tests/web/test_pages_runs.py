"""The pages of runs, read without JavaScript."""

from __future__ import annotations

import json
import re

import pytest
from page_kit import HOSTILE, Markup, harmless, run_path
from support.waiting import until_sync

from agnt5.contracts.runs import RunStatus


@pytest.fixture
def client(page_cluster):
    return page_cluster.client


@pytest.fixture
def ann(site):
    with site.reader("ann") as reader:
        yield reader


def waiting_trip(client, run_id):
    run = client.start("page_shop.trip", {"to": "Rome"}, id=run_id)
    until_sync(lambda: any(type(event).__name__ == "SignalAwaited" for event in run.history()), 15)
    return run


def test_runs_are_listed_with_their_status_and_counted(site, ann, client):
    done = client.start("page_shop.echo", {"value": 1}, id="listed-1")
    done.result(20)
    page = harmless(ann.get("/"))
    assert page.all("a", href="/runs/listed-1")
    assert "page_shop.echo" in page.text
    counts = dict(re.findall(r"<strong>([\d,]+)</strong><span>(\w+)</span>", ann.get("/")))
    assert {"all", *RunStatus} == set(counts.values()) or len(counts) > 1


def test_runs_are_filtered_by_status_handler_and_text(ann, client):
    client.start("page_shop.echo", {"value": 1}, id="filter-ECHO").result(20)
    client.start("page_shop.broken", id="filter-broken")
    until_sync(lambda: client.get("filter-broken").status().ended, 15)

    def listed(query):
        return {one["href"] for one in Markup(ann.get(f"/?{query}")).all("a") if "/runs/filter-" in (one["href"] or "")}

    assert listed("q=filter-") == {"/runs/filter-ECHO", "/runs/filter-broken"}
    assert listed("q=FILTER-e") == {"/runs/filter-ECHO"}
    assert listed("status=failed&q=filter-") == {"/runs/filter-broken"}
    assert listed("handler=page_shop.echo&q=filter-") == {"/runs/filter-ECHO"}
    nothing = ann.get("/?q=there-is-none-of-it")
    assert "No run fits these filters" in nothing
    assert "One of queued" in Markup(ann.get("/?status=lost", 422)).text


def test_long_lists_come_in_pages(ann, client):
    client.start_many("page_shop.echo", [{"value": n} for n in range(60)], ids=[f"paged-{n}" for n in range(60)])
    until_sync(lambda: all(run.status.ended for run in client.states([f"paged-{n}" for n in range(60)])), 30)
    first = Markup(ann.get("/?q=paged-"))
    second = Markup(ann.get("/?q=paged-&page=2"))
    ids = [one["href"] for page in (first, second) for one in page.all("a") if "/runs/paged-" in (one["href"] or "")]
    assert len(ids) == len(set(ids)) == 60
    assert first.all("a", rel="next")
    assert not second.all("a", rel="next")
    assert second.all("a", rel="prev")[0]["href"] == "/?q=paged-"


def test_a_run_tells_all_about_itself(ann, client):
    run = waiting_trip(client, "told-1")
    run.signal("go", {"by": "ann"})
    run.result(20)
    text = ann.get("/runs/told-1")
    page = harmless(text)
    for part in (
        "workflow",
        "page_shop.trip",
        "agnt5.page_shop",
        '"to": "Rome"',
        "wait for signal go",
        "SignalAwaited",
    ):
        assert part in page.text
    assert page.all("a", href="/runs/told-1~1")
    assert page.all("rect")
    assert "UTC (" in text
    assert json.loads(ann.get("/runs/told-1/raw/result")) == {"to": "Rome", "word": {"by": "ann"}}
    assert json.loads(ann.get("/runs/told-1/raw/journal"))[0]["e"] == "RunStarted"
    child = harmless(ann.get("/runs/told-1~1"))
    assert child.all("a", href="/runs/told-1")


def test_a_page_that_goes_on_renews_itself_without_javascript(ann, client):
    run = waiting_trip(client, "renewed-1")
    assert '<noscript><meta http-equiv="refresh"' in ann.get("/runs/renewed-1")
    run.signal("go")
    run.result(20)
    until_sync(lambda: "http-equiv" not in ann.get("/runs/renewed-1"))  # a while after its end, for its last log lines


@pytest.mark.parametrize("every", [False, True])
def test_five_hundred_tasks_are_still_a_page(ann, client, every):
    client.start("page_shop.many", {"count": 500}, id="five-hundred").result(60)
    text = ann.get(f"/runs/five-hundred?every={every}")
    page = harmless(text)
    lanes = len(re.findall('<span class="name"', text)) + len(re.findall('<a class="name"', text))
    assert lanes == (150 if every else 2)
    assert ("more lanes are not drawn" in text) is every
    assert len(text) < 1_000_000
    assert "page 11 of 11" in page.text
    assert "Children (500)" in page.text
    assert "RunStarted" in ann.get("/runs/five-hundred?journal=1")


def test_a_few_like_tasks_share_a_lane_too(ann, client):
    client.start("page_shop.many", {"count": 10}, id="ten").result(30)
    assert "10 x page_shop.echo" in ann.get("/runs/ten")
    assert "10 x page_shop.echo" not in ann.get("/runs/ten?every=true")


def test_nothing_that_a_run_holds_becomes_markup(ann, client):
    run_id = "hostile-<b>'&#x27;"
    run = client.start("page_shop.fails", {"text": HOSTILE}, id=run_id)
    until_sync(lambda: run.status().ended, 20)
    page = harmless(ann.get(run_path(run_id)))
    assert f"ValueError: {HOSTILE}" in page.text
    assert "Traceback" in page.text
    assert not page.all("b")
    assert page.all("a", href="/runs/hostile-%3Cb%3E%27%26%23x27%3B/raw/input")
    harmless(ann.get("/", params={"q": "hostile-"}))
    harmless(ann.get("/", params={"q": HOSTILE}))
    harmless(ann.get("/", params={"handler": HOSTILE}))
    harmless(ann.get(f"/runs/{HOSTILE.replace('/', '')}", 404))
    assert json.loads(ann.get(f"{run_path(run_id)}/raw/error"))["message"] == HOSTILE


def test_a_huge_value_is_cut_and_its_rest_is_behind_a_link(ann, client):
    client.start("page_shop.echo", {"value": "x" * 100_000}, id="huge-1").result(20)
    text = ann.get("/runs/huge-1")
    assert text.count("x") < 90_000
    assert "more characters" in text
    assert len(ann.get("/runs/huge-1/raw/result")) == 100_002


# ---- acting


def test_a_signal_is_sent_by_a_form(ann, client):
    run = waiting_trip(client, "signalled-1")
    answer = ann.send("/runs/signalled-1", {"act": "signal", "name": "go", "payload": '{"by": "a form"}'})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/signalled-1?said=signalled")
    assert "The signal was sent." in ann.get(answer.headers["location"])
    assert run.result(20)["word"] == {"by": "a form"}


def test_a_bad_payload_is_told_beside_what_was_typed(ann, client):
    waiting_trip(client, "bad-payload")
    answer = ann.send("/runs/bad-payload", {"act": "signal", "name": "go", "payload": "{nope"})
    assert answer.status_code == 422
    page = harmless(answer.text)
    assert "payload: no valid JSON" in page.text
    assert "{nope" in page.text
    assert ann.send("/runs/bad-payload", {"act": "signal", "name": "human.x"}).status_code == 422
    assert ann.send("/runs/bad-payload", {"act": "explode"}).status_code == 422


def test_a_run_is_cancelled_by_a_form_and_says_why(ann, client):
    run = waiting_trip(client, "cancelled-1")
    assert ann.send("/runs/cancelled-1", {"act": "cancel", "reason": "<i>no</i>"}).status_code == 303
    until_sync(lambda: run.status() is RunStatus.CANCELLED, 20)
    page = harmless(ann.get("/runs/cancelled-1"))
    assert "<i>no</i>" in page.text
    client.start("page_shop.echo", id="cancelled-2").result(20)
    late = ann.send("/runs/cancelled-2", {"act": "cancel"}, page="/workers")
    assert late.status_code == 409
    assert "The run has ended" in late.text


def test_only_a_failed_run_can_be_retried(ann, client):
    run = client.start("page_shop.fails", id="retried-1")
    until_sync(lambda: run.status().ended, 20)
    assert "Retry run" in ann.get("/runs/retried-1")
    assert ann.send("/runs/retried-1", {"act": "retry"}).status_code == 303
    until_sync(lambda: run.status() is RunStatus.FAILED, 20)
    client.start("page_shop.echo", id="retried-2").result(20)
    assert "Retry run" not in ann.get("/runs/retried-2")
    assert ann.send("/runs/retried-2", {"act": "retry"}, page="/workers").status_code == 422


def test_buttons_are_for_those_who_may_press_them(site, client):
    waiting_trip(client, "buttons-1")
    with site.reader("reader") as reader:
        text = reader.get("/runs/buttons-1")
        assert "Cancel run" not in text
        assert "Send signal" not in text
        for act in ("signal", "cancel", "retry"):
            answer = reader.send("/runs/buttons-1", {"act": act, "name": "go"}, page="/workers")
            assert answer.status_code == 403
            assert "has not the scope" in harmless(answer.text).text
    assert client.get("buttons-1").status() is RunStatus.WAITING


def test_an_unknown_run_and_an_unknown_page_say_so(ann):
    assert "There is no such run" in harmless(ann.get("/runs/never-started", 404)).text
    assert "Not Found" in harmless(ann.get("/nowhere", 404)).text
    assert ann.http.get("/api/v1/nowhere").headers["content-type"] == "application/problem+json"
    assert ann.http.get("/nowhere", headers={"Accept": "*/*"}).headers["content-type"] == "application/problem+json"


def test_answers_tools_and_maps_are_drawn_and_counted(ann, client):
    client.start("page_shop.answers", {"documents": 21}, id="answers-1").result(30)
    text = ann.get("/runs/answers-1")
    page = harmless(text)
    assert "32 model answers, 11,568 tokens, $0.0022" in page.text
    labels = re.findall(r'class="dot (\w+) of-(\w+)"></span><span class="name" title="([^"]+)"', text)
    labels[2:4] = sorted(labels[2:4], reverse=True)  # they began together
    assert labels == [
        ("ok", "run", "run"),
        ("ok", "llm", "asked gpt-4o-mini"),
        ("ok", "tool", "tool get_weather"),
        ("failed", "tool", "tool search"),
        ("ok", "llm", "asked gpt-4o-mini"),
        ("failed", "map", "map classify: 20 of 21 done, 1 failed"),
        ("ok", "map", "map lambda: 30 of 30 done"),
        ("ok", "llm", "30 x asked gpt-4o-mini"),
    ]
    assert "812 tokens in, 40 out, $0.00015, wants get_weather, search" in text
    assert "TimeoutError: no answer" in text

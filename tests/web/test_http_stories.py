"""Journals by HTTP: in pages, as a story, and as they grow."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
from support.cluster import Cluster
from support.waiting import until_sync
from web_kit import Api, ended, problem

from agnt5.store import keys


@dataclass
class Told:
    """One Server-Sent Event."""

    event: str = ""
    id: str = ""
    data: dict | None = None


def events_of(response: httpx.Response) -> Iterator[Told]:
    told = Told()
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if not line and told.event:
            yield told
            told = Told()
        elif name == "event":
            told.event = value
        elif name == "id":
            told.id = value
        elif name == "data":
            told.data = json.loads(value)


@contextmanager
def following(client: httpx.Client, run_id: str, last: str | None = None, **params):
    headers = {"Last-Event-ID": last} if last else {}
    with client.stream("GET", f"/runs/{run_id}/events", headers=headers, params=params) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events_of(response)


def begin(client: httpx.Client, handler: str, value: dict) -> str:
    return client.post("/runs", json={"handler": f"web_shop.{handler}", "input": value}).json()["id"]


def listeners(cluster: Cluster, run_id: str) -> int:
    return int(cluster.admin.pubsub_numsub(keys.done_channel(run_id))[0][1])


def test_a_stream_tells_each_event_and_the_end(ann, cluster: Cluster):
    run_id = begin(ann, "trip", {"to": "Rome"})
    with following(ann, run_id) as events:
        seen = []
        for told in events:
            seen.append(told)
            if told.event == "SignalAwaited":
                ann.post(f"/runs/{run_id}/signals/go", json={"payload": {"by": "ann"}})
    assert seen[-1].event == "end"
    assert seen[-1].data == {"id": run_id, "status": "completed"}
    journal = cluster.client.history(run_id)
    assert [told.event for told in seen[:-1]] == [type(event).__name__ for event in journal]
    assert [told.id for told in seen[:-1]] == [f"0.{at}" for at in range(len(journal))]
    assert seen[0].data["data"]["input"] == {"to": "Rome"}
    assert seen[-2].data["place"] == seen[-2].id


def test_a_stream_goes_on_where_it_was_lost(ann):
    run_id = begin(ann, "trip", {"to": "Rome"})
    with following(ann, run_id) as events:
        first = [next(events), next(events)]
    ann.post(f"/runs/{run_id}/signals/go", json={"payload": 1})
    ended(ann, run_id)
    with following(ann, run_id, last=first[-1].id) as events:
        rest = list(events)
    history = ann.get(f"/runs/{run_id}/history").json()
    assert [one.id for one in first + rest[:-1]] == [event["place"] for event in history["events"]]
    assert rest[-1].event == "end"
    known = ann.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": rest[-2].id})
    assert known.status_code == 204
    with following(ann, run_id, after=rest[-2].id) as events:  # who asks on purpose is told the end again
        assert [one.event for one in events] == ["end"]


def test_a_stream_and_pages_go_on_over_generations(ann, cluster: Cluster):
    run_id = begin(ann, "rounds", {"left": 2})
    with following(ann, run_id) as events:
        seen = []
        for told in events:
            seen.append(told)
            if told.event == "SignalAwaited":
                ann.post(f"/runs/{run_id}/signals/next")
    places = [told.id for told in seen[:-1]]
    assert {place.partition(".")[0] for place in places} == {"0", "1", "2"}
    assert [told.event for told in seen].count("RunStarted") == 3
    paged, after, more = [], "0.0", True
    while more:
        page = ann.get(f"/runs/{run_id}/history", params={"after": after, "limit": 2}).json()
        paged += [event["place"] for event in page["events"]]
        assert page["events"]
        after, more = page["last"], page["more"]
    assert ["0.0", *paged] == places
    assert ann.get(f"/runs/{run_id}/history").json()["events"][0]["place"] == "2.0"


def test_the_end_comes_at_once(ann):
    run_id = begin(ann, "trip", {"to": "Rome"})
    with following(ann, run_id) as events:
        until_sync(lambda: next(events).event == "SignalAwaited", 15)
        ann.post(f"/runs/{run_id}/signals/go")
        begun = time.monotonic()
        assert [told.event for told in events][-1] == "end"
    assert time.monotonic() - begun < 2


def test_a_reader_that_leaves_frees_what_it_held(ann, cluster: Cluster):
    run_id = begin(ann, "trip", {"to": "Rome"})
    with following(ann, run_id) as events:
        next(events)
        until_sync(lambda: listeners(cluster, run_id) == 1)
        with following(ann, run_id) as others:
            next(others)
        with following(ann, run_id) as others:  # one that left does not take the rest along
            assert next(others).event == "RunStarted"
            assert listeners(cluster, run_id) == 1
    until_sync(lambda: listeners(cluster, run_id) == 0, 10)


def test_a_stream_does_not_hold_up_the_end_of_the_server(cluster: Cluster):
    with Api(cluster.server.url) as api, api.client() as client:
        run_id = begin(client, "trip", {"to": "Rome"})
        with following(client, run_id) as events:
            next(events)
            begun = time.monotonic()
            api.end()
            assert time.monotonic() - begun < 5


def test_a_story_is_told(ann):
    run_id = begin(ann, "trip", {"to": "Rome"})

    def told() -> list[dict]:
        return ann.get(f"/runs/{run_id}/timeline", params={"fold": True}).json()["moments"]

    until_sync(lambda: [moment["kind"] for moment in told()][-2:] == ["task", "signal"], 15)
    moments = told()
    assert moments[-1]["outcome"] == "open"
    assert moments[-1]["spent"] is None
    assert ann.get(f"/runs/{run_id}/timeline").json()["spent"]["answers"] == 0


@pytest.mark.parametrize("what", ["history", "timeline", "events"])
def test_a_story_of_no_run_is_a_problem(ann, what):
    problem(ann.get(f"/runs/{uuid.uuid4()}/{what}"), 404, "run-not-found")


@pytest.mark.parametrize("place", ["x", "1", "0.-1", "0.1.2", "9999999999.1"])
def test_a_wrong_place_is_a_problem(ann, place):
    run_id = begin(ann, "add", {"a": 1})
    problem(ann.get(f"/runs/{run_id}/history", params={"after": place}), 422)
    problem(ann.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": place}), 422)


def test_a_place_that_is_not_there_counts_as_the_end(ann):
    run_id = begin(ann, "add", {"a": 1})
    ended(ann, run_id)
    for place in ("0.500", "7.0"):
        assert ann.get(f"/runs/{run_id}/history", params={"after": place}).json()["events"] == []
        assert ann.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": place}).status_code == 204

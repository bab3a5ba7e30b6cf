"""Streams by HTTP: as they grow, from where they were lost, over a second attempt, with the end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from support.cluster import Cluster
from support.waiting import until_sync
from test_http_stories import Told, begin, events_of
from web_kit import ended, problem

from agnt5.store import keys


@contextmanager
def reading(client: httpx.Client, run_id: str, last: str | None = None, **params) -> Iterator[Iterator[Told]]:
    headers = {"Last-Event-ID": last} if last else {}
    with client.stream("GET", f"/runs/{run_id}/stream", headers=headers, params=params) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events_of(response)


@pytest.fixture
def word() -> str:
    return uuid.uuid4().hex


def lines(attempt: int, count: int) -> list[tuple]:
    return [("chunk", f"{attempt + 1}-{n + 1}", {"attempt": attempt, "line": n}) for n in range(count)]


def plain(events) -> list[tuple]:
    return [(told.event, told.id, told.data) for told in events]


def test_chunks_come_while_the_run_goes_on_and_then_its_end(ann, cluster: Cluster, word: str):
    run_id = begin(ann, "lines", {"word": word, "count": 4})
    with reading(ann, run_id) as events:
        first = plain([next(events), next(events)])
        assert ann.get(f"/runs/{run_id}").json()["status"] == "running"
        (cluster.notes / word).write_text("go\n")
        rest = plain(events)
    assert first + rest[:-1] == lines(0, 4)
    assert rest[-1] == ("end", "1-4", {"id": run_id, "status": "completed"})


def test_a_reader_goes_on_where_it_was_lost(ann, cluster: Cluster, word: str):
    run_id = begin(ann, "lines", {"word": word, "count": 6})
    with reading(ann, run_id) as events:
        assert plain([next(events)]) == lines(0, 1)
    (cluster.notes / word).write_text("go\n")
    ended(ann, run_id)
    with reading(ann, run_id, last="1-1") as events:
        assert plain(events)[:-1] == lines(0, 6)[1:]
    assert ann.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": "1-6"}).status_code == 204
    with reading(ann, run_id, after="1-6") as events:  # who asks on purpose is told the end again
        assert [one.event for one in events] == ["end"]
    until_sync(lambda: cluster.admin.pubsub_numsub(keys.out_channel(run_id))[0][1] == 0, 10)


def test_a_second_attempt_begins_with_a_reset_and_a_failure_is_told(ann, cluster: Cluster, word: str):
    run_id = begin(ann, "lines", {"word": word, "count": 2, "fails": 2})
    with reading(ann, run_id) as events:
        seen = [next(events)]
        (cluster.notes / word).write_text("go\n")
        seen += events
    reset = ("reset", "2-0", {"claim": 2})
    error = {"type": "ValueError", "message": "this is broken"}
    end = ("end", "2-1", {"id": run_id, "status": "failed", "error": error})
    assert plain(seen) == [*lines(0, 1), reset, *lines(1, 1), end]
    with reading(ann, run_id, last="1-1") as events:  # it had been away meanwhile
        assert plain(events) == [reset, *lines(1, 1), end]
    with reading(ann, run_id) as events:
        assert plain(events) == [*lines(1, 1), end]
    assert ann.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": "2-1"}).status_code == 204


def test_a_run_that_yields_nothing_has_an_end(ann):
    run_id = begin(ann, "add", {"a": 1})
    with reading(ann, run_id) as events:
        assert plain(events) == [("end", "0-0", {"id": run_id, "status": "completed"})]
    assert ann.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": "0-0"}).status_code == 204


def test_what_cannot_be_read_is_a_problem(ann):
    problem(ann.get(f"/runs/{uuid.uuid4()}/stream"), 404, "run-not-found")
    run_id = begin(ann, "add", {"a": 1})
    for place in ("x", "1", "1.1", "1-2-3", "-1-1"):
        problem(ann.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": place}), 422)

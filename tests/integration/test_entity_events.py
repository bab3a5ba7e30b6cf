"""What Celery's watchers see of calls that are handed on without a message: the same as of any task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery_events import hearing
from support.cluster import Cluster
from support.waiting import until_sync

HERE = Path(__file__).parent


@pytest.fixture(params=[None, "prefork"], ids=lambda pool: pool or "ours")
def cluster(request) -> Iterator[Cluster]:
    with Cluster(["entity_kit"], paths=[HERE]) as cluster:
        options = [] if request.param is None else ["-E"]
        concurrency = None if request.param is None else 2
        worker = cluster.worker("w1", *options, pool=request.param, concurrency=concurrency)
        yield cluster.start(worker, cluster.beat())


@pytest.fixture
def events(cluster) -> Iterator[dict[str, list[dict]]]:
    """All task events by run, as they come."""
    seen: dict[str, list[dict]] = defaultdict(list)

    def take(event: dict) -> None:
        if event["type"].startswith("task-"):
            seen[event["uuid"]].append(event)
        else:
            seen["heartbeat"].append(event)

    with hearing(cluster, take):
        until_sync(lambda: "heartbeat" in seen, 20.0, "events arrive")
        yield seen


def test_each_call_of_a_line_is_a_task_that_is_received_started_and_succeeds(cluster, events):
    first = cluster.client.start("Counter.add_slowly", {"amount": 1, "seconds": 1}, key="seen")
    until_sync(lambda: "seen 1 begins" in cluster.noted("slow"), 20.0)
    runs = [cluster.client.start("Counter.add", {"amount": 1}, key="seen") for _ in range(20)]
    assert [run.result(timeout=30) for run in (first, *runs)] == list(range(1, 22))
    for run in runs:
        until_sync(lambda run=run: len(events[run.id]) >= 3, 20.0, f"events of {run.id}")
        kinds = [event["type"] for event in sorted(events[run.id], key=lambda event: event["clock"])]
        assert kinds == ["task-received", "task-started", "task-succeeded"], kinds
        received, _, succeeded = sorted(events[run.id], key=lambda event: event["clock"])
        assert (received["name"], received["kwargs"]) == ("Counter.add", "{'amount': 1}")
        assert succeeded["result"] == str(run.result(timeout=1))

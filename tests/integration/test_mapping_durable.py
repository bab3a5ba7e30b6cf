"""ctx.map on a real worker with a single slot: bounded, live, and nothing done twice once it is recorded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mapped import SLOW
from support.cluster import ROOT, Cluster
from support.waiting import until_sync

from agnt5.client.moments import collapse
from agnt5.client.timeline import timeline
from agnt5.replay import events as ev

MODULE, STARTING = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "batches.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["mapped", "mail"], paths=[Path(__file__).parent]) as cluster:
        (cluster.folder / "mail.py").write_text(MODULE)
        yield cluster.start(cluster.worker(concurrency=1), cluster.beat())


def told(cluster: Cluster, run_id: str) -> str:
    """What the timeline says of the run's map."""
    maps = [moment.what for moment in timeline(cluster.client.history(run_id)) if moment.kind == "map"]
    return maps[-1] if maps else ""


def most_open(events: list[ev.Event]) -> int:
    """How many children were open at once, by the journal."""
    open_now, most = set(), 0
    for event in events:
        if isinstance(event, ev.TaskScheduled):
            open_now.add(event.seq)
        elif isinstance(event, ev.TaskCompleted):
            open_now.discard(event.seq)
        most = max(most, len(open_now))
    return most


def recorded(events: list[ev.Event]) -> set[int]:
    """The items of a slow map that are recorded as done."""
    items = {event.seq: int(event.id.split("map1.")[1].split(".")[0]) for event in scheduled(events)}
    ended = {items[event.seq] for event in events if isinstance(event, ev.TaskCompleted)}
    steps = (event for event in events if isinstance(event, ev.StepCompleted) and event.name == "fetch")
    return ended | {event.result for event in steps}


def scheduled(events: list[ev.Event]) -> list[ev.TaskScheduled]:
    return [event for event in events if isinstance(event, ev.TaskScheduled)]


def test_a_workflow_maps_in_order_with_a_bound(cluster: Cluster):
    run = cluster.client.start("mapped.flow", {"count": 60, "concurrency": 7})
    assert run.result(timeout=20) == [2 * n for n in range(60)]
    events = run.history()
    assert most_open(events) == 7
    (head,) = [moment for moment in collapse(timeline(events)) if moment.kind == "map"]
    assert (head.what, head.outcome, len(head.parts)) == ("map twice: 60 of 60 done", "ok", 60)
    cluster.sound()


def test_a_function_maps_five_hundred_children_though_the_worker_has_a_single_slot(cluster: Cluster):
    run = cluster.client.start("mapped.parent", {"count": 500, "concurrency": 20})
    assert run.result(timeout=30) == 2 * sum(range(500))
    assert most_open(run.history()) == 20


def test_errors_may_be_in_the_list(cluster: Cluster):
    run = cluster.client.start("mapped.tolerant")
    assert Counter(run.result(timeout=20)) == {"int": 9, "TaskFailedError": 1}
    assert told(cluster, run.id) == "map picky: 9 of 10 done, 1 failed"


def test_a_later_attempt_does_only_what_failed_and_what_was_not_begun(cluster: Cluster):
    run = cluster.client.start("mapped.second_time")
    until_sync(lambda: run.state().attempt == 1 or run.status().ended, 20)
    cluster.hurry(run.id)
    assert run.result(timeout=20) == list(range(5))
    assert Counter(map(int, cluster.noted("second-time"))) == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}


def test_the_code_of_the_guide_does_what_it_says(cluster: Cluster, monkeypatch, capsys):
    monkeypatch.setenv("AGNT5_REDIS_URL", cluster.server.url)
    exec(compile(STARTING, "docs/batches.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["['about Ada', 'about Bob']", "['about two', 'about four']", "250"]
    assert told(cluster, "mail-1") == "map classify: 2 of 2 done"


def test_the_worker_is_killed_in_the_middle_and_no_item_is_done_again_once_it_is_recorded(cluster: Cluster):
    client = cluster.client
    runs = {name: client.start(f"mapped.slow_{name}") for name in ("flow", "function")}
    until_sync(lambda: all(len(recorded(run.history())) >= 4 for run in runs.values()), 20)
    runs["calls"] = calls = client.start("mapped.slow_calls")  # has the slot until it ends: children wait meanwhile
    until_sync(lambda: len(recorded(calls.history())) >= 6, 20)
    cluster.nodes[0].kill()
    before = {name: recorded(run.history()) for name, run in runs.items()}
    assert all(len(done) < SLOW for done in before.values())
    cluster.nodes[0].restart()
    for name, run in runs.items():
        assert run.result(timeout=30) == [2 * n for n in range(SLOW)]
        done = Counter(map(int, cluster.noted(name)))
        assert {n for n in before[name] if done[n] > 1} == set()
        assert sum(done.values()) <= SLOW + 4  # what was open is done again, and it alone
        assert told(cluster, run.id).endswith(f"{SLOW} of {SLOW} done")
    cluster.sound()

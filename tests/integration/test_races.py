"""Things that happen at the same time: ends and cancels, signals and kills, timeouts and children."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.cluster import Cluster, figure
from support.waiting import until_sync

from agnt5 import RunCancelledError, RunEndedError, RunTimeoutError

ENDS = {"RunCompleted", "RunFailed", "RunCancelled"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["attacked"], paths=[Path(__file__).parent]) as cluster:
        yield cluster.start(cluster.worker("w1"), cluster.worker("w2"), cluster.beat())


def ends(run) -> list[str]:
    """The names of the events that end a run."""
    return [name for event in run.history() if (name := type(event).__name__) in ENDS]


def children_of(cluster: Cluster, run) -> list:
    """The runs that a run has started, as far as its journal tells."""
    ids = [event.id for event in run.history() if type(event).__name__ == "TaskScheduled"]
    return [cluster.client.get(child) for child in ids]


def test_of_a_cancel_and_a_completion_one_wins(cluster: Cluster):
    runs = cluster.client.start_many("attacked.racer", [{}] * 100)

    def race(run) -> str:
        both = threading.Barrier(2)

        def cancel() -> None:
            both.wait()
            try:
                run.cancel()
            except RunEndedError:
                pass

        thread = threading.Thread(target=cancel)
        thread.start()
        both.wait()
        try:
            run.signal("go")
        except RunEndedError:
            pass
        thread.join()
        try:
            return run.result(timeout=30)
        except RunCancelledError:
            return "cancelled"

    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(race, runs))
    assert set(results) <= {"arrived", "cancelled"}
    figure(f"{results.count('arrived')} of {len(results)} arrived")
    for run, result in zip(runs, results, strict=True):
        assert ends(run) == ["RunCompleted" if result == "arrived" else "RunCancelled"]
    cluster.sound()


def test_the_children_of_a_cancelled_run_end(cluster: Cluster):
    run = cluster.client.start("attacked.family")
    children = until_sync(lambda: len(found := children_of(cluster, run)) == 3 and found, 20)
    until_sync(lambda: all(child.status() in {"running", "waiting"} for child in children), 20)
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.result(timeout=20)
    for child in children:
        with pytest.raises(RunCancelledError):
            child.result(timeout=20)
    assert cluster.timers(children[2].id) == {}
    cluster.sound()


@pytest.mark.parametrize("parent", ["spawning_workflow", "spawning_function"])
def test_spawned_children_of_a_cancelled_run_end(cluster: Cluster, parent: str):
    run = cluster.client.start(f"attacked.{parent}")
    children = until_sync(lambda: len(found := children_of(cluster, run)) == 2 and found, 20)
    until_sync(lambda: all(child.status() in {"running", "waiting"} for child in children), 20)
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.result(timeout=20)
    for child in children:
        with pytest.raises(RunCancelledError):
            child.result(timeout=20)
    cluster.sound()


def test_the_children_of_a_run_that_ran_out_of_time_end(cluster: Cluster):
    run = cluster.client.start("attacked.late_family")
    children = until_sync(lambda: len(found := children_of(cluster, run)) == 2 and found, 20)
    with pytest.raises(RunTimeoutError, match="run timeout"):
        run.result(timeout=20)
    for child in children:
        with pytest.raises(RunCancelledError):
            child.result(timeout=20)
    cluster.sound()


def test_three_hundred_signals_come_once_and_in_order_while_workers_are_killed(cluster: Cluster):
    run = cluster.client.start("attacked.listener", {"count": 300})
    workers = cluster.nodes[:2]
    for number in range(300):
        if number in {100, 200}:
            workers[number // 100 - 1].kill()
        run.signal("item", number)
        if number in {150, 250}:
            workers[number // 100 - 1].restart()
    assert run.result(timeout=40) == list(range(300))
    cluster.sound()


def test_signals_of_many_senders_come_once_each(cluster: Cluster):
    run = cluster.client.start("attacked.listener", {"count": 200})

    def send(sender: int) -> None:
        for number in range(20):
            run.signal("item", [sender, number])

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(send, range(10)))
    got = run.result(timeout=30)
    for sender in range(10):
        assert [number for who, number in got if who == sender] == list(range(20))


def test_a_signal_with_an_operation_id_comes_once_however_often_it_is_sent(cluster: Cluster):
    run = cluster.client.start("attacked.listener", {"count": 2})
    for _ in range(5):
        cluster.client.signal(run.id, "item", "first", operation="op-1")
    cluster.client.signal(run.id, "item", "second", operation="op-2")
    assert run.result(timeout=20) == ["first", "second"]
    assert sum(type(event).__name__ == "SignalReceived" for event in run.history()) == 2


def test_fifty_retries_of_a_failed_run_open_it_once(cluster: Cluster):
    run = cluster.client.start("attacked.exits")
    with pytest.raises(Exception, match="SystemExit"):
        run.result(timeout=20)

    def retry(_: int) -> None:
        try:
            run.retry()
        except Exception as error:
            assert "only a failed run can be retried" in str(error)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(retry, range(10)))
    until_sync(lambda: run.status().ended, 20)
    reopened = [event for event in run.history() if type(event).__name__ == "RunReopened"]
    assert 1 <= len(reopened) <= 10
    assert len(ends(run)) == 1 + len(reopened)
    cluster.sound()

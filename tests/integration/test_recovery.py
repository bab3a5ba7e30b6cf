"""Workers and beats are killed in the middle of work: what was recorded stays, everything goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cluster import Cluster, Node, figure
from support.waiting import until_sync

from agnt5 import RunFailedError, WorkerLostError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["attacked"], paths=[HERE]) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.fixture
def worker(cluster: Cluster) -> Iterator[Node]:
    """A worker that runs; tests may kill it."""
    node = cluster.nodes[0]
    if not node.alive:
        node.start()
    return node


@pytest.fixture
def beat(cluster: Cluster) -> Node:
    """A beat that runs; tests may kill it."""
    node = cluster.nodes[1]
    if not node.alive:
        node.start()
    return node


@contextmanager
def supervised(node: Node) -> Iterator[list[float]]:
    """Start the node again whenever it dies, as systemd or Kubernetes would; gives the times of its deaths."""
    deaths: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            if not node.alive:
                deaths.append(time.monotonic())
                node.spawn()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield deaths
    finally:
        done.set()
        thread.join()
        node.wait_ready()


def took(since_s: float, what: str) -> float:
    """Print how long something took, for the record."""
    took_s = time.monotonic() - since_s
    figure(f"{what}: {took_s:.2f} s")
    return took_s


# ---- kill -9 of a worker


def test_a_workflow_goes_on_within_seconds_of_its_workers_restart(cluster: Cluster, worker: Node):
    run = cluster.client.start("attacked.journey", {"legs": 3})
    until_sync(lambda: _last(run) == "SignalAwaited", 20)
    worker.kill()
    run.signal("arrive", "here")
    worker.restart()
    since_s = time.monotonic()
    assert run.result(timeout=20) == [0, "stamp 0", 1, "stamp 1", 2, "stamp 2", "here", 3]
    assert took(since_s, "workflow, from the worker's readiness to the result") < 4
    mine = [line for line in cluster.noted("stamps") if line.startswith(run.id)]
    assert mine == [f"{run.id} {leg}" for leg in range(3)]
    assert set(Counter(line for line in cluster.noted("travels") if line.startswith(run.id)).values()) == {1}
    cluster.sound()


def test_a_workflow_killed_in_a_hurry_repeats_nothing_that_was_recorded(cluster: Cluster, worker: Node):
    """The kills come at any moment. A step may run once more for each kill, a recorded one never."""
    with supervised(worker) as deaths:
        run = cluster.client.start("attacked.journey", {"legs": 30})
        for _ in range(3):
            seen = len(run.history())
            until_sync(lambda seen=seen: len(run.history()) > seen + 6, 20)
            worker.signal(9)
            known = len(deaths)
            until_sync(lambda known=known: len(deaths) > known, 20)
        run.signal("arrive", "here")
        result = run.result(timeout=30)
    assert result[-2:] == ["here", 30]
    stamps = Counter(line for line in cluster.noted("stamps") if line.startswith(run.id))
    assert len(stamps) == 30
    assert sum(stamps.values()) <= 30 + 3
    results = [event.result for event in run.history() if type(event).__name__ == "StepCompleted"]
    assert results == [f"stamp {leg}" for leg in range(30)]
    cluster.sound()


def test_a_function_is_tried_again_within_seconds_and_gets_its_steps_back(cluster: Cluster, worker: Node):
    run = cluster.client.start("attacked.two_steps")
    until_sync(lambda: "0" in cluster.noted("second"), 20)
    worker.kill()
    worker.restart()
    since_s = time.monotonic()
    assert run.result(timeout=20) == ["one", "two", 1]
    assert took(since_s, "function, from the worker's readiness to the result") < 4
    assert len(cluster.noted("first")) == 1
    cluster.sound()


def test_another_worker_takes_over_when_none_comes_back(cluster: Cluster, worker: Node):
    run = cluster.client.start("attacked.patient", {"name": "other"})
    workflow = cluster.client.start("attacked.journey", {"legs": 1})
    until_sync(lambda: f"other 0 {worker.pid}" in cluster.noted("patients") and workflow.status() == "waiting", 20)
    other = cluster.worker("w2").start()
    worker.kill()
    since_s = time.monotonic()
    (cluster.notes / "other").touch()
    workflow.signal("arrive", "there")
    assert run.result(timeout=20) == {"attempt": 1, "pid": other.pid}
    assert workflow.result(timeout=20) == [0, "stamp 0", "there", 1]
    assert took(since_s, "take-over by another worker, from the kill to the results") < 10
    worker.restart()
    other.terminate()
    cluster.remove(other)
    cluster.sound()


def test_a_run_that_kills_its_workers_fails_and_the_others_complete(cluster: Cluster, worker: Node):
    with supervised(worker) as deaths:
        others = cluster.client.start_many("attacked.innocent", [{"number": n} for n in range(30)])
        guilty = cluster.client.start("attacked.poison")
        with pytest.raises(WorkerLostError, match="worker died"):
            guilty.result(timeout=60)
        assert [run.result(timeout=60) for run in others] == list(range(30))
    assert len(deaths) == len(cluster.noted("poisoned"))
    assert 3 <= len(deaths) <= 4
    cluster.sound()


@pytest.mark.parametrize(
    "handler",
    [
        "exits",
        "exits_in_a_thread",
        "exits_in_a_step",
        "exiting_workflow",
        "exiting_step_of_a_workflow",
        "interrupts",
    ],
)
def test_a_handler_that_exits_ends_its_run_and_not_its_worker(cluster: Cluster, worker: Node, handler: str):
    bystander = cluster.client.start("attacked.waiter")
    run = cluster.client.start(f"attacked.{handler}")
    with pytest.raises(RunFailedError) as failed:
        run.result(timeout=10)
    assert failed.value.type in {"SystemExit", "KeyboardInterrupt"}
    bystander.signal("go", "still here")
    assert bystander.result(timeout=10) == "still here"
    assert worker.alive


# ---- kill -9 of beat


def test_timers_that_fell_due_without_a_beat_fire_when_one_is_back(cluster: Cluster, worker: Node, beat: Node):
    beat.kill()
    runs = cluster.client.start_many("attacked.sleeper", [{"ms": 200}] * 200)
    dues = [cluster.one_timer(run.id) for run in runs]
    until_sync(lambda: cluster.now_ms() > max(dues) + 200)
    assert {run.status() for run in runs} <= {"waiting"}
    beat.restart()
    since_s = time.monotonic()
    assert min(run.result(timeout=20) for run in runs) >= 200
    assert took(since_s, "200 overdue timers, from beat's readiness to the results") < 8
    assert {_fired(run) for run in runs} == {1}
    cluster.sound()


def test_two_beats_fire_each_timer_once(cluster: Cluster, worker: Node, beat: Node):
    second = cluster.beat("beat2").start()
    runs = cluster.client.start_many("attacked.sleeper", [{"ms": 300 + n % 100} for n in range(300)])
    slept = [run.result(timeout=30) for run in runs]
    assert all(slept[n] >= 300 + n % 100 for n in range(300))
    assert {_fired(run) for run in runs} == {1}
    second.terminate()
    cluster.remove(second)
    cluster.sound()


def _last(run) -> str:
    return type(run.history()[-1]).__name__


def _fired(run) -> int:
    return sum(type(event).__name__ == "TimerFired" for event in run.history())

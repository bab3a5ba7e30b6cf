"""What beat picks up: hosts that look dead, messages that got lost or doubled, backlogs that are only long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster, Node, figure
from support.waiting import until_sync

from agnt5.replay.events import SignalAwaited

HERE = Path(__file__).parent

SHORT = {
    "AGNT5_HEARTBEAT": "200ms",
    "AGNT5_LIVENESS_TIMEOUT": "1500ms",
    "AGNT5_PROBE_AFTER": "1s",
    "AGNT5_OVERTAKE_SLACK": "500ms",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["attacked"], paths=[HERE], **SHORT) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.fixture
def worker(cluster: Cluster) -> Node:
    """A worker that runs; tests may stop it."""
    node = cluster.nodes[0]
    if not node.alive:
        node.start()
    return node


# ---- a host that only looks dead


def test_a_frozen_worker_comes_back_to_find_its_runs_taken_and_changes_nothing(cluster: Cluster, worker: Node):
    function = cluster.client.start("attacked.patient", {"name": "frozen"})
    workflow = cluster.client.start("attacked.journey", {"legs": 1})
    until_sync(lambda: f"frozen 0 {worker.pid}" in cluster.noted("patients") and workflow.status() == "waiting", 20)
    other = cluster.worker("w2").start()
    worker.freeze()
    until_sync(lambda: f"frozen 1 {other.pid}" in cluster.noted("patients"), 20)
    (cluster.notes / "frozen").touch()
    workflow.signal("arrive", "there")
    results = function.result(timeout=20), workflow.result(timeout=20)
    worker.thaw()
    # by its next write or by its next heartbeat, whichever comes first
    learnt = ("another worker owns it now", "was taken over while this worker looked dead")
    until_sync(lambda: any(text in worker.output() for text in learnt), 10)
    assert results == ({"attempt": 1, "pid": other.pid}, [0, "stamp 0", "there", 1])
    assert (function.result(), workflow.result()) == results
    for run in (function, workflow):
        ends = [event for event in run.history() if type(event).__name__ == "RunCompleted"]
        assert len(ends) == 1
    # and it is as good as any other again
    other.terminate()
    cluster.remove(other)
    assert cluster.client.start("attacked.single", {"number": 5}).result(timeout=20) == 5
    cluster.sound()


def test_a_handler_that_blocks_its_loop_is_not_taken_for_dead(cluster: Cluster, worker: Node):
    assert cluster.client.start("attacked.blocks_the_loop", {"seconds": 3.5}).result(timeout=20) == 0
    assert cluster.noted("blockers") == ["0"]


def test_an_outage_of_redis_reaps_nobody(cluster: Cluster, worker: Node):
    """Beat is back before the worker is: it must not take the worker's silence in the outage for its death."""
    run = cluster.client.start("attacked.patient", {"name": "outage"})
    until_sync(lambda: f"outage 0 {worker.pid}" in cluster.noted("patients"), 20)
    cluster.server.pause()
    worker.freeze()
    passes(3.0)  # twice the liveness timeout
    cluster.server.resume()
    passes(0.7)  # in which beat looks around
    worker.thaw()
    (cluster.notes / "outage").touch()
    assert run.result(timeout=20) == {"attempt": 0, "pid": worker.pid}


def passes(seconds: float) -> None:
    """Let time pass, as the fault that is tested lasts so long."""
    end_s = time.monotonic() + seconds
    until_sync(lambda: time.monotonic() > end_s, seconds + 1)


# ---- messages


def queued_without_workers(cluster: Cluster, handler: str, count: int) -> list:
    """Start runs, and wait until each has its message in the broker."""
    assert cluster.messages("attacked") == 0
    runs = cluster.client.start_many(handler, [{"number": n} for n in range(count)])
    until_sync(lambda: cluster.messages("attacked") >= count)
    return runs


def lists(cluster: Cluster) -> list[bytes]:
    """The broker's lists of the service."""
    return [key for key in cluster.admin.keys("agnt5.attacked*") if cluster.admin.type(key) == b"list"]


def test_runs_whose_messages_were_lost_are_asked_for_again(cluster: Cluster, worker: Node):
    worker.terminate()
    runs = queued_without_workers(cluster, "attacked.single", 40)
    cluster.admin.delete(*lists(cluster))
    worker.restart()
    began_s = time.monotonic()
    assert [run.result(timeout=90) for run in runs] == list(range(40))
    figure(f"40 lost messages were made up for in {time.monotonic() - began_s:.1f} s")
    mine = Counter(line for line in cluster.noted("singles") if line in {run.id for run in runs})
    assert set(mine.values()) == {1}
    assert time.monotonic() - began_s < 15
    cluster.sound()


def test_new_runs_show_that_older_ones_were_lost(cluster: Cluster, worker: Node):
    worker.terminate()
    lost = queued_without_workers(cluster, "attacked.errand", 40)
    cluster.admin.delete(*lists(cluster))
    worker.restart()
    until_sync(lambda: cluster.client.start("attacked.single").result(timeout=20) == 0)
    assert [run.result(timeout=15) for run in lost] == [10 * n for n in range(40)]
    cluster.sound()


def test_doubled_and_reordered_messages_do_no_harm(cluster: Cluster, worker: Node):
    worker.terminate()
    runs = queued_without_workers(cluster, "attacked.errand", 50)
    (queue,) = lists(cluster)
    messages = cluster.admin.lrange(queue, 0, -1)
    cluster.admin.rpush(queue, *messages)
    cluster.admin.lpush(queue, *messages[::-1])
    worker.restart()
    assert [run.result(timeout=30) for run in runs] == [10 * n for n in range(50)]
    roots = {run.id for run in runs}
    sames = Counter(line for line in cluster.noted("sames") if line.partition("~")[0] in roots)
    assert len(sames) == 150
    assert set(sames.values()) == {1}
    cluster.sound()


def test_a_backlog_that_only_waits_is_not_multiplied(cluster: Cluster, worker: Node):
    worker.terminate()
    began_s = time.monotonic()
    runs = queued_without_workers(cluster, "attacked.single", 300)
    # the oldest has been probed twice, so that the rule has been looked at more than a few times
    until_sync(lambda: sum(int(cluster.field(run.id, "sends") or 0) for run in runs) >= 2, 20)
    probes = 1 + int(time.monotonic() - began_s)
    figure(f"300 queued runs: {cluster.messages('attacked')} messages after {probes} looks")
    assert 300 < cluster.messages("attacked") <= 300 + probes
    worker.restart()
    assert [run.result(timeout=30) for run in runs] == list(range(300))
    mine = Counter(line for line in cluster.noted("singles") if line in {run.id for run in runs})
    assert set(mine.values()) == {1}
    resent = sum(int(cluster.field(run.id, "sends") or 0) for run in runs)
    assert resent <= 2 + int(time.monotonic() - began_s)
    cluster.sound()


# ---- warm shutdown


def test_a_warm_shutdown_parks_workflows_and_lets_functions_finish(cluster: Cluster, worker: Node):
    workflow = cluster.client.start("attacked.journey", {"legs": 1})
    function = cluster.client.start("attacked.patient", {"name": "finishing"})
    until_sync(lambda: f"finishing 0 {worker.pid}" in cluster.noted("patients"), 20)
    # it waits for the signal, not for its first task: the end of that would queue it again
    until_sync(lambda: isinstance(workflow.history()[-1], SignalAwaited) and workflow.status() == "waiting", 20)
    pid = worker.pid
    worker.signal(15)
    until_sync(lambda: workflow.state().host is None, 20)
    assert worker.alive
    (cluster.notes / "finishing").touch()
    assert worker.wait_end(20) == 0
    assert function.result(timeout=5) == {"attempt": 0, "pid": pid}
    assert workflow.status() == "waiting"
    workflow.signal("arrive", "later")
    worker.restart()
    assert workflow.result(timeout=20)[-2:] == ["later", 1]
    assert workflow.state().attempt == 0
    cluster.sound()


def test_a_warm_shutdown_hands_back_what_does_not_finish_and_this_costs_no_retry(cluster: Cluster, worker: Node):
    worker.terminate()
    hasty = cluster.worker("hasty", AGNT5_SHUTDOWN_GRACE="300ms").start()
    run = cluster.client.start("attacked.patient", {"name": "handed"})
    until_sync(lambda: f"handed 0 {hasty.pid}" in cluster.noted("patients"), 20)
    hasty.terminate()
    cluster.remove(hasty)
    assert run.status() == "queued"
    (cluster.notes / "handed").touch()
    worker.restart()
    assert run.result(timeout=20) == {"attempt": 0, "pid": worker.pid}
    cluster.sound()

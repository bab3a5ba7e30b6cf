"""Every Celery pool executes everything, with a single slot: what waits never holds what others need."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.waiting import until_sync

from agnt5 import RunCancelledError, TaskFailedError


@pytest.fixture(scope="module", params=["agnt5", "threads", "prefork", "solo"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    pool = None if request.param == "agnt5" else request.param
    with Cluster(["attacked"], paths=[Path(__file__).parent]) as cluster:
        yield cluster.start(cluster.worker(pool=pool, concurrency=1, AGNT5_SHUTDOWN_GRACE="200ms"), cluster.beat())


def test_the_pool_is_the_one_that_was_asked_for(cluster: Cluster, request: pytest.FixtureRequest):
    asked = request.node.callspec.params["cluster"]
    shown = {"agnt5": "pool", "threads": "thread", "prefork": "prefork", "solo": "solo"}[asked]
    assert f"concurrency: 1 ({shown})" in cluster.nodes[0].output()


def test_a_workflow_with_tasks_timers_retries_and_steps(cluster: Cluster):
    runs = [cluster.client.start("attacked.mixture") for _ in range(3)]
    for run in runs:
        assert run.result(timeout=40) == [2, 2, 0, 1, 2, 3, 4, "step"]
    cluster.sound()


def test_a_function_that_waits_for_its_children_does_not_keep_them_from_running(cluster: Cluster):
    run = cluster.client.start("attacked.parent", {"children": 4})
    assert run.result(timeout=40) == [2, 1, 2, 3]


def test_nor_does_one_that_waits_for_its_grandchildren(cluster: Cluster):
    runs = [cluster.client.start("attacked.grandparent") for _ in range(2)]
    for run in runs:
        assert run.result(timeout=40) == [[2, 1], [2]]
    cluster.sound()


def test_attempts_follow_each_other(cluster: Cluster):
    run = cluster.client.start("attacked.third_time")
    assert run.result(timeout=40) == 2
    assert run.state().attempt == 2


def test_a_waiting_workflow_holds_no_slot(cluster: Cluster):
    waiters = [cluster.client.start("attacked.waiter") for _ in range(20)]
    until_sync(lambda: all(run.status() == "waiting" for run in waiters), 40)
    assert cluster.client.start("attacked.single", {"number": 7}).result(timeout=20) == 7
    for at, run in enumerate(waiters):
        run.signal("go", at)
    assert [run.result(timeout=40) for run in waiters] == list(range(20))


def test_a_workflow_that_waits_is_cancelled(cluster: Cluster):
    run = cluster.client.start("attacked.waiter")
    until_sync(lambda: run.status() == "waiting", 20)
    run.cancel("enough")
    with pytest.raises(RunCancelledError, match="enough"):
        run.result(timeout=20)
    cluster.sound()


def test_a_function_that_runs_is_cancelled(cluster: Cluster):
    run = cluster.client.start("attacked.patient", {"name": "never"})
    until_sync(lambda: any(line.startswith("never 0") for line in cluster.noted("patients")), 20)
    run.cancel("enough")
    with pytest.raises(RunCancelledError, match="enough"):
        run.result(timeout=20)
    assert cluster.client.start("attacked.single", {"number": 7}).result(timeout=20) == 7
    cluster.sound()


def test_a_plain_celery_program_revokes_a_run(cluster: Cluster):
    run = cluster.client.start("attacked.waiter")
    until_sync(lambda: run.status() == "waiting", 20)
    cluster.celery.control.revoke(run.id, terminate=True)
    with pytest.raises(RunCancelledError, match="revoked"):
        run.result(timeout=20)


def test_what_a_worker_does_can_be_asked_for(cluster: Cluster):
    run = cluster.client.start("attacked.patient", {"name": "asked"})
    until_sync(lambda: any(line.startswith("asked 0") for line in cluster.noted("patients")), 20)
    if "solo" not in cluster.nodes[0].output():  # a solo worker answers nothing while it works
        (tasks,) = cluster.celery.control.inspect(timeout=5, limit=1).active().values()
        assert [task["id"] for task in tasks] == [run.id]
    (cluster.notes / "asked").touch()
    assert run.result(timeout=20)["attempt"] == 0


def test_a_handler_that_exits_ends_its_run_and_not_its_worker(cluster: Cluster):
    run = cluster.client.start("attacked.exits")
    with pytest.raises(TaskFailedError, match="SystemExit"):
        run.result(timeout=20)
    assert cluster.client.start("attacked.single", {"number": 7}).result(timeout=20) == 7


def test_a_warm_shutdown_ends_the_worker_and_a_restart_goes_on(cluster: Cluster):
    worker = cluster.nodes[0]
    run = cluster.client.start("attacked.waiter")
    until_sync(lambda: run.status() == "waiting", 20)
    stands = cluster.client.start("attacked.stands", {"name": "warm"})
    until_sync(lambda: any(line.startswith("warm 0") for line in cluster.noted("patients")), 20)
    worker.terminate()
    assert worker.exit_code == 0
    assert "Traceback" not in worker.output().partition("Warm shutdown")[2]
    assert stands.state().host is None, "blocking code keeps neither its run nor its process"
    (cluster.notes / "warm").touch()
    run.signal("go", "on")
    worker.restart()
    assert run.result(timeout=20) == "on"
    assert stands.result(timeout=20)["attempt"] == 0, "it costs no retry"
    cluster.sound()


def test_a_cold_shutdown_gives_everything_back_at_once(cluster: Cluster):
    worker = cluster.nodes[0]
    waits = cluster.client.start("attacked.waiter")
    works = cluster.client.start("attacked.patient", {"name": "cold"})
    until_sync(
        lambda: waits.status() == "waiting" and any(line.startswith("cold 0") for line in cluster.noted("patients")), 20
    )
    worker.signal(signal.SIGQUIT)
    worker.wait_end()
    assert "Traceback" not in worker.output()
    assert {run.state().host for run in (waits, works)} == {None}
    (cluster.notes / "cold").touch()
    waits.signal("go", "on")
    worker.restart()
    assert waits.result(timeout=20) == "on"
    assert works.result(timeout=20)["attempt"] == 0, "it costs no retry, and no beat had to find it"
    cluster.sound()


def test_a_killed_child_of_a_prefork_worker_is_made_up_for(cluster: Cluster):
    if "(prefork)" not in cluster.nodes[0].output():
        pytest.skip("this pool has no children")
    run = cluster.client.start("attacked.patient", {"name": "child"})
    (line,) = until_sync(lambda: [line for line in cluster.noted("patients") if line.startswith("child 0")], 20)
    child = int(line.split()[2])
    assert child != cluster.nodes[0].pid
    os.kill(child, signal.SIGKILL)
    (cluster.notes / "child").touch()
    result = run.result(timeout=30)
    assert (result["attempt"], result["pid"] != child) == (1, True)
    cluster.sound()


@pytest.mark.chaos  # long
def test_children_that_end_after_each_task_hand_on_what_waits():
    with Cluster(["attacked"], paths=[Path(__file__).parent]) as cluster:
        options = "--max-tasks-per-child", "1"
        cluster.start(cluster.worker("w1", *options, pool="prefork", concurrency=2), cluster.beat())
        run = cluster.client.start("attacked.mixture")
        parent = cluster.client.start("attacked.grandparent")
        assert run.result(timeout=60) == [2, 2, 0, 1, 2, 3, 4, "step"]
        assert parent.result(timeout=60) == [[2, 1], [2]]
        cluster.sound()


@pytest.mark.chaos  # long
@pytest.mark.parametrize("pool", [None, "threads", "prefork", "solo"])
def test_a_worker_stops_while_redis_is_away(pool: str | None):
    with Cluster(["attacked"], paths=[Path(__file__).parent]) as cluster:
        worker = cluster.worker(pool=pool, concurrency=1, AGNT5_SHUTDOWN_GRACE="200ms")
        cluster.start(worker, cluster.beat())
        run = cluster.client.start("attacked.stands", {"name": "away"})
        until_sync(lambda: any(line.startswith("away 0") for line in cluster.noted("patients")), 20)
        cluster.server.kill()
        worker.terminate()
        assert worker.exit_code == 0
        (cluster.notes / "away").touch()
        cluster.server.restart()
        worker.restart()
        run.result(timeout=40)
        cluster.sound()


def test_a_killed_worker_is_made_up_for(cluster: Cluster):
    worker = cluster.nodes[0]
    run = cluster.client.start("attacked.two_steps")
    until_sync(lambda: cluster.noted("second"), 20)
    worker.kill()
    worker.restart()
    assert run.result(timeout=40) == ["one", "two", 1]
    assert len(cluster.noted("first")) == 1
    cluster.sound()

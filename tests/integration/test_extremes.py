"""Wide, deep and odd things that are allowed: they come through as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cluster import Cluster, figure
from support.waiting import until_sync


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["attacked"], paths=[Path(__file__).parent]) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.mark.parametrize(
    "value",
    [
        2**63 + 1,
        2**53 + 1,
        -0.0,
        1.0,
        1e308,
        0.1 + 0.2,
        '\u00e9\u2028\x00\n"\\\\\U0001f600',
        [],
        {},
        {"": None},
        [[[[]]], {"a": {"b": [1, {"c": []}]}}],
        True,
        None,
        {"e": "RunCompleted", "at": 1, "seq": 2},
    ],
    ids=repr,
)
def test_values_come_through_tasks_steps_signals_and_new_lives_unchanged(cluster: Cluster, value: Any):
    run = cluster.client.start("attacked.echoes", {"value": value})
    run.signal("go", "again")
    run.signal("go", value)
    assert repr(run.result(timeout=20)) == repr(value)
    assert repr(run.state().result) == repr(value)


def test_two_thousand_tasks_at_once(cluster: Cluster):
    began_s = time.monotonic()
    assert cluster.client.start("attacked.fan_out", {"width": 2000}).result(timeout=60) == sum(range(2000))
    figure(f"2,000 parallel tasks in {time.monotonic() - began_s:.1f} s")
    cluster.sound()


def test_workflows_a_hundred_deep(cluster: Cluster):
    run = cluster.client.start("attacked.deep", {"depth": 100})
    assert run.result(timeout=60) == 100
    assert cluster.client.get(run.id + "~1" * 100).status() == "completed"


def test_a_signal_that_nobody_waited_for_is_delivered_all_the_same(cluster: Cluster):
    target = cluster.client.start("attacked.waiter")
    assert cluster.client.start("attacked.leaves_a_message", {"target": target.id}).result(timeout=20) == "left"
    assert target.result(timeout=20) == "from one who left"
    cluster.sound()


def test_a_child_outlives_a_parent_that_completed(cluster: Cluster):
    child = cluster.client.start("attacked.spawns_and_leaves").result(timeout=20)
    until_sync(lambda: any(line.startswith("orphan 0") for line in cluster.noted("patients")), 20)
    (cluster.notes / "orphan").touch()
    assert cluster.client.wait(child, timeout=20)["attempt"] == 0
    cluster.sound()


def test_results_and_input_near_the_limit(cluster: Cluster):
    size = 1_048_576 - 3
    assert len(cluster.client.start("attacked.big", {"size": size}).result(timeout=20)) == size
    assert len(cluster.client.start("attacked.echo", {"value": "x" * (size - 20)}).result(timeout=20)) == size - 20


def test_more_important_runs_go_first(cluster: Cluster):
    worker = cluster.nodes[0]
    worker.terminate()
    unimportant = [cluster.client.start("attacked.single", {"number": n}, priority=9) for n in range(20)]
    important = [cluster.client.start("attacked.single", {"number": n}, priority=0) for n in range(20)]
    single = cluster.worker("single", concurrency=1).start()
    for run in (*unimportant, *important):
        run.result(timeout=20)
    order = cluster.noted("singles")
    assert max(order.index(run.id) for run in important) < min(order.index(run.id) for run in unimportant)
    single.terminate()
    cluster.remove(single)
    worker.restart()


def test_after_retention_no_key_of_a_run_remains():
    handlers = ("mixture", "third_time", "exits", "waiter", "family", "spawning_function")
    with Cluster(["attacked"], paths=[Path(__file__).parent], AGNT5_RETENTION="1s") as cluster:
        cluster.start(cluster.worker(), cluster.beat())
        runs = [cluster.client.start(f"attacked.{handler}") for handler in handlers]
        for run in runs[3:]:
            until_sync(lambda run=run: run.status() == "waiting", 20)
            run.cancel()
        ids = [run.id.encode() for run in runs]
        left: list[bytes] = []

        def nothing_is_left() -> bool:
            left[:] = [key for key in cluster.admin.keys("*") if any(one in key for one in ids)]
            return not left

        try:
            until_sync(nothing_is_left, 20)
        except AssertionError:
            raise AssertionError(left) from None

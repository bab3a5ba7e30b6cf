"""Entities while workers die: no update is lost or made twice, and the order is that of arrival (I4, I5)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster, figure
from support.entity_faults import History, Op, under_fire
from support.waiting import until_sync

from agnt5.client.doctor import examine_with

HERE = Path(__file__).parent
LIVENESS_S = 1.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    env = {"AGNT5_LIVENESS_TIMEOUT": "1s", "AGNT5_HEARTBEAT": "200ms"}
    with Cluster(["entity_kit"], paths=[HERE], **env) as cluster:
        yield cluster


def the_store_is_sound(cluster: Cluster) -> bool:
    return not [one for one in cluster.client.call(examine_with, settle_s=0.1) if one.severity == "error"]


@pytest.mark.parametrize(
    ("clients", "each", "hits", "every_s"),
    [(8, 40, 3, 0.4), pytest.param(20, 500, 20, 1.5, marks=pytest.mark.chaos)],
)
def test_increments_are_exact_while_workers_are_killed_and_frozen(cluster, clients, each, hits, every_s):
    workers = [cluster.worker(name) for name in ("w1", "w2")]
    cluster.start(*workers, cluster.beat())
    seed = random.randrange(1_000_000)
    history = under_fire(
        cluster, workers, clients=clients, each=each, keys=5, hits=hits, seed=seed, every_s=every_s,
        freeze_s=3 * LIVENESS_S,
    )  # fmt: skip
    count = sum(map(len, history.ops.values()))
    told = f"seed {seed}: {history.faults}, {count} increments in {history.seconds:.1f} s"
    figure(told)
    assert history.problems() == [], told
    assert history.faults.hits >= hits, told
    sums = {key: cluster.client.entity_state("Counter", key).state["total"] for key in history.ops}
    assert sums == {key: len(ops) for key, ops in history.ops.items()}, told
    until_sync(lambda: the_store_is_sound(cluster), 15.0)


def test_a_frozen_worker_s_write_is_refused_when_it_wakes(cluster):
    first, second = cluster.worker("w1"), cluster.worker("w2")
    cluster.start(first, cluster.beat())
    run = cluster.client.start("Counter.add_slowly", {"amount": 1, "seconds": 1}, key="cold")
    until_sync(lambda: "cold 1 begins" in cluster.noted("slow"), 10.0)
    behind = cluster.client.start("Counter.add", {"amount": 10}, key="cold")
    first.freeze()
    second.start()
    assert run.result(timeout=20) == 1
    assert behind.result(timeout=20) == 11
    first.thaw()
    loss = ("another worker owns it now", "was taken over")  # refused, or told before it tried
    until_sync(lambda: any(told in first.output() for told in loss), 20.0)
    assert cluster.client.entity("Counter", "cold").total() == 11


def test_a_host_that_dies_between_two_calls_in_line_loses_neither(cluster):
    worker = cluster.worker("w1")
    cluster.start(worker, cluster.beat())
    runs = [cluster.client.start("Counter.add_slowly", {"amount": 1, "seconds": 0.05}, key="line") for _ in range(20)]
    until_sync(lambda: runs[4].status() == "completed", 20.0)
    worker.kill()
    worker.start()
    assert [run.result(timeout=30) for run in runs] == list(range(1, 21))


def test_callers_learn_of_calls_whose_host_died_before_it_told_them(cluster):
    """The call has ended and its caller was not told: beat does it."""
    worker = cluster.worker("w1")
    cluster.start(worker, cluster.beat())
    runs = [cluster.client.start("entity_kit.bump", {"key": f"k{number}"}) for number in range(60)]
    until_sync(lambda: sum(run.status() == "completed" for run in runs) > 5, 20.0)
    worker.kill()
    worker.start()
    assert [run.result(timeout=30) for run in runs] == [1] * 60


# ---- the checker itself


def test_the_checker_sees_a_lost_update_a_doubled_one_and_a_wrong_order():
    sound = History()
    sound.ops["k"] = [Op(0, 1, 1), Op(0, 2, 2), Op(3, 4, 3)]
    assert sound.problems() == []
    for ops in ([Op(0, 1, 1), Op(2, 3, 1)], [Op(0, 1, 1), Op(2, 3, 3)], [Op(2, 3, 1), Op(0, 1, 2)]):
        broken = History()
        broken.ops["k"] = ops
        assert broken.problems()

"""Redis restarts, forgets its scripts and falls silent, all under load: no run fails for it, none is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from support.cluster import Cluster
from support.server import Server
from support.waiting import until_sync

LOAD = 150


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # always: with everysec a killed server may lose what it has acknowledged, while a slow fsync holds its writes up
    server = Server(appendfsync="always")
    with Cluster(["attacked"], paths=[Path(__file__).parent], server=server, AGNT5_LINGER="10m") as cluster:
        yield cluster.start(cluster.worker("w1"), cluster.worker("w2"), cluster.beat())


@pytest.fixture(scope="module", autouse=True)
def waiter(cluster: Cluster):
    """A workflow that waits in memory through all of these tests."""
    return cluster.client.start("attacked.waiter")


def under_load(cluster: Cluster, fault: Callable[[], object]) -> None:
    """Let the fault happen in the middle of many errands, and see each of them to its right end."""
    done = len(cluster.noted("sames"))
    runs = cluster.client.start_many("attacked.errand", [{"number": n} for n in range(LOAD)])
    until_sync(lambda: len(cluster.noted("sames")) > done + LOAD // 3, 20)
    fault()
    assert [run.result(timeout=60) for run in runs] == [10 * n for n in range(LOAD)]
    cluster.sound()


def test_a_restart_of_redis_is_ridden_out(cluster: Cluster):
    under_load(cluster, cluster.server.restart)


def test_three_restarts_in_a_row_are_ridden_out(cluster: Cluster):
    def restart_thrice() -> None:
        for _ in range(3):
            cluster.server.restart()
            until_sync(lambda: _answers(cluster), 10)

    under_load(cluster, restart_thrice)
    assert all(node.alive for node in cluster.nodes)


def test_forgotten_scripts_are_loaded_again(cluster: Cluster):
    under_load(cluster, cluster.admin.script_flush)


def test_a_silence_of_three_seconds_is_ridden_out(cluster: Cluster):
    under_load(cluster, lambda: cluster.admin.execute_command("CLIENT", "PAUSE", "3000"))


def test_connections_that_are_cut_are_made_again(cluster: Cluster):
    def cut() -> None:
        for kind in ("normal", "pubsub"):
            cluster.admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    under_load(cluster, cut)


def test_a_signal_is_heard_at_once_though_its_publication_was_lost(cluster: Cluster, waiter):
    """The waiting run's journal is looked at ever more rarely, so that only the new connection can have told."""
    until_sync(lambda: waiter.state().started_at, 20)
    until_sync(lambda: datetime.now(UTC) - waiter.state().started_at > timedelta(seconds=4.5), 20)
    assert waiter.state().host is not None
    assert waiter.status() == "waiting"
    cluster.admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
    waiter.signal("go", "heard")
    assert waiter.result(timeout=2) == "heard"


def test_memory_that_runs_out_stops_new_runs_clearly_and_all_goes_on_when_there_is_more(cluster: Cluster):
    admin = cluster.admin
    waiting = cluster.client.start("attacked.journey", {"legs": 1})
    until_sync(lambda: waiting.status() == "waiting", 20)
    used = int(admin.info("memory")["used_memory"])
    admin.config_set("maxmemory", used - 100_000)
    try:
        with pytest.raises(Exception, match=r"(?i)memory|full") as refused:
            for number in range(1000):
                cluster.client.start("attacked.single", {"number": number})
        assert type(refused.value).__name__ == "StoreFullError"
    finally:
        admin.config_set("maxmemory", 0)
    waiting.signal("arrive", "there")
    assert waiting.result(timeout=30)[-2:] == ["there", 1]
    assert cluster.client.start("attacked.errand", {"number": 3}).result(timeout=30) == 30
    cluster.sound()


def _answers(cluster: Cluster) -> bool:
    try:
        return bool(cluster.admin.ping())
    except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError):
        return False

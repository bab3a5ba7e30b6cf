"""With AOF everysec a server can come back without the last second: the hosts then know more than the store."""

from pathlib import Path

import pytest
from support.cluster import Cluster

from agnt5.contracts.ids import shard_of
from agnt5.store import keys

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster():
    with Cluster(["attacked"], paths=[HERE]) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


def test_a_run_that_a_live_worker_has_long_finished_is_done_again(cluster):
    run = cluster.client.start("attacked.single", {"number": 7})
    assert run.result(timeout=20) == 7
    shard = shard_of(run.id, 16)
    [host] = [name.decode() for name in cluster.admin.zrange(keys.hosts(), 0, -1)]
    # as if the end had never been written
    cluster.admin.rpop(keys.log(run.id, 16))
    cluster.admin.hset(keys.run(run.id, 16), mapping={"status": "running", "host": host, "epoch": "1:old", "op": 0})
    cluster.admin.persist(keys.run(run.id, 16))
    cluster.admin.persist(keys.log(run.id, 16))
    cluster.admin.sadd(keys.owned(shard, host), run.id)
    cluster.admin.zrem(keys.ended_runs(shard), run.id)
    cluster.admin.zadd(keys.open_runs(shard), {run.id: cluster.now_ms()})
    cluster.admin.client_kill_filter(_type="normal", skipme=True)
    assert run.result(timeout=20) == 7
    assert run.state().attempt == 1
    cluster.sound()

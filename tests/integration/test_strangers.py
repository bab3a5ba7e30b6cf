"""A plain producer knows no queues: its messages find their service, whichever worker got them first."""

from pathlib import Path

from support.cluster import Cluster
from support.waiting import until_sync

HERE = Path(__file__).parent


def test_messages_on_the_default_queue_reach_the_service_that_has_the_handler():
    with Cluster(["one_of_two"], paths=[HERE]) as cluster:
        left, right = cluster.worker("w1", TEST_SERVICE="left"), cluster.worker("w2", TEST_SERVICE="right")
        cluster.start(left, right)
        ids = [cluster.celery.send_task(f"{side}.greet", args=[n]).id for n in range(8) for side in ("left", "right")]
        found = [cluster.client.wait(run_id, timeout=15) for run_id in until_sync(lambda: _known(cluster, ids), 15)]
    assert found == [f"{side} greets {n}" for n in range(8) for side in ("left", "right")]


def test_a_message_that_comes_before_its_handler_is_deployed_waits_for_it():
    with Cluster(["one_of_two"], paths=[HERE]) as cluster:
        # it listens to the right service's queue, and does not have its handler yet
        cluster.start(cluster.worker("w1", "-Q", "agnt5.left,agnt5.right", TEST_SERVICE="left"))
        run_id = cluster.celery.send_task("right.greet", args=["you"], queue="agnt5.right").id
        cluster.nodes[0].says("waits for a worker that has right.greet")
        cluster.start(cluster.worker("w2", TEST_SERVICE="right"))
        until_sync(lambda: _known(cluster, [run_id]), 15)
        assert cluster.client.wait(run_id, timeout=15) == "right greets you"


def _known(cluster, ids):
    """The ids, once all of them are runs."""
    return ids if len(cluster.client.states(ids)) == len(ids) else None

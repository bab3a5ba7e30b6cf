"""A thousand workflows wait: they hold no slot, no Celery ETA and next to no memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster, figure
from support.waiting import until_sync

from agnt5 import AsyncClient
from agnt5.store import keys

COUNT = 1000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["attacked"], paths=[Path(__file__).parent]) as cluster:
        yield cluster.start(cluster.worker(concurrency=1), cluster.beat())


def waiting(cluster: Cluster) -> int:
    """How many runs wait, by the store's own index."""
    with cluster.admin.pipeline(transaction=False) as pipe:
        for shard in range(cluster.shards):
            pipe.zrange(keys.open_runs(shard), 0, -1)
        for shard, run_ids in enumerate(pipe.execute()):
            for run_id in run_ids:
                pipe.hget(f"{keys.prefix(shard)}run:{run_id.decode()}", "status")
        return pipe.execute().count(b"waiting")


def open_runs(cluster: Cluster) -> int:
    """How many runs have not ended."""
    return sum(cluster.admin.zcard(keys.open_runs(shard)) for shard in range(cluster.shards))


def cancel_all(cluster: Cluster, runs: list) -> None:
    """Cancel many runs at once."""

    async def cancel(client: AsyncClient) -> None:
        await asyncio.gather(*(client.cancel(run.id) for run in runs))

    cluster.client.call(cancel)


@pytest.mark.parametrize(("handler", "value"), [("waiter", {}), ("sleeper", {"ms": 3_600_000})])
def test_a_thousand_waiting_workflows_hold_no_slot_and_little_memory(cluster: Cluster, handler: str, value: dict):
    admin = cluster.admin
    assert cluster.client.start("attacked.single", {"number": 1}).result(timeout=20) == 1
    before = int(admin.info("memory")["used_memory_dataset"])
    began_s = time.monotonic()
    runs = cluster.client.start_many(f"attacked.{handler}", [value] * COUNT)
    until_sync(
        lambda: waiting(cluster) == COUNT, 60, lambda: f"{waiting(cluster)} of {open_runs(cluster)} open runs wait"
    )
    figure(f"{COUNT} {handler} waited after {time.monotonic() - began_s:.1f} s")

    # another run starts at once, though the worker has a single slot
    asked_s = time.monotonic()
    assert cluster.client.start("attacked.single", {"number": 2}).result(timeout=20) == 2
    assert time.monotonic() - asked_s < 2

    # Celery holds nothing for them
    until_sync(lambda: admin.hlen("unacked") == 0, 10)
    assert cluster.messages("attacked") == 0
    each = (int(admin.info("memory")["used_memory_dataset"]) - before) / COUNT
    figure(f"a waiting {handler} takes {each:.0f} bytes of Redis")
    assert each < 2048

    cancel_all(cluster, runs)
    until_sync(lambda: open_runs(cluster) == 0, 60, lambda: f"{open_runs(cluster)} runs are still open")
    cluster.sound()


def test_waiting_and_retrying_never_use_a_celery_eta(cluster: Cluster):
    """Each message that anybody sends to the queue is looked at: none has an ETA, none carries an input."""
    worker = cluster.nodes[0]
    worker.terminate()
    runs = [cluster.client.start("attacked.mixture"), cluster.client.start("attacked.third_time")]
    seen: list[dict] = []
    listener = cluster.admin.monitor()
    with listener as commands:
        worker.restart()
        for run in runs:
            run.result(timeout=30)
        cluster.admin.echo("the end")
        for command in commands.listen():
            text = command["command"]
            if text.startswith("ECHO the end"):
                break
            if text.upper().startswith("LPUSH AGNT5.ATTACKED"):
                seen += [json.loads(part) for part in _messages(text)]
    assert len(seen) > 5
    assert {message["headers"]["eta"] for message in seen} == {None}
    assert {message["body"] for message in seen} == {seen[0]["body"]}


def _messages(text: str) -> list[str]:
    parts = text.split(" {")[1:]
    return [("{" + part).encode().decode("unicode_escape") for part in parts]


@pytest.mark.chaos  # long
def test_hundreds_of_hosted_workflows_are_parked_after_they_have_lingered(cluster: Cluster):
    worker = cluster.worker("brief", AGNT5_LINGER="300ms")
    cluster.nodes[0].terminate()
    worker.start()
    runs = cluster.client.start_many("attacked.waiter", [{}] * 300)
    until_sync(lambda: waiting(cluster) == 300, 30)
    until_sync(lambda: all(not cluster.field(run.id, "host") for run in runs), 30)
    for at, run in enumerate(runs):
        run.signal("go", at)
    assert [run.result(timeout=30) for run in runs] == list(range(300))
    cluster.remove(worker)
    cluster.nodes[0].restart()
    cluster.sound()

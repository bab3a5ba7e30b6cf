"""Generators on a real worker: readers see what they yield while they run, whatever happens to the worker."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from support.cluster import Cluster, figure
from support.waiting import until, until_sync

from agnt5 import (
    AsyncClient,
    Client,
    InvalidInputError,
    RunCancelledError,
    RunNotFoundError,
    StreamReset,
    TaskFailedError,
)
from agnt5.client import streams
from agnt5.store import keys

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "streaming.md"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["yielding"], paths=[HERE], AGNT5_STREAM_LIMIT=6000) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(cluster.server.url) as client:
        yield client


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def lift(cluster: Cluster, name: str) -> None:
    (cluster.notes / name).touch()


class Reader:
    """Reads a stream in the background."""

    def __init__(self, chunks) -> None:
        self.found: list = []
        self.error: Exception | None = None
        self.task = asyncio.ensure_future(self._read(chunks))

    async def _read(self, chunks) -> None:
        try:
            async with aclosing(chunks):
                async for one in chunks:
                    self.found.append(one)
        except Exception as error:
            self.error = error

    async def end(self) -> list:
        await asyncio.wait_for(self.task, 20)
        return self.found


# ---- as it comes


@pytest.mark.parametrize("handler", ["words", "words_in_a_thread"])
async def test_a_chunk_is_with_its_reader_while_the_handler_runs(cluster, client, name, handler):
    run = await client.start(f"yielding.{handler}", {"name": name})
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) == 1, 15)
    assert await run.status() == "running"
    lift(cluster, name)
    expected = [{"word": 0}, {"word": 1}] if handler == "words" else ["one", "two", None]
    assert await reader.end() == expected == await run.result(timeout=10)
    assert reader.error is None
    late = Reader(run.stream())
    assert await late.end() == expected


async def test_a_handler_that_never_awaits_is_read_as_it_goes(client):
    run = await client.start("yielding.busy", {"count": 20, "ms": 20})
    lags = []
    async with aclosing(run.stream()) as chunks:
        async for said in chunks:
            lags.append(time.time() - said)
    assert lags[0] < 0.3  # all at once would be 0.4


async def test_places_are_told_and_a_reader_goes_on_from_one(client):
    run = await client.start("yielding.many", {"count": 250})
    assert len(await run.result(timeout=15)) == 250
    found = [one async for one in run.chunks()]
    assert [str(one.place) for one in found] == [f"1-{n}" for n in range(1, 251)]
    assert [one.value async for one in run.chunks(after="1-248")] == [248, 249]
    assert [one async for one in run.stream(after=found[-1].place)] == []
    for wrong in ("1", "1.2", "x", "1-2-3"):
        with pytest.raises(InvalidInputError, match="2-17"):
            await anext(run.stream(after=wrong))


async def test_five_thousand_chunks_come_in_order(cluster, client):
    begun = time.monotonic()
    run = await client.start("yielding.many", {"count": 5000})
    assert [one async for one in run.stream()] == list(range(5000))
    figure(f"5,000 chunks: {time.monotonic() - begun:.2f} s")
    assert await run.result(timeout=10) == list(range(5000))
    assert cluster.admin.xlen(keys.out(run.id, 16)) == 5000


async def test_a_slow_reader_holds_a_page_and_does_not_hold_up_the_run(client):
    run = await client.start("yielding.many", {"count": 3000})
    async with aclosing(run.chunks()) as slow:
        await anext(slow)
        assert len(await run.result(timeout=15)) == 3000
        inner = slow.ag_frame.f_locals["chunks"]
        assert len(inner.ag_frame.f_locals["page"].found) <= streams.PAGE
        assert len([one async for one in slow]) == 2999


async def test_what_is_yielded_is_taken_as_it_is_then(client):
    run = await client.start("yielding.one_object")
    assert [one["text"] async for one in run.stream()] == ["a", "ab", "abc"]
    assert [one["text"] for one in await run.result(timeout=10)] == ["a", "ab", "abc"]


async def test_methods_of_entities_yield_too(cluster, client, name):
    run = await client.start("YieldingCounter.count", {"to": 3, "name": name}, key=name)
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) == 3, 15)
    assert await client.entity("YieldingCounter", name).reached() is None  # written when it ends
    lift(cluster, name)
    assert await reader.end() == [0, 1, 2]
    assert await client.entity("YieldingCounter", name).reached() == 2


async def test_a_run_that_yields_nothing_just_ends(client):
    run = await client.start("yielding.plain")
    assert [one async for one in run.stream()] == []
    with pytest.raises(RunNotFoundError):
        await anext(client.stream("none"))


# ---- failures


async def test_all_chunks_come_before_the_error(client):
    run = await client.start("yielding.breaks", {"count": 200})
    reader = Reader(run.stream())
    assert await reader.end() == list(range(200))
    assert isinstance(reader.error, TaskFailedError)
    assert reader.error.message == "broken in the middle"


async def test_a_second_attempt_begins_anew_and_readers_are_told(cluster, client, name):
    run = await client.start("yielding.second_time", {"name": name})
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) == 2, 15)
    lift(cluster, name)
    assert await reader.end() == ["a", "b", StreamReset(2), "c", "d", "e"]
    assert [one async for one in run.stream()] == ["c", "d", "e"] == await run.result(timeout=10)
    assert [one async for one in run.stream(after="1-1")] == [StreamReset(2), "c", "d", "e"]


async def test_an_attempt_that_yields_nothing_makes_void_what_was_there(cluster, client, name):
    run = await client.start("yielding.second_time", {"name": name, "quiet": True})
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) == 2, 15)
    lift(cluster, name)
    assert await reader.end() == ["a", "b", StreamReset(2)]
    assert reader.error.message == "the second attempt"
    late = Reader(run.stream())
    assert await late.end() == []
    assert late.error.message == "the second attempt"


@pytest.mark.parametrize("handler", ["endless", "endless_in_a_thread"])
async def test_a_cancelled_generator_is_closed(cluster, client, name, handler):
    run = await client.start(f"yielding.{handler}", {"name": name})
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) > 3, 15)
    await run.cancel("enough")
    await reader.end()
    assert isinstance(reader.error, RunCancelledError)
    assert set(reader.found) == {1}
    assert cluster.admin.xlen(keys.out(run.id, 16)) == len(reader.found)
    await until(lambda: cluster.noted(f"{name} closed") == [run.id])


async def test_the_limits_end_a_run(client):
    run = await client.start("yielding.many", {"count": 6001})
    with pytest.raises(TaskFailedError, match=r"yielded more than 6,000 chunks") as failed:
        await run.result(timeout=20)
    assert failed.value.type == "StreamLimitError"
    assert await anext(run.stream(after="1-5999")) == 5999
    run = await client.start("yielding.too_much", {"count": 1, "size": 2 << 20})
    with pytest.raises(TaskFailedError, match=r"chunk 1 of yielding.too_much: 2,097,154 bytes"):
        await run.result(timeout=20)
    run = await client.start("yielding.too_much", {"count": 100, "size": 1 << 18})
    with pytest.raises(TaskFailedError, match=r"its first 4 chunks are 1,048,589 bytes of JSON, at most"):
        await run.result(timeout=20)


async def test_an_attempt_that_takes_too_long_leaves_its_chunks(client):
    run = await client.start("yielding.hangs")
    reader = Reader(run.stream())
    assert await reader.end() == [1]
    assert reader.error.type == "RunTimeoutError"


async def test_a_killed_worker_costs_a_reset_and_no_chunk(cluster, client, name):
    run = await client.start("yielding.words", {"name": name, "before": 3, "after": 3})
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) == 3, 15)
    worker = cluster.nodes[0]
    await asyncio.to_thread(worker.kill)
    lift(cluster, name)
    await asyncio.to_thread(worker.restart)
    words = [{"word": number} for number in range(6)]
    assert await reader.end() == [*words[:3], StreamReset(2), *words]
    assert [one async for one in run.stream()] == words
    cluster.sound()


async def test_a_run_that_was_taken_over_is_stopped(cluster, client, name):
    run = await client.start("yielding.endless", {"name": name})
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) > 3, 15)
    cluster.admin.hset(keys.run(run.id, 16), mapping={"epoch": "7:other", "claims": 7})
    await until(lambda: cluster.noted(f"{name} closed") == [run.id])
    before = cluster.admin.xlen(keys.out(run.id, 16))
    cluster.admin.hset(keys.run(run.id, 16), mapping={"host": "", "epoch": "", "status": "waiting"})
    await client.cancel(run.id)
    await reader.end()
    assert cluster.admin.xlen(keys.out(run.id, 16)) == before
    for shard in range(16):
        for key in cluster.admin.scan_iter(keys.owned(shard, "*").replace("{", "[{]").replace("}", "[}]")):
            cluster.admin.srem(key, run.id)


# ---- readers


def listeners(cluster: Cluster, run_id: str) -> int:
    return int(cluster.admin.pubsub_numsub(keys.out_channel(run_id))[0][1])


async def test_readers_share_a_connection_and_leave_nothing_behind(cluster, client, name):
    run = await client.start("yielding.words", {"name": name})
    clients = {one["id"] for one in cluster.admin.client_list()}
    readers = [Reader(run.stream()) for _ in range(20)]
    await until(lambda: all(reader.found for reader in readers), 15)
    await until(lambda: listeners(cluster, run.id) == 1)
    assert len({one["id"] for one in cluster.admin.client_list()} - clients) <= 1
    for reader in readers[:10]:
        reader.task.cancel()
    forgotten = run.stream()
    await anext(forgotten)
    assert client._streams._watched[run.id].readers >= 11
    for reader in readers[10:]:
        reader.task.cancel()
    await until(lambda: all(reader.task.done() for reader in readers))
    assert listeners(cluster, run.id) == 1
    del forgotten
    gc.collect()
    await until(lambda: not client._streams._watched)
    await until(lambda: listeners(cluster, run.id) == 0)
    lift(cluster, name)


async def test_a_cut_connection_is_ridden_out(cluster, client, name, monkeypatch):
    monkeypatch.setattr(streams, "LOOK_S", 3600)
    run = await client.start("yielding.words", {"name": name, "after": 2})
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) == 1, 15)
    cluster.admin.client_kill_filter(_type="pubsub")
    lift(cluster, name)
    assert len(await reader.end()) == 3


async def test_a_lost_publication_is_made_good_by_a_look(client, cluster, name, monkeypatch):
    monkeypatch.setattr(streams, "LOOK_S", 0.05)
    run = await client.start("yielding.words", {"name": name})
    reader = Reader(run.stream())
    await until(lambda: len(reader.found) == 1, 15)
    client._streams._ears.unsubscribe(keys.out_channel(run.id), keys.done_channel(run.id))
    lift(cluster, name)
    assert len(await reader.end()) == 2


async def test_a_closed_client_ends_its_readers(cluster, name):
    client = AsyncClient(cluster.server.url)
    run = await client.start("yielding.words", {"name": name})
    reader = Reader(run.stream())
    await until(lambda: reader.found, 15)
    await client.close()
    await asyncio.wait_for(reader.task, 5)
    assert "closed" in str(reader.error)
    lift(cluster, name)


def test_ordinary_code_reads_streams(cluster, name):
    client: Client = cluster.client
    run = client.start("yielding.words", {"name": name, "after": 2})
    found: list = []
    thread = threading.Thread(target=lambda: found.extend(run.stream()))
    thread.start()
    left = run.stream()
    assert next(left) == {"word": 0}
    left.close()
    lift(cluster, name)
    thread.join(10)
    assert [one["word"] for one in found] == [0, 1, 2]
    assert [str(one.place) for one in run.chunks(after="1-1")] == ["1-2", "1-3"]
    assert list(client.stream(run.id)) == run.result(timeout=10)
    until_sync(lambda: not client._async._streams._watched)
    with pytest.raises(TaskFailedError):
        list(client.start("yielding.breaks", {"count": 1}).stream())


def test_the_guide_does_what_it_says(cluster, monkeypatch, capsys):
    monkeypatch.setenv("AGNT5_REDIS_URL", cluster.server.url)
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    space: dict = {}
    exec(compile(code, str(GUIDE), "exec"), space)
    space["client"].close()
    said = [line.partition("  # ")[2] for line in code.splitlines() if line.startswith("print")]
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == said

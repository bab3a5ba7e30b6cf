"""Journal and stream as one, over a bare store: every reader gets one order, that in which it was written."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from support.runs import body, claim, owned
from support.waiting import until

from agnt5 import AsyncClient, RunNotFoundError, StoreUnavailableError
from agnt5.client import both, follow
from agnt5.client.streams import Chunk, StreamReset
from agnt5.store.store import Batch, Ownership, Store


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


async def collect(client: AsyncClient, run_id: str, into: list[str]) -> None:
    """`0.1 PatchMarked` for a journal event, `1-1` for a chunk, `reset 2` for a reset."""
    async with aclosing(client.follow_with_chunks(run_id)) as found:
        async for one in found:
            match one:
                case Chunk():
                    into.append(str(one.place))
                case StreamReset():
                    into.append(f"reset {one.claim}")
                case _:
                    into.append(f"{one.place} {json.loads(one.entry)['e']}")


class Writer:
    """What a worker does with a run; notes what a reader has to be told."""

    def __init__(self, store: Store, own: Ownership) -> None:
        self.store, self.own = store, own
        self.expected = ["0.0 RunStarted"]
        self.events, self.chunks = 1, 0

    def append(self, count: int = 1) -> asyncio.Future:
        bodies = [body("PatchMarked", seq=self.events + at, change="c") for at in range(count)]
        self.expected += [f"0.{self.events + at} PatchMarked" for at in range(count)]
        self.events += count
        return asyncio.ensure_future(self.store.append(self.own, Batch(bodies=bodies)))

    def emit(self, count: int = 1) -> asyncio.Future:
        self.expected += [f"1-{self.chunks + at}" for at in range(1, count + 1)]
        self.chunks += count
        chunks = [b'"x"'] * count
        return asyncio.ensure_future(self.store.emit(self.own, first=self.chunks - count + 1, chunks=chunks))

    async def finish(self) -> None:
        self.expected.append(f"0.{self.events} RunCompleted")
        await self.store.finish(self.own, "completed", b"7")


@pytest.mark.parametrize("seed", range(4))
async def test_live_and_late_readers_get_the_order_in_which_it_was_written(
    store: Store, client: AsyncClient, redis_url: str, seed: int
):
    chance = random.Random(seed)  # noqa: S311
    writer = Writer(store, await owned(store, kind="function"))
    founds: list[list[str]] = [[] for _ in range(4)]
    async with AsyncClient(redis_url) as other:
        readers = [asyncio.create_task(collect((client, other)[at % 2], "r", found)) for at, found in enumerate(founds)]
        for _ in range(150):
            writes = [
                chance.choice((writer.append, writer.emit))(
                    chance.choice((1, 1, 2, 150 if chance.random() < 0.1 else 1))
                )
                for _ in range(chance.choice((1, 1, 2, 6)))
            ]
            await asyncio.gather(*writes)
        await writer.finish()
        await asyncio.wait_for(asyncio.gather(*readers), 20)
    late: list[str] = []
    await collect(client, "r", late)
    assert late == writer.expected
    for found in founds:
        assert found == late


async def test_chunks_come_at_once_and_bring_the_events_before_them(store: Store, client: AsyncClient, monkeypatch):
    for module in (follow, both):
        monkeypatch.setattr(module, "LOOK_S", 3600)  # nothing is found by chance
    writer = Writer(store, await owned(store, kind="function"))
    found: list[str] = []
    reading = asyncio.create_task(collect(client, "r", found))
    await writer.emit()
    await until(lambda: found == writer.expected)
    await until(lambda: "r" in client._streams._watched and client._streams._watched["r"].listening.done())
    for _ in range(20):
        await writer.append()
        await writer.emit()
        await until(lambda: found == writer.expected, 2)
    await writer.finish()
    await asyncio.wait_for(reading, 2)
    assert found == writer.expected
    assert not client._streams._watched
    assert not client._follows._watched


async def test_events_without_chunks_come_with_the_next_look(store: Store, client: AsyncClient):
    writer = Writer(store, await owned(store, kind="function"))
    found: list[str] = []
    reading = asyncio.create_task(collect(client, "r", found))
    for _ in range(3):
        await writer.append()
        await until(lambda: found == writer.expected, 2)
    reading.cancel()


@pytest.mark.parametrize("yields", [True, False])
async def test_a_new_attempt_resets_behind_the_failure_of_the_last_one(store: Store, client: AsyncClient, yields: bool):
    own = await owned(store, kind="function")
    await store.emit(own, first=1, chunks=[b"1", b"2"])
    found: list[str] = []
    reading = asyncio.create_task(collect(client, "r", found))
    await until(lambda: len(found) == 3)
    await store.retry(own, attempt=0, error=b"{}", delay_ms=0)
    later = await claim(store, "r", "h2", "m", "function")
    if yields:
        await store.emit(later, first=1, chunks=[b"1"])
    await until(lambda: "reset 2" in found)
    await store.append(later, Batch(bodies=[body("PatchMarked", seq=1, change="c")]))
    await until(lambda: found[-1] == "0.3 PatchMarked")
    await store.finish(later, "completed", b"[1]")
    await asyncio.wait_for(reading, 5)
    journal = ["0.0 RunStarted", "0.1 AttemptFailed", "0.2 AttemptStarted", "0.3 PatchMarked", "0.4 RunCompleted"]
    late: list[str] = []
    await collect(client, "r", late)
    if yields:
        assert found == [journal[0], "1-1", "1-2", *journal[1:3], "reset 2", "2-1", *journal[3:]]
        assert late == [*journal[:3], "2-1", *journal[3:]]
    else:
        assert [one for one in found if one != "reset 2"] == [journal[0], "1-1", "1-2", *journal[1:]]
        assert found.index("reset 2") > found.index(journal[1])
        assert late == journal


async def test_what_cannot_be_read_is_told(store: Store, redis_url: str):
    client = AsyncClient(redis_url)
    with pytest.raises(RunNotFoundError):
        await collect(client, "none", [])
    await owned(store, kind="function")
    found: list[str] = []
    reading = asyncio.create_task(collect(client, "r", found))
    await until(lambda: found)
    await client.close()
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(reading, 5)

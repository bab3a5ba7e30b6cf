"""Following runs, over a bare store: no worker, so that each step is taken by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from support.runs import body, create, owned
from support.server import Server
from support.waiting import until

from agnt5 import AsyncClient, Client, InvalidInputError, RunNotFoundError
from agnt5.client import follow
from agnt5.client.follow import Followed, Place
from agnt5.store import keys
from agnt5.store.store import Batch, Store


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


async def collect(client: AsyncClient, run_id: str, into: list[Followed], **options) -> None:
    async with aclosing(client.follow(run_id, **options)) as events:
        async for one in events:
            into.append(one)


def places(found: list[Followed]) -> list[str]:
    return [str(one.place) for one in found]


async def test_events_come_in_order_until_the_run_ends(store: Store, client: AsyncClient):
    own = await owned(store)
    found: list[Followed] = []
    task = asyncio.create_task(collect(client, "r", found))
    await until(lambda: len(found) == 1)
    for at in range(5):
        await store.append(own, Batch(bodies=[body("PatchMarked", seq=at, change="c")]))
        await until(lambda at=at: len(found) == at + 2)
    await store.finish(own, "completed", b"7")
    await asyncio.wait_for(task, 5)
    assert places(found) == [f"0.{at}" for at in range(7)]
    assert found[-1].event.result == 7


async def test_a_long_journal_is_read_in_pages(store: Store, client: AsyncClient):
    own = await owned(store)
    count = 3 * follow.PAGE
    await store.append(own, Batch(bodies=[body("PatchMarked", seq=at, change="c") for at in range(count)]))
    await store.finish(own, "completed", b"7")
    found: list[Followed] = []
    await collect(client, "r", found, after="0.10")
    assert places(found) == [f"0.{at}" for at in range(11, count + 2)]


async def test_a_slow_reader_holds_one_page(store: Store, client: AsyncClient):
    own = await owned(store)
    await store.append(own, Batch(bodies=[body("PatchMarked", seq=at, change="c") for at in range(1000)]))
    async with aclosing(client.follow("r")) as events:
        await anext(events)
        inner = events.ag_frame.f_locals["events"]
        assert len(inner.ag_frame.f_locals["page"].found) == follow.PAGE


async def test_renewals_between_two_reads_lose_nothing(store: Store, client: AsyncClient):
    own = await owned(store)
    found: list[Followed] = []
    task = asyncio.create_task(collect(client, "r", found))
    for generation in range(1, 30):
        await store.append(own, Batch(bodies=[body("PatchMarked", seq=0, change="c")]))
        first = body("RunStarted", handler="orders.fulfil", generation=generation)
        await store.renew(own, seen=2, body=first, carried=[])
        if generation % 7 == 0:
            await until(lambda generation=generation: found and found[-1].place.generation == generation)
    await store.finish(own, "completed", b"7")
    await asyncio.wait_for(task, 10)
    assert places(found) == [f"{g}.{at}" for g in range(29) for at in range(2)] + ["29.0", "29.1"]


async def test_a_journal_that_is_past_retention_is_passed_over(store: Store, client: AsyncClient):
    own = await owned(store)
    await store.renew(own, seen=1, body=body("RunStarted", handler="orders.fulfil", generation=1), carried=[])
    await store.link.call("DEL", keys.old("r", 0, store.shards))
    await store.finish(own, "completed", b"7")
    found: list[Followed] = []
    await collect(client, "r", found, after="0.0")
    assert places(found) == ["1.0", "1.1"]


async def test_an_older_store_that_came_back_is_followed_from_its_end(store: Store, client: AsyncClient):
    own = await owned(store)
    await store.append(own, Batch(bodies=[body("PatchMarked", seq=at, change="c") for at in range(9)]))
    found: list[Followed] = []
    task = asyncio.create_task(collect(client, "r", found))
    await until(lambda: len(found) == 10)
    await store.link.call("LTRIM", keys.log("r", store.shards), 0, 4)
    await until(lambda: client._follows._watched["r"].next == Place(0, 5))
    await until(lambda: client._follows._watched["r"].looks > 2)
    await store.append(own, Batch(bodies=[body("PatchMarked", seq=99, change="new")]))
    await until(lambda: len(found) == 11)
    assert str(found[-1].place) == "0.5"
    task.cancel()


async def test_many_followers_share_one_look(store: Store, client: AsyncClient):
    for at in range(20):
        await create(store, f"r{at}")
    founds: list[list[Followed]] = [[] for _ in range(200)]
    tasks = [asyncio.create_task(collect(client, f"r{at % 20}", found)) for at, found in enumerate(founds)]
    await until(lambda: all(founds))
    link = (await client.opened())[0].link
    watched = client._follows._watched
    await until(lambda: watched["r0"].looks >= 3)
    assert len(watched) == 20
    looks, calls, writes = watched["r0"].looks, link.calls, link.writes
    await until(lambda: watched["r0"].looks == looks + 4)
    assert link.calls - calls <= 5 * 2 * 20
    assert link.writes - writes <= 5 * 2
    for task in tasks:
        task.cancel()
    await until(lambda: not watched)
    await until(client._follows._looking.done)
    assert not client._opening.result()[2]._waiting


async def test_what_cannot_be_followed_is_told(store: Store, client: AsyncClient):
    with pytest.raises(RunNotFoundError):
        await collect(client, "none", [])
    with pytest.raises(InvalidInputError, match=r"0\.17"):
        await collect(client, "r", [], after="17")
    own = await owned(store)
    found: list[Followed] = []
    task = asyncio.create_task(collect(client, "r", found))
    await until(lambda: found)
    await store.link.call("DEL", keys.run("r", store.shards))  # as retention does it
    with pytest.raises(RunNotFoundError):
        await asyncio.wait_for(task, 5)
    assert own.run_id == "r"


async def test_following_rides_out_a_restart_of_the_server(own_server: Server):
    async with AsyncClient(own_server.url) as client:
        store, _ = await client.opened()
        own = await owned(store)
        found: list[Followed] = []
        task = asyncio.create_task(collect(client, "r", found))
        await until(lambda: found)
        await asyncio.to_thread(own_server.restart)
        await store.append(own, Batch(bodies=[body("PatchMarked", seq=0, change="c")]))
        await until(lambda: len(found) == 2, 10)
        await store.finish(own, "completed", b"7")
        await asyncio.wait_for(task, 10)
        assert places(found) == ["0.0", "0.1", "0.2"]


async def test_a_closed_client_ends_its_followers(store: Store, redis_url: str):
    await create(store, "r")
    client = AsyncClient(redis_url)
    found: list[Followed] = []
    task = asyncio.create_task(collect(client, "r", found))
    await until(lambda: found)
    await client.close()
    with pytest.raises(Exception, match="closed"):
        await asyncio.wait_for(task, 5)


async def test_ordinary_code_follows_too(store: Store, redis_url: str):
    own = await owned(store, body=body("RunStarted", handler="orders.fulfil", kind="workflow"))
    await store.finish(own, "completed", b"7")

    def read() -> list[str]:
        with Client(redis_url) as client:
            run = client.get("r")
            first = next(run.follow())  # left in the middle
            assert first.event.handler == "orders.fulfil"
            return [type(one.event).__name__ for one in run.follow()]

    assert await asyncio.to_thread(read) == ["RunStarted", "RunCompleted"]

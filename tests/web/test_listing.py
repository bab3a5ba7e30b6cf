"""Pages of runs and the fleet, over a bare store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.runs import claim, create, owned
from support.server import Server

from agnt5 import AsyncClient, InvalidInputError
from agnt5.client import listing
from agnt5.store import keys
from agnt5.store.store import Store


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


async def all_ids(client: AsyncClient, **options) -> list[str]:
    found, page = [], await client.run_page(**options)
    found += [run.id for run in page.runs]
    while page.cursor:
        page = await client.run_page(cursor=page.cursor, **options)
        found += [run.id for run in page.runs]
    return found


async def test_runs_of_one_millisecond_are_listed_once_each(store: Store, client: AsyncClient):
    for at in range(20):
        await create(store, f"r{at:02}")
        await store.link.call("HSET", keys.run(f"r{at:02}", store.shards), "created", 1_700_000_000_000)
    for shard in range(store.shards):
        for member in await store.link.call("ZRANGE", keys.open_runs(shard), 0, -1):
            await store.link.call("ZADD", keys.open_runs(shard), 1_700_000_000_000, member)
    for limit in (1, 3, 7, 20, 50):
        assert await all_ids(client, limit=limit) == [f"r{at:02}" for at in range(19, -1, -1)]


async def test_open_runs_come_before_ended_ones(store: Store, client: AsyncClient):
    for at in range(6):
        own = await owned(store, f"r{at}")
        if at % 2:
            await store.finish(own, "completed", b"1")
    assert await all_ids(client, limit=2) == ["r4", "r2", "r0", "r5", "r3", "r1"]
    assert await all_ids(client, limit=2, status="completed") == ["r5", "r3", "r1"]
    assert await all_ids(client, limit=2, status="running") == ["r4", "r2", "r0"]


async def test_a_filter_that_fits_nothing_reads_no_more_than_so_much(store: Store, client: AsyncClient, monkeypatch):
    monkeypatch.setattr(listing, "SCAN_LIMIT", 5)
    for at in range(12):
        await create(store, f"r{at}")
    page = await client.run_page(handler="no.such", limit=5)
    assert page.runs == []
    assert page.cursor is not None
    assert await all_ids(client, handler="no.such", limit=5) == []
    assert len(await all_ids(client, limit=50)) == 12


@pytest.mark.parametrize("cursor", ["", "x", "W10", "bnVsbA", "WzEsMl0", "é", "WzEsIngiLDFd"])
async def test_a_cursor_that_is_none_is_told(store: Store, client: AsyncClient, cursor: str):
    with pytest.raises(InvalidInputError, match="cursor"):
        await client.run_page(cursor=cursor)


async def test_the_fleet_is_told_by_the_stores_clock(server: Server, store: Store, client: AsyncClient):
    await store.heart("h1")
    await store.heart("h2")
    server.admin.zadd(keys.hosts(), {"h2": 1_000_000})
    for at in range(5):
        await create(store, f"r{at}", priority=at % 2)
    await claim(store, "r0", host="h1")
    fleet = await client.fleet()
    assert [(worker.name, worker.alive, worker.runs) for worker in fleet.workers] == [("h1", True, 1), ("h2", False, 0)]
    (queue,) = fleet.queues
    assert (queue.name, queue.service, queue.waiting, queue.by_priority) == ("agnt5.orders", "orders", 4, {0: 2, 1: 2})
    assert abs((fleet.at - queue.oldest_at).total_seconds()) < 30

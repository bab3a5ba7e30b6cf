"""Handlers that map, for `test_mapping_durable.py`. What they did is noted outside of the store."""

from __future__ import annotations

import asyncio

from support.cluster import note

from agnt5 import function, workflow

SLOW = 24
"""Items of maps in the middle of which the worker is killed."""

WORK_S = 0.01


@function
async def twice(ctx, n: int) -> int:
    return 2 * n


@function
async def slow(ctx, name: str, n: int) -> int:
    note(name, n)
    await asyncio.sleep(WORK_S)
    return 2 * n


@function(retries=1)
async def picky(ctx, n: int) -> int:
    if n % 10 == 3:
        raise ValueError(f"not {n}")
    return n


@workflow
async def flow(ctx, count: int, concurrency: int) -> list[int]:
    return await ctx.map(twice, range(count), concurrency)


@function
async def parent(ctx, count: int, concurrency: int) -> int:
    return sum(await ctx.map(twice, range(count), concurrency))


@workflow
async def slow_flow(ctx) -> list[int]:
    return await ctx.map(slow, [{"name": "flow", "n": n} for n in range(SLOW)], 4)


@function
async def slow_function(ctx) -> list[int]:
    return await ctx.map(slow, [{"name": "function", "n": n} for n in range(SLOW)], 4)


@function
async def slow_calls(ctx) -> list[int]:
    async def fetch(n: int) -> int:
        note("calls", n)
        await asyncio.sleep(3 * WORK_S)
        return n

    async def fetch_and_double(n: int) -> int:
        got = await ctx.step("fetch", fetch, n)
        await asyncio.sleep((n % 3) * WORK_S)  # so that the order changes
        return await ctx.step("double", lambda: 2 * got)

    return await ctx.map(fetch_and_double, range(SLOW), 4)


@workflow
async def tolerant(ctx) -> list[str]:
    options = {"return_exceptions": True}
    return [type(one).__name__ for one in await ctx.map(picky, range(10), 3, **options)]


@function
async def second_time(ctx) -> list[int]:
    """Its items fail once; those that succeeded are not done again."""

    async def once(n: int) -> int:
        note("second-time", n)
        if n == 2 and ctx.attempt == 0:
            raise ValueError(n)
        return n

    return await ctx.map(lambda n: ctx.step("once", once, n), range(5), 2)

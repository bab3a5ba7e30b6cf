"""Lesson 5. Waiting costs nothing: timers live in Redis and beat fires them, hours or years later."""

import asyncio
from datetime import timedelta

from support.cluster import Cluster

from agnt5 import Client, Context, function, workflow


@workflow
async def nap(ctx: Context) -> float:
    before = ctx.now()
    await ctx.timer(delay_ms=60)
    await ctx.sleep(0.06)
    await ctx.sleep(timedelta(milliseconds=60))
    await asyncio.sleep(0.06)
    return (ctx.now() - before).total_seconds()


@workflow
async def race(ctx: Context) -> str:
    try:
        async with asyncio.timeout(0.1):
            await ctx.signal("never")
    except TimeoutError:
        return "gave up"
    return "was told"


@workflow
async def reminder(ctx: Context) -> str:
    await ctx.sleep(timedelta(days=365))
    return "a year has passed"


@workflow
async def tonight(ctx: Context) -> str:
    await ctx.timer(cron="30 22 * * *", timezone="Europe/Berlin")
    return "good night"


@function
async def polite(ctx: Context) -> str:
    """Functions may wait durably too; they keep no slot while they do."""
    await ctx.sleep(0.05)
    return "after you"


def test_a_workflow_sleeps_at_least_as_long_as_it_asked_for(client: Client):
    slept = client.start(nap).result(timeout=20)
    assert 0.24 <= slept < 5


def test_timeouts_of_asyncio_are_durable_timers(client: Client):
    assert client.start(race).result(timeout=20) == "gave up"


def test_a_timer_of_a_year_is_one_small_entry(client: Client, cluster: Cluster):
    run = client.start(reminder)
    due_ms = cluster.one_timer(run.id)
    assert abs(due_ms - cluster.now_ms() - 365 * 86_400_000) < 20_000
    cluster.hurry(run.id)
    assert run.result(timeout=20) == "a year has passed"


def test_a_timer_can_wait_for_a_time_of_day(client: Client, cluster: Cluster):
    run = client.start(tonight)
    assert 0 < cluster.one_timer(run.id) - cluster.now_ms() <= 25 * 3_600_000
    cluster.hurry(run.id)
    assert run.result(timeout=20) == "good night"


def test_functions_wait_too(client: Client):
    assert client.start(polite).result(timeout=20) == "after you"

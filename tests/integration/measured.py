"""Handlers that count, rightly and wrongly, for the tests of metrics on real workers."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

from agnt5 import Context, NonRetryableError, RetryPolicy, entity, function, workflow

QUICK = RetryPolicy(max_attempts=3, initial_interval=0.02, max_interval=0.02)
Till = entity("Till")


@function
async def count(ctx: Context, name: str = "jobs.done", amount: float = 1, labels: dict = {}) -> int:
    ctx.metrics().increment(name, amount, **labels)
    return os.getpid()


@function(retries=QUICK)
async def at_the_second_try(ctx: Context) -> int:
    ctx.metrics().increment("tries")
    if ctx.attempt == 0:
        raise RuntimeError("not yet")
    return ctx.attempt


@function
async def fails(ctx: Context) -> None:
    raise NonRetryableError("never")


@function(retries=RetryPolicy(max_attempts=2, initial_interval=60))
async def much_later(ctx: Context) -> None:
    raise RuntimeError("not yet")


@function
async def all_sorts(ctx: Context) -> None:
    metrics = ctx.metrics()
    metrics.gauge("stock.level", 7, shelf="a")
    metrics.gauge("stock.level", 5, shelf="a")
    metrics.observe("basket_bytes", 3000)
    metrics.timing("checkout", 1500, till="1")
    with metrics.timing("parse.ms"):
        await asyncio.sleep(0)

    @metrics.timing("called", kind="async")
    async def called() -> str:
        return "called"

    assert await called() == "called"
    assert await ctx.step("work", called) == "called"


@function
def in_a_thread(ctx: Context) -> int:
    ctx.metrics().increment("threads.used")
    return os.getpid()


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@function
async def misuse(ctx: Context) -> str:
    """Nothing of this breaks the handler, or what was counted before."""
    metrics = ctx.metrics()
    metrics.increment("orders", shop="a")
    for _ in range(2):
        metrics.increment("orders", shop="a", region="b")
        metrics.increment("orders")
        metrics.observe("orders", 1.0, shop="a")
        metrics.increment("orders", -1, shop="a")
        metrics.increment("orders", float("nan"), shop="a")
        metrics.increment("orders", 10**400, shop="a")
        metrics.increment("orders", "2", shop="a")  # type: ignore[arg-type]
    metrics.increment("spread", **{"bad-label": 1})
    metrics.increment("spread", größe="x")
    metrics.increment("spread", le="1")
    metrics.increment("")
    metrics.increment("💥")
    metrics.increment(None)  # type: ignore[arg-type]
    metrics.increment("agnt5_runs_started", handler="forged")
    metrics.increment("python_info")
    metrics.increment("x" * 100_000)
    metrics.increment("odd.labels", shop=Unprintable())
    metrics.increment("odd.labels", shop='\ud800 \n " \\ größe ' + "y" * 100_000)
    metrics.timing("odd.time", "soon")  # type: ignore[call-overload]
    metrics.observe("huge", 1e300)
    metrics.increment("1st größe.count")
    return "fine"


@function
async def visits(ctx: Context, first: int, last: int) -> None:
    for number in range(first, last):
        ctx.metrics().increment("visits", visitor=number)


@workflow
async def patient(ctx: Context) -> str:
    ctx.metrics().increment("patients.came")
    with ctx.metrics().timing("patients.stayed"):
        with ctx.metrics().timing("patients.greeted"):
            await ctx.step("greet", lambda: "hello")
        await ctx.signal("go")
    ctx.metrics().increment("patients.left")
    return "left"


@workflow
async def sleeper(ctx: Context) -> None:
    await ctx.sleep(timedelta(milliseconds=50))


@Till.write
async def pay(ctx: Context, seconds: float) -> None:
    ctx.set("paid", await ctx.get("paid", 0) + 1)
    await asyncio.sleep(seconds)


@function
async def quick(ctx: Context, number: int) -> Any:
    ctx.metrics().increment("quick.ones")
    return number

"""Handlers whose runs Flower shows: one of each kind, and one for each way to end."""

from __future__ import annotations

import asyncio
from typing import Any

from agnt5 import Context, RetryPolicy, entity, function, workflow

QUICKLY = RetryPolicy(max_attempts=2, initial_interval=0.05, max_interval=0.05)


@function(service="shop")
async def price(ctx: Context, article: str, pieces: int = 1) -> dict[str, Any]:
    """Succeeds at once."""
    return {"article": article, "cents": 250 * pieces}


@function(service="shop", retries=QUICKLY)
async def charge(ctx: Context, card: str) -> str:
    """Fails at its first attempt."""
    if ctx.attempt == 0:
        raise ConnectionError(f"the bank does not answer for {card}")
    return f"charged {card}"


@function(service="shop", retries=RetryPolicy(max_attempts=1))
async def refuse(ctx: Context, reason: str) -> None:
    """Fails for good."""
    raise ValueError(reason)


@function(service="shop")
async def hold(ctx: Context, seconds: float) -> None:
    """Runs until somebody ends it."""
    await asyncio.sleep(seconds)


@workflow(service="shop")
async def order(ctx: Context, number: int, articles: list[str], note: str = "") -> dict[str, Any]:
    """A parent of a child for each article; then it waits for a signal."""
    prices = await ctx.parallel(*(ctx.task(price, article=article) for article in articles))
    await ctx.signal("paid", timeout_ms=3_600_000)
    return {"number": number, "cents": sum(one["cents"] for one in prices)}


Till = entity("Till")


@Till.write
async def put(ctx: Context, cents: int) -> int:
    """A call of an entity."""
    ctx.set("cents", await ctx.get("cents", 0) + cents)
    return cents

"""Handlers whose runs Flower shows: one for each way to run and to end."""

from __future__ import annotations

import asyncio
from typing import Any

from agnt5 import Context, RetryPolicy, entity, function, workflow
from agnt5.contracts.masking import MASKER

CARD = "4111-2222-secret-3333"
MASKER.learn("CARD", CARD)

AT_ONCE = RetryPolicy(max_attempts=2, initial_interval=0.05, max_interval=0.05)
Till = entity("Till")


@Till.write
async def put(ctx: Context, cents: int) -> int:
    total = await ctx.get("cents", 0) + cents
    ctx.set("cents", total)
    return total


@function(service="counter")
async def price(ctx: Context, article: str, pieces: int = 1) -> dict[str, Any]:
    return {"article": article, "cents": 250 * pieces}


@function(service="counter")
async def echo(ctx: Context, words: list[str]) -> list[str]:
    return words


@function(service="counter", retries=AT_ONCE)
async def charge(ctx: Context, card: str) -> str:
    if ctx.attempt == 0:
        raise ConnectionError(f"the bank does not know {card}")
    return f"charged {card}"


@function(service="counter", retries=RetryPolicy(max_attempts=1))
async def refuse(ctx: Context, reason: str) -> None:
    raise ValueError(reason)


@function(service="counter")
async def hold(ctx: Context, seconds: float) -> None:
    await asyncio.sleep(seconds)


@workflow(service="counter")
async def order(ctx: Context, articles: list[str]) -> int:
    """A child for each article and a call of an entity; then it waits for a signal."""
    prices = await ctx.parallel(*(ctx.task(price, article=article) for article in articles))
    total = await ctx.entity(Till, "main").put(cents=sum(one["cents"] for one in prices))
    await ctx.signal("paid", timeout_ms=3_600_000)
    return total

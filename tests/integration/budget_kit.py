"""Handlers that spend from budgets as calls of models do, without a model."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from support.cluster import note, noted

from agnt5 import Budget, Context, RetryPolicy, entity, function, workflow
from agnt5.contracts.budgets import Spent, applicable

Memory = entity("BudgetMemory")
QUICK = RetryPolicy(max_attempts=3, initial_interval=0.05, max_interval=0.05)


async def spend(ctx: Context, name: str, given: Any = (), *, die_once: bool = False) -> str:
    """A call of a model in a recorded step: estimated at 100 tokens, it takes 80."""
    budgets = applicable(ctx._info.tree, ctx._info.headers, given)

    async def call() -> str:
        held = await ctx._host.reserve(budgets, f"{ctx._info.run_id}/{name}", Spent(tokens=100))
        if die_once and not noted(f"died-{ctx._info.run_id}"):
            note(f"died-{ctx._info.run_id}")
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0)
        note("calls", f"{ctx._info.tree} {name}")
        await ctx._host.settle(held, Spent(tokens=80, cost=0.001))
        return name

    return await ctx.step(name, call)


@function
async def ask(ctx: Context, times: int) -> int:
    for n in range(times):
        await spend(ctx, f"ask-{n}")
    return times


@function
async def ask_of_key(ctx: Context, key: str, limit: int) -> str:
    """One call, of a budget that many runs share."""
    return await spend(ctx, "shared", Budget(key=key, requests=limit))


@function(retries=QUICK)
async def ask_and_die(ctx: Context) -> str:
    return await spend(ctx, "fatal", die_once=True)


@Memory.write(retries=RetryPolicy(max_attempts=1))
async def remember(ctx: Context, text: str) -> int:
    """An entity that asks a model, and has a child ask another."""
    await spend(ctx, f"remember-{text}")
    return await ctx.spawn(ask, 1)


@workflow
async def family(ctx: Context) -> list[Any]:
    """Four calls of its tree: its own, a child's, an entity's and that of the entity's child."""
    return [
        await spend(ctx, "own"),
        await ctx.task(ask, 1),
        await ctx.entity(Memory, str(ctx.headers().get("tenant"))).remember("a"),
    ]


@function
async def shown(ctx: Context) -> dict[str, str]:
    return dict(ctx.headers())

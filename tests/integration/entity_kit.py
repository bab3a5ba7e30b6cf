"""Entities and their callers, for the tests of entities on real workers."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel
from support.cluster import note

from agnt5 import (
    Context,
    EntityDeadlockError,
    NonRetryableError,
    RetryPolicy,
    TaskFailedError,
    entity,
    function,
    workflow,
)

Counter = entity("Counter")
QUICK = RetryPolicy(max_attempts=3, initial_interval=0.05, max_interval=0.05)


@Counter.write
async def add(ctx: Context, amount: int = 1) -> int:
    """Read, wait a turn, write: without a lock, updates get lost."""
    total = await ctx.get("total", 0)
    await asyncio.sleep(0)
    ctx.set("total", total + amount)
    return total + amount


@Counter.write
async def add_slowly(ctx: Context, amount: int, seconds: float) -> int:
    total = await ctx.get("total", 0)
    note("slow", f"{ctx.object_id} {amount} begins")
    await asyncio.sleep(seconds)
    ctx.set("total", total + amount)
    return total + amount


@Counter.read
async def total(ctx: Context) -> int:
    return await ctx.get("total", 0)


@Counter.write
async def fail_after(ctx: Context, amount: int) -> None:
    ctx.set("total", 1000 + amount)
    ctx.delete("name")
    raise NonRetryableError("changed its mind")


@Counter.write(retries=QUICK)
async def fail_twice(ctx: Context) -> int:
    """Each attempt begins with the state as it is."""
    total = await ctx.get("total", 0) + 1
    ctx.set("total", total)
    if ctx.attempt < 2:
        raise ConnectionError("not yet")
    return total


@Counter.read
async def write_in_a_read(ctx: Context) -> None:
    ctx.set("total", 9)


@Counter.write
async def call_myself(ctx: Context) -> str:
    try:
        await ctx.entity("Counter", str(ctx.object_id)).add(1)
    except EntityDeadlockError as error:
        return str(error)
    return "no deadlock"


@Counter.write
async def call_myself_through(ctx: Context) -> Any:
    return await ctx.spawn(bump, str(ctx.object_id))


@Counter.write
async def move(ctx: Context, to: str, amount: int) -> int:
    """An entity that calls another while it holds its own lock."""
    ctx.set("total", await ctx.get("total", 0) - amount)
    return await ctx.entity("Counter", to).add(amount)


@Counter.write
async def look_at_myself(ctx: Context) -> int:
    """A read of one's own state is no deadlock: it sees what was committed."""
    ctx.set("total", 77)
    return await ctx.entity("Counter", str(ctx.object_id)).total()


@Counter.write
async def hold_until(ctx: Context, seconds: float) -> str:
    """Holds the lock through a durable timer."""
    await ctx.sleep(seconds)
    ctx.set("held", True)
    return "held"


@Counter.write
async def who(ctx: Context) -> dict[str, Any]:
    return {"type": ctx.component_type, "object_id": ctx.object_id, "method": ctx.method_name, "step": ctx.step_id}


@function
async def bump(ctx: Context, key: str, amount: int = 1) -> int:
    return await ctx.entity(Counter, key).add(amount)


@function(retries=QUICK)
async def bump_once(ctx: Context, key: str) -> int:
    """Its later attempts get the recorded answers: the counter is changed once for each call."""
    first = await ctx.entity(Counter, key).add(1)
    second = await ctx.entity(Counter, key).add(10)
    if ctx.attempt == 0:
        raise ConnectionError("after the calls")
    return first + second


@function
async def bump_and_leave(ctx: Context, key: str) -> str:
    ctx.entity(Counter, key).add(5)
    return "left"


@workflow
async def transfer(ctx: Context, source: str, target: str, amount: int) -> list[int]:
    taken = await ctx.entity("Counter", source).add(-amount)
    given = await ctx.entity("Counter", target).add(amount)
    return [taken, given]


@workflow
async def fan(ctx: Context, keys: list[str], each: int) -> int:
    results = await ctx.parallel(*(ctx.entity(Counter, key).add(1) for key in keys for _ in range(each)))
    return len(results)


@workflow
async def fire_and_forget(ctx: Context, key: str) -> str:
    ctx.entity(Counter, key).add(3)
    return "gone"


@workflow
async def impatient(ctx: Context, key: str) -> str:
    try:
        async with asyncio.timeout(0.3):
            await ctx.entity(Counter, key).add(100)
    except TimeoutError:
        return "gave up"
    return "added"


@workflow
async def meets_a_failure(ctx: Context, key: str) -> str:
    try:
        await ctx.entity(Counter, key).fail_after(1)
    except TaskFailedError as error:
        return f"{error.type}: {error.message}"
    return "nothing happened"


class Cart(BaseModel):
    items: list[str] = []
    paid: bool = False


@entity(state=Cart)
class ShopBasket:
    @entity.write
    async def put(self, ctx: Context, item: str) -> int:
        ctx.state.items.append(item)
        return len(ctx.state.items)

    @entity.read
    async def look(self, ctx: Context) -> Cart:
        return ctx.state

    @entity.write
    async def spoil(self, ctx: Context) -> None:
        ctx.state.items = "no list"

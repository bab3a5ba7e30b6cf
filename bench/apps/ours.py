"""The same work as handlers of agnt5."""

import asyncio
import time

from agnt5 import entity, function, workflow
from agnt5.app import create_app


@function(service="bench")
async def noop(ctx, x=None):
    return {"ok": 1}


@workflow(service="bench")
async def seq3(ctx):
    for _ in range(3):
        await ctx.task("bench", "noop")
    return {"ok": 1}


@workflow(service="bench")
async def fan(ctx, n: int):
    return {"n": len(await ctx.parallel(*[ctx.task("bench", "noop", input={"x": i}) for i in range(n)]))}


async def one():
    return 1


@function(service="bench")
async def steps(ctx, n: int):
    for i in range(n):
        await ctx.step(f"step{i}", one)
    return n


@workflow(service="bench")
async def workflow_steps(ctx, n: int):
    for i in range(n):
        await ctx.step(f"step{i}", one)
    return n


@function(service="bench")
async def first_chunk(ctx):
    yield time.time()


@function(service="bench")
async def chunks(ctx, n: int, pause_ms: float = 0):
    """Each chunk is its own time; without a pause as many as will go."""
    for _ in range(n):
        yield time.time()
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)


@function(service="bench")
async def ask_once(ctx, n: int):
    return (await ctx.llm.generate(f"hi {n}", model="openai/gpt-4o-mini")).text


@function(service="bench")
async def ask_many(ctx, n: int):
    await asyncio.gather(*(ctx.llm.generate(f"hi {i}", model="openai/gpt-4o-mini") for i in range(n)))


@workflow(service="bench")
async def sleeper(ctx, seconds: float):
    await ctx.sleep(seconds)


@workflow(service="bench")
async def waiter(ctx):
    return await ctx.signal("go")


Counter = entity("Counter")


@Counter.write
async def add(ctx, amount: int):
    total = await ctx.get("total", 0) + amount
    ctx.set("total", total)
    return total


@workflow(service="bench")
async def call_entities(ctx, n: int):
    return len(await ctx.parallel(*[ctx.entity("Counter", f"c{i % 50}").add(1) for i in range(n)]))


app = create_app()

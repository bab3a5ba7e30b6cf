"""Handlers of the service `yielding`: generators that stand still where a test wants it."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

from support.cluster import note

from agnt5 import BackoffPolicy, Context, RetryPolicy, entity, function

SOON = RetryPolicy(max_attempts=2, initial_interval=0.05, backoff=BackoffPolicy("constant"))


def raised(name: str) -> bool:
    """Whether the test has raised a flag."""
    return (Path(os.environ["AGNT5_TEST_NOTES"]) / name).exists()


async def gate(name: str) -> None:
    """Wait for a flag."""
    while not raised(name):
        await asyncio.sleep(0.005)


@function
async def words(ctx: Context, name: str, before: int = 1, after: int = 1):
    """Some chunks before the gate, some after it."""
    try:
        for number in range(before):
            yield {"word": number}
        await gate(name)
        for number in range(before, before + after):
            yield {"word": number}
    finally:
        note(f"{name} closed", ctx.run_id)


@function
def words_in_a_thread(ctx: Context, name: str):
    try:
        yield "one"
        while not raised(name):
            time.sleep(0.005)
        yield "two"
        yield None
    finally:
        note(f"{name} closed", ctx.run_id)


@function
async def endless(ctx: Context, name: str):
    try:
        while True:
            yield 1
            await asyncio.sleep(0.005)
    finally:
        await asyncio.sleep(0.01)
        note(f"{name} closed", ctx.run_id)


@function
def endless_in_a_thread(ctx: Context, name: str):
    try:
        while True:
            yield 1
            time.sleep(0.005)
    finally:
        note(f"{name} closed", ctx.run_id)


@function
async def many(ctx: Context, count: int):
    for number in range(count):
        yield number


@function
async def busy(ctx: Context, count: int, ms: int):
    """Yields without ever awaiting, as one that reads a blocking source does."""
    for _ in range(count):
        yield time.time()
        time.sleep(ms / 1000)


@function
async def one_object(ctx: Context):
    text = {"text": ""}
    for word in "abc":
        text["text"] += word
        yield text


@function(retries=SOON)
async def second_time(ctx: Context, name: str, quiet: bool = False):
    """The first attempt fails after two chunks; the second yields three others, or nothing and fails too."""
    if ctx.attempt == 0:
        yield "a"
        yield "b"
        await gate(name)
        raise ValueError("the first attempt")
    if quiet:
        raise ValueError("the second attempt")
    for word in "cde":
        yield word


@function(retries=1)
async def breaks(ctx: Context, count: int):
    for number in range(count):
        yield number
    raise ValueError("broken in the middle")


@function
async def too_much(ctx: Context, count: int, size: int):
    for _ in range(count):
        yield "x" * size


GUIDE = Path(__file__).parents[2] / "docs" / "streaming.md"
exec(re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0], {"__name__": "writing"})


@function
async def plain(ctx: Context) -> str:
    return "no chunks"


@function(timeout=0.3, retries=1)
async def hangs(ctx: Context):
    yield 1
    await asyncio.sleep(3600)


@entity(name="YieldingCounter")
class Counter:
    @entity.write
    async def count(self, ctx: Context, to: int, name: str):
        for number in range(to):
            ctx.set("reached", number)
            yield number
        await gate(name)

    @entity.read
    async def reached(self, ctx: Context) -> int | None:
        return await ctx.get("reached")

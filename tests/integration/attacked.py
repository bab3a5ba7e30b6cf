"""Handlers of the service `attacked`: what they do leaves a trace outside of the store (`note`)."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from support.cluster import note, noted

from agnt5 import BackoffPolicy, Context, RetryPolicy, function, workflow

SOON = RetryPolicy(max_attempts=4, initial_interval=0.05, backoff=BackoffPolicy("constant"))


def flag(name: str) -> bool:
    """Whether the test has raised a flag (a file in the notes' folder)."""
    return (Path(os.environ["AGNT5_TEST_NOTES"]) / name).exists()


# ---- long ways


@workflow
async def journey(ctx: Context, legs: int) -> list:
    """Tasks and steps, then a wait, then one more task."""
    done: list = []
    for leg in range(legs):
        done.append(await ctx.task(travel, leg=leg))
        done.append(await ctx.step("stamp", stamp, ctx.run_id, leg))
    done.append(await ctx.signal("arrive"))
    done.append(await ctx.task(travel, leg=legs))
    return done


@function
async def travel(ctx: Context, leg: int) -> int:
    note("travels", ctx.run_id)
    return leg


@function
async def limbs(ctx: Context, leg: int, arm: int = 0) -> int:
    return leg + arm


def stamp(run_id: str, leg: int) -> str:
    note("stamps", f"{run_id} {leg}")
    return f"stamp {leg}"


@workflow
async def errand(ctx: Context, number: int) -> int:
    """A little of everything; its result is ten times its number."""
    one = await ctx.task(same, number=number)
    await ctx.sleep(0.02)
    two = await ctx.step("twice", lambda: one * 2)
    three, four = await ctx.parallel(ctx.task(same, number=number * 3), ctx.task(same, number=number * 4))
    return one + two + three + four


@function
async def same(ctx: Context, number: int) -> int:
    note("sames", ctx.run_id)
    return number


@function
async def single(ctx: Context, number: int = 0) -> int:
    note("singles", ctx.run_id)
    return number


# ---- functions that stand still


@function
async def two_steps(ctx: Context) -> list:
    """Its second step hangs in the first attempt."""
    return [await ctx.step("first", first), await ctx.step("second", second, ctx.attempt), ctx.attempt]


def first() -> str:
    note("first")
    return "one"


async def second(attempt: int) -> str:
    note("second", attempt)
    if attempt == 0:
        await asyncio.Event().wait()
    return "two"


@function
async def patient(ctx: Context, name: str) -> dict:
    """Ends when the test raises the flag `name`."""
    note("patients", f"{name} {ctx.attempt} {os.getpid()}")
    while not flag(name):
        await asyncio.sleep(0.02)
    return {"attempt": ctx.attempt, "pid": os.getpid()}


@function
def stands(ctx: Context, name: str) -> dict:
    """As `patient`, and nothing can stop it."""
    note("patients", f"{name} {ctx.attempt} {os.getpid()}")
    while not flag(name):
        time.sleep(0.02)
    return {"attempt": ctx.attempt, "pid": os.getpid()}


@function
async def blocks_the_loop(ctx: Context, seconds: float) -> int:
    note("blockers", ctx.attempt)
    time.sleep(seconds)
    return ctx.attempt


# ---- functions that kill


@function
async def poison(ctx: Context) -> None:
    note("poisoned", ctx.attempt)
    os._exit(1)


@function
async def innocent(ctx: Context, number: int) -> int:
    await asyncio.sleep(0.2)
    return number


@function(retries=1)
async def exits(ctx: Context) -> None:
    sys.exit(3)


@function(retries=1)
def exits_in_a_thread(ctx: Context) -> None:
    sys.exit(3)


@function(retries=1)
async def exits_in_a_step(ctx: Context) -> None:
    await ctx.step("exit", lambda: sys.exit(3))


@workflow
async def exiting_workflow(ctx: Context) -> None:
    sys.exit(3)


@workflow
async def exiting_step_of_a_workflow(ctx: Context) -> None:
    await ctx.step("exit", lambda: sys.exit(3))


@function(retries=1)
async def interrupts(ctx: Context) -> None:
    raise KeyboardInterrupt


# ---- waiting


@workflow
async def sleeper(ctx: Context, ms: int) -> int:
    before = ctx.now()
    await ctx.timer(delay_ms=ms)
    return round((ctx.now() - before).total_seconds() * 1000)


@workflow
async def waiter(ctx: Context, padding: str = "") -> str:
    return await ctx.signal("go")


@workflow
async def listener(ctx: Context, count: int) -> list:
    return [await ctx.signal("item") for _ in range(count)]


@workflow
async def family(ctx: Context) -> None:
    await ctx.parallel(ctx.task(patient, name="never"), ctx.task(waiter), ctx.task(sleeper, ms=3_600_000))


@workflow
async def spawning_workflow(ctx: Context) -> None:
    ctx.spawn(patient, name="never")
    ctx.spawn(waiter)
    await ctx.signal("never")


@function
async def spawning_function(ctx: Context) -> None:
    ctx.spawn(patient, name="never")
    await ctx.spawn(waiter).result()


@workflow(run_timeout=1.0)
async def late_family(ctx: Context) -> None:
    await ctx.parallel(ctx.task(patient, name="never"), ctx.task(waiter))


@workflow
async def racer(ctx: Context) -> str:
    await ctx.signal("go")
    return "arrived"


@function(retries=SOON)
async def third_time(ctx: Context) -> int:
    if ctx.attempt < 2:
        raise ConnectionError(f"attempt {ctx.attempt}")
    return ctx.attempt


@function
async def parent(ctx: Context, children: int) -> list:
    handles = [
        ctx.spawn(third_time if number == 0 else single, **({} if number == 0 else {"number": number}))
        for number in range(children)
    ]
    return [await handle.result() for handle in handles]


@function
async def grandparent(ctx: Context) -> list:
    return [await ctx.spawn(parent, children=2).result(), await ctx.spawn(parent, children=1).result()]


@function
def sync_function(ctx: Context, number: int) -> int:
    return number + 1


@workflow
async def mixture(ctx: Context) -> list:
    await ctx.sleep(0.05)
    return [
        await ctx.task(sync_function, number=1),
        await ctx.task(third_time),
        *await ctx.parallel(*(ctx.task(same, number=number) for number in range(5))),
        await ctx.step("once", lambda: "step"),
    ]


@workflow(run_timeout=600)
async def cyclic(ctx: Context) -> None:
    """Journals without end."""
    for number in range(1_000_000):
        await ctx.step(f"s{number}", int)


@function
async def big(ctx: Context, size: int) -> str:
    return "x" * size


@function
async def unspeakable(ctx: Context) -> object:
    return object()


@workflow
async def asks_unspeakable(ctx: Context) -> None:
    await ctx.task("attacked", "single", input={"number": object()})


@workflow
async def steps_unspeakable(ctx: Context) -> None:
    await ctx.step("odd", object)


@workflow
async def bad_cron(ctx: Context) -> None:
    await ctx.timer(cron="every other day")


@workflow
async def bad_delay(ctx: Context) -> None:
    await ctx.timer(delay_ms=-1)


@workflow
async def bad_service(ctx: Context) -> None:
    await ctx.task("not a service", "x")


@workflow
async def bad_arguments(ctx: Context) -> None:
    await ctx.task(same, count=1)


@workflow
async def bad_types(ctx: Context) -> None:
    await ctx.task(same, number="many")


@workflow
async def renews_unspeakable(ctx: Context, value: object = None) -> None:
    ctx.continue_as_new(value=object())


@workflow
async def counts_lines(ctx: Context) -> int:
    return await ctx.step("count", lambda: len(noted("travels")))


# ---- extremes


@function
async def echo(ctx: Context, value):
    return value


@workflow
async def echoes(ctx: Context, value):
    once = await ctx.task(echo, value=value)
    twice = await ctx.step("again", lambda: once)
    ctx.continue_as_new(value=twice) if await ctx.signal("go") == "again" else None
    return twice


@workflow
async def fan_out(ctx: Context, width: int) -> int:
    return sum(await ctx.parallel(*(ctx.task(same, number=number) for number in range(width))))


@workflow
async def deep(ctx: Context, depth: int) -> int:
    return 1 + await ctx.task(deep, depth=depth - 1) if depth else 0


@workflow
async def leaves_a_message(ctx: Context, target: str) -> str:
    message = asyncio.create_task(ctx.signal.emit("go", "from one who left", target_workflow_id=target))
    await asyncio.sleep(0)
    return "left" if not message.done() else "stayed"


@workflow
async def spawns_and_leaves(ctx: Context) -> str:
    return ctx.spawn(patient, name="orphan").id

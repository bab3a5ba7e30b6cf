"""Lesson 3. What was done stays done: a workflow goes on after its worker was killed, and repeats nothing."""

import asyncio

from support.cluster import Node, note, noted
from support.waiting import until_sync

from agnt5 import Client, Context, function, workflow
from agnt5.replay.events import TaskCompleted


@function
async def charge(ctx: Context, order: str) -> str:
    note("charges", order)
    return f"receipt of {order}"


@workflow
async def fulfil(ctx: Context, order: str) -> dict:
    stock = await ctx.step("reserve", reserve, order)
    receipt = await ctx.task(charge, order=order)
    await ctx.signal("picked")
    return {"stock": stock, "receipt": receipt, "at": ctx.now().isoformat(), "number": str(ctx.uuid())}


def reserve(order: str) -> str:
    note("reservations", order)
    return f"shelf of {order}"


@function
async def import_rows(ctx: Context, file: str) -> int:
    """A function starts again after a crash, and gets its recorded steps back."""
    rows = await ctx.step("read", read, file)
    await ctx.step("wait", hang_the_first_time, file)
    return rows


def read(file: str) -> int:
    note("reads", file)
    return 42


async def hang_the_first_time(file: str) -> None:
    note("hangs", file)
    if len(noted("hangs")) == 1:
        await asyncio.Event().wait()


def test_a_workflow_goes_on_after_its_worker_was_killed(client: Client, cluster, worker: Node):
    run = client.start(fulfil, {"order": "17"})
    until_sync(lambda: any(isinstance(event, TaskCompleted) for event in run.history()), 20)
    worker.kill()
    run.signal("picked")
    worker.restart()
    result = run.result(timeout=20)
    assert (result["stock"], result["receipt"]) == ("shelf of 17", "receipt of 17")
    assert cluster.noted("reservations") == ["17"]
    assert cluster.noted("charges") == ["17"]


def test_a_function_gets_its_recorded_steps_back(client: Client, cluster, worker: Node):
    run = client.start(import_rows, {"file": "rows.csv"})
    until_sync(lambda: cluster.noted("hangs"), 20)
    worker.kill()
    worker.restart()
    assert run.result(timeout=20) == 42
    assert cluster.noted("reads") == ["rows.csv"]
    assert run.state().attempt == 1

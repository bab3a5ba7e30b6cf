"""Lesson 9. A run can be cancelled wherever it is. A workflow may clean up first, and its children end with it."""

import asyncio

import pytest
from support.cluster import Cluster, note
from support.waiting import until_sync

from agnt5 import Client, Context, RunCancelledError, function, workflow


@function
async def hold_seat(ctx: Context, seat: str) -> None:
    note("held", seat)


@function
async def release_seat(ctx: Context, seat: str) -> None:
    note("released", seat)


@workflow
async def book(ctx: Context, seat: str) -> None:
    await ctx.task(hold_seat, seat=seat)
    try:
        await ctx.signal("paid")
    except asyncio.CancelledError:
        await ctx.task(release_seat, seat=seat)
        raise


@function
async def endless(ctx: Context, name: str) -> None:
    note("endless", ctx.run_id)
    await asyncio.Event().wait()


@workflow
async def parent(ctx: Context) -> None:
    await ctx.parallel(ctx.task(endless, name="a"), ctx.task(endless, name="b"))


def test_a_cancelled_workflow_cleans_up(client: Client, cluster: Cluster):
    run = client.start(book, {"seat": "12a"})
    until_sync(lambda: "12a" in cluster.noted("held") and run.status() == "waiting", 20)
    run.cancel("changed their mind")
    with pytest.raises(RunCancelledError, match="changed their mind"):
        run.result(timeout=20)
    assert cluster.noted("released") == ["12a"]
    assert run.status() == "cancelled"


def test_a_running_function_is_stopped(client: Client, cluster: Cluster):
    run = client.start(endless, {"name": "alone"})
    until_sync(lambda: run.id in cluster.noted("endless"), 20)
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.result(timeout=20)


def test_children_end_with_their_parent(client: Client, cluster: Cluster):
    run = client.start(parent)
    children = until_sync(lambda: len(found := _children(cluster, run)) == 2 and found, 20)
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.result(timeout=20)
    for child in children:
        with pytest.raises(RunCancelledError):
            client.wait(child, timeout=20)


def _children(cluster: Cluster, run):
    return [line for line in cluster.noted("endless") if line.startswith(f"{run.id}~")]

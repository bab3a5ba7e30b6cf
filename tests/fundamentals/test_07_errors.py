"""Lesson 7. Errors travel as data, with their own type, message and traceback, over any number of runs."""

import os
from pathlib import Path

import pytest
from support.cluster import Cluster, note

from agnt5 import Client, Context, StepFailedError, TaskFailedError, function, workflow


class OutOfStockError(Exception):
    """An error of the application."""


@function(retries=1)
async def take_from_shelf(ctx: Context, item: str) -> None:
    raise OutOfStockError(f"no {item} left")


@workflow
async def pick(ctx: Context, item: str) -> None:
    await ctx.task(take_from_shelf, item=item)


@workflow
async def order(ctx: Context, item: str) -> None:
    await ctx.task(pick, item=item)


@workflow
async def order_with_plan_b(ctx: Context, item: str) -> str:
    try:
        await ctx.task(pick, item=item)
    except TaskFailedError as error:
        return f"sorry: {error.message} ({error.type})"
    return "done"


@workflow
async def careful(ctx: Context) -> str:
    try:
        await ctx.step("divide", lambda: 1 / 0)
    except StepFailedError as error:
        return error.type
    return "no error"


def test_the_original_error_comes_through_all_levels(client: Client):
    run = client.start(order, {"item": "apple"})
    with pytest.raises(TaskFailedError) as caught:
        run.result(timeout=20)
    error = caught.value
    assert (error.type, error.message) == ("OutOfStockError", "no apple left")
    assert 'raise OutOfStockError(f"no {item} left")' in error.traceback
    assert "take_from_shelf" in error.where
    assert run.state().error["type"] == "OutOfStockError"


def test_a_workflow_can_handle_a_failed_task(client: Client):
    assert client.start(order_with_plan_b, {"item": "pear"}).result(timeout=20) == (
        "sorry: no pear left (OutOfStockError)"
    )


def test_a_workflow_can_handle_a_failed_step(client: Client):
    assert client.start(careful).result(timeout=20) == "ZeroDivisionError"


def test_a_failed_run_can_be_opened_again(client: Client, cluster: Cluster):
    run = client.start(repairable)
    with pytest.raises(TaskFailedError, match="shop is closed"):
        run.result(timeout=20)
    (cluster.notes / "shop-is-open").touch()
    run.retry()
    assert run.result(timeout=20) == ["counted once", "sold"]
    assert len(cluster.noted("counts")) == 1


@workflow
async def repairable(ctx: Context) -> list[str]:
    return [await ctx.task(count), await ctx.task(sell)]


@function
async def count(ctx: Context) -> str:
    note("counts")
    return "counted once"


@function(retries=1)
async def sell(ctx: Context) -> str:
    if not (Path(os.environ["AGNT5_TEST_NOTES"]) / "shop-is-open").exists():
        raise RuntimeError("the shop is closed")
    return "sold"

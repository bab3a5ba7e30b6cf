"""Lesson 4. Signals bring news from outside into a workflow. None is lost, none comes twice, and order is kept."""

import pytest

from agnt5 import Client, Context, InvalidInputError, RunEndedError, RunNotFoundError, function, workflow


@workflow
async def approval(ctx: Context, document: str) -> str:
    answer = await ctx.signal("answer", timeout_ms=3_600_000, default={"approved": False})
    return "published" if answer["approved"] else "rejected"


@workflow
async def collect(ctx: Context, count: int) -> list:
    return [await ctx.signal("item") for _ in range(count)]


@workflow
async def impatient(ctx: Context) -> list:
    return [await ctx.signal("late", timeout_ms=50), await ctx.signal("late", timeout_ms=50, default="nothing")]


@function
async def approve(ctx: Context, run_id: str) -> None:
    await ctx.signal.emit("answer", {"approved": True}, target_workflow_id=run_id)


def test_a_signal_wakes_the_workflow_that_waits_for_it(client: Client):
    run = client.start(approval, {"document": "d"})
    run.signal("answer", {"approved": True})
    assert run.result(timeout=20) == "published"


def test_signals_are_kept_until_somebody_waits_and_come_in_order(client: Client):
    run = client.start(collect, {"count": 100})
    for number in range(100):
        run.signal("item", number)
    assert run.result(timeout=20) == list(range(100))


def test_a_wait_can_have_an_end(client: Client):
    assert client.start(impatient).result(timeout=20) == [None, "nothing"]


def test_handlers_send_signals_too(client: Client):
    run = client.start(approval, {"document": "d"})
    client.start(approve, {"run_id": run.id}).result(timeout=20)
    assert run.result(timeout=20) == "published"


def test_a_signal_needs_somebody_who_can_still_take_it(client: Client):
    run = client.start(collect, {"count": 0})
    run.result(timeout=20)
    with pytest.raises(RunEndedError, match="completed"):
        run.signal("item", 1)
    with pytest.raises(RunNotFoundError, match="nobody-here"):
        client.signal("nobody-here", "item", 1)
    with pytest.raises(InvalidInputError, match="human"):
        client.signal(run.id, "human.decision", 1)

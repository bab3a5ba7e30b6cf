"""Handlers of the service `approving`: workflows that ask people, and what tells those."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pydantic import BaseModel, Field
from support.cluster import note

from agnt5 import Context, function, workflow


def told(approval) -> dict:
    """An approval as data."""
    return {
        "decision": approval.decision,
        "approved": approval.approved,
        "approver": approval.approver,
        "comment": approval.comment,
        "data": approval.data if not isinstance(approval.data, BaseModel) else repr(approval.data),
        "votes": [[vote.approver, vote.decision, vote.comment] for vote in approval.votes],
        "at": approval.decided_at.isoformat(),
    }


@workflow
async def ask(ctx: Context, options: dict) -> dict:
    """Ask once; `options` are the arguments as they are."""
    return told(await ctx.human.approval("deploy", **options))


@workflow
async def ask_at_length(ctx: Context) -> None:
    await ctx.human.approval("deploy", "y" * 600_000, form={"title": "x" * 600_000})


@workflow
async def ask_twice(ctx: Context) -> list:
    first = await ctx.human.approval("review", payload="draft 1", timeout=3600)
    second = await ctx.human.approval("review", payload="draft 2", timeout=3600)
    return [first.decision, second.decision]


@workflow
async def ask_side_by_side(ctx: Context) -> list:
    legal, money = await ctx.parallel(
        ctx.human.approval("legal", assignee="lea", timeout=3600), ctx.human.approval("money", assignee="mo")
    )
    return [legal.approver, money.approver]


@workflow
async def ask_for_a_while(ctx: Context) -> str:
    """Gives up by itself, then waits for a signal."""
    try:
        async with asyncio.timeout(0.05):
            await ctx.human.approval("deploy", timeout=timedelta(hours=1))
    except TimeoutError:
        return await ctx.signal("go")
    return "decided"


@workflow
async def ask_each_round(ctx: Context, left: int) -> str:
    approval = await ctx.human.approval("round", payload=left)
    if left:
        ctx.human.approval("never awaited").close()
        ctx.continue_as_new(left=left - 1)
    return approval.decision


@workflow
async def ask_aside(ctx: Context) -> None:
    """Ends while its request is open."""
    aside = asyncio.create_task(ctx.human.approval("aside", timeout=3600))
    await ctx.signal("end")
    aside.get_name()


class Spend(BaseModel):
    euros: int = Field(ge=1, le=500)
    reason: str = Field(min_length=3)


@workflow
async def ask_for_money(ctx: Context) -> dict:
    approval = await ctx.human.approval("spend", form=Spend, required_roles=["boss"])
    assert approval.data is None or isinstance(approval.data, Spend)
    return told(approval)


@workflow
async def ask_and_remind(ctx: Context, options: dict) -> dict:
    return told(await ctx.human.approval("deploy", {"version": 7}, notify=tell, **options))


@workflow
async def ask_with_a_broken_bell(ctx: Context) -> dict:
    return told(await ctx.human.approval("deploy", timeout=3600, reminders=[3599], notify=broken))


@function
async def tell(ctx: Context, notice: dict) -> None:
    shown = {name: value for name, value in notice.items() if name != "link"}
    note("notices", f"{notice['run_id']} {notice['reminder']} {shown}")
    note("links", f"{notice['run_id']} {notice['link']}")


@function(retries=1)
async def broken(ctx: Context, notice: dict) -> None:
    note("broken", notice["reminder"])
    raise ValueError("the mail server is down")


@function
async def asks_itself(ctx: Context) -> None:
    await ctx.human.approval("deploy")


@workflow
async def forger(ctx: Context, target: str) -> str:
    for name in ("human.deploy", "human.approval"):
        try:
            await ctx.signal.emit(name, {"decision": "approved"}, target_workflow_id=target)
        except Exception as error:
            note("forged", f"{type(error).__name__} {name}")
    return "tried"

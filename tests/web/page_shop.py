"""Handlers whose runs the pages show."""

import asyncio

from page_kit import HOSTILE

from agnt5 import Context, entity, function, workflow
from agnt5.demo import deployment

__all__ = ["deployment"]

FORM = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1}, "tell": {"type": "boolean"}, "why": {"type": "string"}},
    "required": ["count"],
    "additionalProperties": False,
}

Counter = entity("Counter")


@function
async def echo(ctx: Context, value: object = None) -> object:
    return value


@function(retries=1)
async def broken(ctx: Context, text: str = HOSTILE) -> None:
    raise ValueError(text)


@workflow
async def fails(ctx: Context, text: str = HOSTILE) -> None:
    await ctx.task(broken, text=text)


@workflow
async def trip(ctx: Context, to: str) -> dict:
    value = await ctx.task(echo, value=to)
    word = await ctx.signal("go")
    return {"to": value, "word": word}


@workflow
async def many(ctx: Context, count: int) -> int:
    return len(await ctx.parallel(*(ctx.task(echo, value=n) for n in range(count))))


@workflow
async def asks(
    ctx: Context, name: str = "deploy", roles: list | None = None, assignee: str | None = None, quorum: int = 1,
    form: bool = False, payload: object = None, timeout: float | None = None,
) -> dict:  # fmt: skip
    answer = await ctx.human.approval(
        name, payload, timeout, roles, assignee=assignee, quorum=quorum, form=FORM if form else None
    )
    return {"decision": answer.decision, "by": answer.approver, "comment": answer.comment, "data": answer.data}


@workflow
async def asks_twice(ctx: Context) -> list:
    return [(await ctx.human.approval("again")).approver, (await ctx.human.approval("again")).approver]


@Counter.write
async def add(ctx: Context, amount: int = 1, note: str = "", pause: float = 0.0) -> int:
    value = (await ctx.get("value") or 0) + amount
    await asyncio.sleep(pause)
    ctx.set("value", value)
    ctx.set("note", note)
    return value

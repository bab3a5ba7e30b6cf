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


@function
async def logs(ctx: Context, lines: int = 3) -> None:
    for number in range(lines):
        ctx.log().info("line %d", number)
    ctx.log().warning(HOSTILE, extra={"name": HOSTILE, HOSTILE: 1, "long": "x" * 900, "file": "f\udc80"})
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        ctx.log().exception("it failed")


@workflow
async def logs_on(ctx: Context) -> None:
    ctx.log().info("before the signal")
    await ctx.signal("go")
    ctx.log().info("behind the signal")


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


def answer(prompt: int, completion: int, cost: float | None = None, **more: object) -> dict:
    """A model's answer in the form that is recorded."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"text": "...", "usage": usage, "cost": cost, "model": "gpt-4o-mini", "finish_reason": "stop", **more}


async def after(seconds: float, value: object) -> object:
    await asyncio.sleep(seconds)
    return value


@function(retries=1)
async def classify(ctx: Context, n: int) -> str:
    if n % 20 == 7:
        raise ValueError(f"document {n} is empty")
    return "invoice" if n % 2 else "letter"


@workflow
async def answers(ctx: Context, documents: int, hold: bool = False) -> dict:
    """What an agent's run looks like: answers of models, calls of tools, maps."""
    calls = [{"id": "c1", "name": "get_weather", "arguments": {"city": "Oslo"}}, {"id": "c2", "name": "search"}]
    wants = answer(812, 40, 0.000146, tool_calls=calls, finish_reason="tool_calls")
    await ctx.step("llm:gpt-4o-mini", after, 0.03, wants)
    await ctx.gather(
        weather=ctx.step("tool:get_weather", after, 0.02, {"result": {"city": "Oslo", "degrees": -3}}),
        search=ctx.step("tool:search", after, 0.03, {"error": "TimeoutError: no answer within 200 ms"}),
    )
    await ctx.step("llm:gpt-4o-mini", after, 0.02, answer(1020, 96, 0.000211, finish_reason="length"))
    kinds = await ctx.map(classify, range(documents), 8, return_exceptions=True)
    priced = answer(300, 20, 0.00006)
    texts = await ctx.map(lambda n: ctx.step("llm:gpt-4o-mini", after, 0.01, priced), range(30), 10)
    if hold:
        await ctx.map(lambda n: ctx.step("wait", after, 0.02, n) if n < 11 else ctx.signal("go"), range(12), 4)
    return {"kinds": len(kinds), "texts": len(texts)}

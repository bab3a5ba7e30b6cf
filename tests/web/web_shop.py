"""Handlers that the API's tests start."""

import asyncio

from support.cluster import noted

from agnt5 import Agent, Context, RetryPolicy, entity, function, workflow
from agnt5.llm.scripted import call, scripted_model
from agnt5.sdk.keyed import keyed_step


@function
async def add(ctx: Context, a: int, b: int = 1) -> int:
    return a + b


@function
async def logs(ctx: Context, lines: int) -> None:
    for number in range(lines):
        ctx.log().log(20 + number % 2 * 10, "line %d", number, extra={"number": number})


@function
async def headers(ctx: Context) -> dict:
    return dict(ctx.headers())


@function(retries=1)
async def broken(ctx: Context, until: str = "never") -> str:
    if not noted(until):
        raise ValueError("this is broken")
    return "mended"


@function
async def slow(ctx: Context, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@function(retries=RetryPolicy(max_attempts=2, initial_interval=0.05))
async def lines(ctx: Context, word: str, count: int = 2, fails: int = 0):
    """Half of its chunks, then the rest once `word` is noted; the first `fails` attempts fail in between."""
    for number in range(count):
        yield {"attempt": ctx.attempt, "line": number}
        if number == count // 2 - 1:
            while not noted(word):
                await asyncio.sleep(0.005)
            if ctx.attempt < fails:
                raise ValueError("this is broken")


@workflow
async def trip(ctx: Context, to: str) -> dict:
    total = await ctx.task(add, a=1, b=2)
    word = await ctx.signal("go", timeout_ms=600_000)
    return {"to": to, "total": total, "word": word}


@workflow
async def rounds(ctx: Context, left: int) -> str:
    await ctx.signal("next", timeout_ms=600_000)
    if left:
        ctx.continue_as_new({"left": left - 1})
    return "done"


@workflow
async def deploy(
    ctx: Context, version: str, roles: list[str] = [], assignee: str | None = None, form: dict | None = None
):
    answer = await ctx.human.approval(
        "deploy/production", payload={"version": version}, required_roles=roles, assignee=assignee, form=form
    )
    return [answer.decision, answer.approver, answer.comment, answer.data]


@entity(name="WebCounter")
class Counter:
    @entity.write
    async def add(self, ctx: Context, n: int) -> int:
        total = await ctx.get("total", 0) + n
        if n < 0:
            raise ValueError("only upwards")
        ctx.set("total", total)
        return total

    @entity.write
    async def hold(self, ctx: Context, word: str) -> str:
        while not noted(word):
            await asyncio.sleep(0.02)
        return word

    @entity.read
    async def total(self, ctx: Context) -> int:
        return await ctx.get("total", 0)


@function(retries=RetryPolicy(max_attempts=2, initial_interval=0.02))
async def assistant(ctx: Context, message: str, thread_id: str, state: dict | None = None):
    """For AG-UI: speaks, calls a tool as a step, speaks on. The first attempt at "again" fails in between."""
    yield {"type": "text", "text": f"{thread_id}: "}
    yield {"type": "text", "text": message}
    yield {"type": "tool_call", "id": "c-1", "name": "look", "arguments": {"at": message}}
    if message == "again" and ctx.attempt == 0:
        raise ValueError("this is broken")
    found = await keyed_step(ctx, "tool:look", "c-1", look)
    yield {"type": "tool_result", "id": "c-1", "name": "look", "result": found}
    yield f"found {found['n']}"
    yield {"type": "done", "result": {"text": "all", "state": state}}


async def look() -> dict:
    return {"n": 7}


@workflow
async def clerk(ctx: Context, asked: dict) -> str:
    """For AG-UI: one parameter for all that was asked; asks people."""
    answer = await ctx.human.approval("refund", payload={"said": asked["messages"][-1]["content"]})
    return f"{asked['message']}: {answer.decision}"


@entity(name="AguiChat")
class Chat:
    @entity.write
    async def say(self, ctx: Context, message: str) -> str:
        count = await ctx.get("count", 0) + 1
        ctx.set("count", count)
        return f"{count}: {message}"


async def find(word: str) -> dict:
    """Finds a word."""
    return {"word": word, "colour": "green"}


desk = Agent("desk", "Be kind.", scripted_model("desk", call("find", word="pear"), "It is green."), tools=[find])
desk.as_function(stream=True)

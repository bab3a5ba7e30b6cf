"""Handlers of the service `sealed_kit`: what they are given they say in every way that there is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from agnt5 import BackoffPolicy, Context, RetryPolicy, TaskFailedError, entity, function, workflow
from agnt5.contracts.errors import StepFailedError
from agnt5.llm.scripted import scripted_model

TWICE = RetryPolicy(max_attempts=2, initial_interval=0.01, backoff=BackoffPolicy("constant"))
MODEL = scripted_model("sealed_kit", lambda messages, _tools: f"answer to {messages[-1]['content']}")

Vault = entity("Vault")


class Form(BaseModel):
    reason: str


@Vault.write
async def keep(ctx: Context, name: str, text: str) -> str:
    """State, with a result that says what it was before."""
    before = await ctx.get(name, "nothing")
    ctx.set(name, text)
    return f"{before}, now {text}"


@Vault.read
async def look(ctx: Context, name: str) -> Any:
    return await ctx.get(name)


@function
async def echo(ctx: Context, text: str) -> dict[str, str]:
    return {"said": await ctx.step("repeat", lambda: text)}


@function(retries=TWICE)
async def complain(ctx: Context, text: str) -> None:
    raise ValueError(f"cannot bear {text}")


@function
async def say(ctx: Context, text: str):
    for word in ("one", "two"):
        yield {"word": word, "text": text}


@function
async def count(ctx: Context, number: int) -> int:
    return number


@function
async def gather(ctx: Context, text: str) -> list[Any]:
    """A function with a child, a call of an entity, a model and a signal to nobody."""
    found = [await ctx.spawn(echo, text).result(), await ctx.entity("Vault", "fn").keep("of", text)]
    found.append((await ctx.llm.generate(text, MODEL)).text)
    return found


def raise_it(text: str) -> None:
    raise LookupError(f"no {text}")


@workflow
async def everything(ctx: Context, text: str, mirror: str) -> dict[str, Any]:
    """Steps, children, entities, models, signals, people; failures of all of them."""
    said: dict[str, Any] = {"child": await ctx.task(echo, text), "step": await ctx.step("same", lambda: text)}
    for name, failing in (
        ("complain", lambda: ctx.task(complain, text)),
        ("raise", lambda: ctx.step("no", raise_it, text)),
    ):
        try:
            await failing()
        except (TaskFailedError, StepFailedError) as error:
            said[name] = error.message
    said["vault"] = await ctx.entity("Vault", "wf").keep("of", text)
    said["model"] = (await ctx.llm.generate(text, MODEL)).text
    await ctx.signal.emit("told", {"text": text}, target_workflow_id=mirror)
    said["signal"] = await ctx.signal("go")
    answer = await ctx.human.approval("release", {"text": text}, form=Form, quorum=2)
    said["people"] = [answer.comment, answer.data.reason]
    return said


@workflow
async def mirror(ctx: Context, again: bool = True) -> Any:
    """Takes a signal to the next generation."""
    if again:
        await ctx.signal("turn")
        ctx.continue_as_new(False)
    return await ctx.signal("told")


@workflow
async def patient(ctx: Context, text: str) -> list[str]:
    """Waits for a signal between two steps."""
    before = await ctx.step("before", lambda: text)
    went = await ctx.signal("go")
    return [before, went, await ctx.step("after", lambda: f"{text} after")]


@workflow
async def grower(ctx: Context, size: int, times: int, by: str) -> int:
    """Its journal grows by steps or by children."""
    for number in range(times):
        if by == "steps":
            await ctx.step(f"s{number}", lambda: "x" * size)
        else:
            await ctx.task(big, size)
    return times


@function
async def big(ctx: Context, size: int) -> str:
    return "x" * size


@function
async def grower_live(ctx: Context, size: int, times: int) -> int:
    for number in range(times):
        await ctx.step(f"s{number}", lambda: "x" * size)
    return times


@workflow
async def loud(ctx: Context, target: str, size: int) -> None:
    await ctx.signal.emit("big", "x" * size, target_workflow_id=target)


@function
async def too_much(ctx: Context, size: int) -> None:
    raise ValueError("x" * size)

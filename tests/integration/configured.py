"""Handlers that read config and headers, in every sort of handler."""

from __future__ import annotations

import os
import time
from typing import Any

from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from support.cluster import note, noted

from agnt5 import Agent, Context, entity, function, scripted_model, workflow
from agnt5.llm.scripted import call

Cart = entity("ConfigCart")


def flags() -> InMemoryProvider:
    """What the app's own provider of flags has; made in each process."""

    def by_context(flag: Any, context: Any) -> FlagResolutionDetails[str]:
        seen = f"{context.targeting_key} {context.attributes['handler']} {context.attributes['headers'].get('tenant')}"
        return FlagResolutionDetails(seen)

    def fails(flag: Any, context: Any) -> FlagResolutionDetails[bool]:
        raise ValueError("the vendor is down")

    return InMemoryProvider(
        {
            "theirs": InMemoryFlag("on", {"on": True, "off": False}),
            "who": InMemoryFlag("x", {"x": "x"}, context_evaluator=by_context),
            "broken": InMemoryFlag("on", {"on": True}, context_evaluator=fails),
            "number": InMemoryFlag("x", {"x": "ten"}),
            "shared": InMemoryFlag("x", {"x": "theirs"}),
        }
    )


@function
async def read(ctx: Context, key: str, default: Any = None) -> Any:
    return ctx.config().get(key, default)


@function
def read_in_a_thread(ctx: Context, key: str) -> list[Any]:
    return [ctx.config().get(key, 0), os.getpid()]


@function
async def several(ctx: Context) -> list[Any]:
    config = ctx.config()
    return [
        config.get("theirs", default=False),
        config.get("who", default=""),
        config.get("broken", default=False),
        config.get("broken", default=False),
        config.get("number", default=5),
        config.get("shared", default=""),
        config.get("ours", default=""),
        config.variant("who"),
    ]


@workflow
async def rounds(ctx: Context, n: int = 0) -> list[Any]:
    """Reads before and after a signal, in two generations."""
    before = ctx.config().get("rounds.tax", default=False)
    note("rounds", f"{n} {os.getpid()}")
    word = await ctx.signal("go")
    after = ctx.config().get("rounds.tax", default=False)
    if n == 0:
        ctx.continue_as_new(n=1)
    return [n, word, before, after]


@workflow
async def gated(ctx: Context) -> bool:
    """Reads and pays in one activation, once its gate is open; until then it blocks its worker."""
    note("gated")
    while "go" not in noted("gate"):
        time.sleep(0.01)
    tax = ctx.config().get("gated.tax", default=False)
    note("asked", tax)
    await ctx.step("pay", lambda: note("paid", tax))
    return tax


@workflow
async def family(ctx: Context) -> list[Any]:
    """Its own variant, a child's, an entity's and that of the entity's child."""
    of_cart = ctx.entity(Cart, "c").variant()
    return [ctx.config().variant("family"), await ctx.task(variant), *await of_cart]


@function
async def variant(ctx: Context) -> str:
    return ctx.config().variant("family")


@Cart.write(name="variant")
async def cart_variant(ctx: Context) -> list[Any]:
    return [ctx.config().variant("family"), await ctx.spawn(variant)]


# ---- headers


@function
async def tenant(ctx: Context) -> list[str | None]:
    headers = ctx.headers()
    return [headers.get("TENANT"), headers.get("x-Correlation-id")]


@Cart.write(name="tenants")
async def cart_tenants(ctx: Context) -> list[Any]:
    given = [value for name, value in ctx.headers().items() if name != "traceparent"]
    return [*given, *await ctx.spawn(tenant)]


@function
async def whose(ctx: Context) -> str:
    """Say whose it is."""
    return str(ctx.headers().get("Tenant"))


def answered(messages: list[Any], tools: Any) -> str:
    return f"It is {messages[-1]['content']}'s."


clerk = Agent(
    "clerk", "Be brief.", scripted_model("clerk", call("whose"), answered),
    tools=[whose],
)  # fmt: skip


@workflow
async def heirs(ctx: Context, n: int = 0) -> list[Any]:
    if n == 0:
        ctx.continue_as_new(n=1)
    return [
        dict(ctx.headers()),
        await ctx.task(tenant),
        await ctx.entity(Cart, "h").tenants(),
        (await ctx.map("configured.tenant", [{}]))[0],
        (await clerk.run(ctx, "Whose is it?")).text,
    ]


@workflow(cron="* * * * * *", overlap="skip")
async def each_second(ctx: Context) -> None:
    note("cron", sorted(ctx.headers()))

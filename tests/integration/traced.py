"""Handlers whose runs are traced."""

from __future__ import annotations

import os

from support.cluster import note, noted

from agnt5 import Context, RetryPolicy, entity, function, workflow
from agnt5.contracts.masking import MASKER

SECRET = "hush-this-is-the-key"
MASKER.learn("PAYMENTS", SECRET)

Tally = entity("Tally")


@Tally.write
async def add(ctx: Context, amount: int) -> int:
    total = await ctx.get("total", 0) + amount
    ctx.set("total", total)
    return total


@function(service="traced_here")
async def here(ctx: Context, number: int) -> dict:
    await ctx.step("square", lambda: number * number)
    return {"pid": os.getpid(), "traceparent": ctx.headers()["traceparent"]}


@function(service="traced_there")
async def there(ctx: Context, number: int) -> dict:
    answer = await ctx.llm.generate("what is it?", "gpt-4.1-nano", temperature=0.5, max_tokens=50)
    return {"pid": os.getpid(), "text": answer.text}


@workflow(service="traced_here")
async def order(ctx: Context) -> dict:
    with ctx.trace_span().start("both", service="shipping"):
        first, second = await ctx.parallel(ctx.task("traced_here", "here", 3), ctx.task("traced_there", "there", 4))
        total = await ctx.step("sum", lambda: 7)
    tally = await ctx.entity("Tally", "t").add(total)
    return {"first": first, "second": second, "tally": tally}


@function(service="traced_nowhere")
async def nobodys(ctx: Context) -> None:
    """No worker takes from its queue."""


@workflow(service="traced_here")
async def in_vain(ctx: Context) -> None:
    await ctx.task(nobodys)


@workflow(service="traced_here")
async def survivor(ctx: Context) -> str:
    with ctx.trace_span().start("over"):
        await ctx.step("in a replay", lambda: None)
    with ctx.trace_span().start("across", leg=1) as span:
        await ctx.step("before", note, "before")
        await ctx.signal("go")
        span.set_attribute("leg", 2)
        await ctx.step("after", note, "after")
    return "done"


@function(service="traced_here", retries=RetryPolicy(max_attempts=2, initial_interval=0.01))
async def stubborn(ctx: Context) -> str:
    if ctx.attempt == 0:
        raise ValueError(f"not with {SECRET}")
    return "at last"


@function(service="traced_here", retries=RetryPolicy(max_attempts=1))
async def broken(ctx: Context) -> None:
    def fails() -> None:
        raise KeyError(SECRET)

    with ctx.trace_span().start("fragile", mode=object, plan=[1, 2], key=SECRET) as span:
        span.add_event("tried")
        await ctx.step("fails", fails)


@workflow(service="traced_here")
async def renewing(ctx: Context, turns: int) -> int:
    await ctx.step(f"turn {turns}", lambda: turns)
    if turns:
        ctx.continue_as_new(turns - 1)
    return turns


@workflow(service="traced_here")
async def reopened(ctx: Context) -> str:
    def once() -> str:
        if not noted("repaired"):
            raise RuntimeError("not yet")
        return "repaired"

    return await ctx.step("repair", once)


@function(service="traced_here")
def plain(ctx: Context) -> str:
    with ctx.trace_span().start("in a thread"):
        return "plain"


@function(service="traced_own")
async def own(ctx: Context) -> str:
    return await ctx.step("own", lambda: "own")


@function(service="traced_away")
async def away(ctx: Context, number: int) -> int:
    return await ctx.step("away", lambda: number)


if (endpoint := os.environ.get("TRACED_OWN")) is not None:
    # an application that brings a provider of its own
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "its-own"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)

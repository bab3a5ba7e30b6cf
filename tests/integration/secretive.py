"""Handlers that let secrets go where they should not, in every way there is."""

from __future__ import annotations

import base64
import os

from celery import current_app, shared_task
from support.cluster import note

from agnt5 import entity, function, scripted_model, workflow

Box = entity("Box")


@Box.write
async def put(ctx, value: str) -> str:
    ctx.set("value", {"given": value, ctx.secrets().get("box_key"): 1})
    return str((await ctx.get("value"))["given"])


@function(service="secretive")
async def echo(ctx, value: str) -> str:
    return value


@function(service="secretive")
async def stream(ctx):
    yield "first"
    yield {"second": ctx.secrets().get("api_key")}
    yield await ctx.secrets().fetch("api_key")


PARROT = scripted_model("parrot", lambda messages, tools: f"It is {os.environ['AGNT5_SECRET_PHRASE']} .")


@function(service="secretive")
async def pieces(ctx):
    said = ""
    async for chunk in await ctx.llm.stream("What is the phrase?", PARROT):
        if chunk.text:
            said += chunk.text
            yield chunk.text
    note("pieces", str(ctx.secrets().get("phrase") in said))
    key = ctx.secrets().get("api_key")
    yield {"type": "text", "text": key[:15]}
    yield {"type": "text", "text": key[15:] + "!"}
    yield "sk-"


@function(service="secretive", retries=2)
async def fails(ctx, how: str) -> None:
    key = ctx.secrets().get("api_key")
    if how == "step":
        await ctx.step("raise", lambda: raise_(ValueError, key))
    raise ConnectionError({"auth": "Basic " + base64.b64encode(f"user:{key}".encode()).decode()}, [key], key.encode())


def raise_(kind, *args):
    raise kind(*args)


@workflow(service="secretive")
async def flow(ctx, given: str) -> dict:
    key = ctx.secrets().get("api_key")  # live, and not part of the journal
    step = await ctx.step("read", lambda: {"key": ctx.secrets().get("api_key"), "given": given})
    child = await ctx.task(echo, value=f"Bearer {key}")
    kept = await ctx.entity("Box", "b").put(value=key)
    told = await ctx.signal("go")
    note("flow", f"{step['key']} {child} {kept} {told}")  # what a replay sees too
    return {"step": step, "child": child, "kept": kept, "told": told, "own": key}


@workflow(service="secretive")
async def asks(ctx) -> None:
    key = ctx.secrets().get("api_key")
    await ctx.human.approval("spend", payload={"key": key}, form={"type": "object", "title": key})


@workflow(service="secretive")
async def names(ctx) -> str:
    try:
        await ctx.step(f"call {ctx.secrets().get('api_key')}", lambda: 1)
    except Exception as error:  # noqa: BLE001
        return str(error)
    return "taken"


@shared_task(name="secretive.plain")
def plain(value: str) -> None:
    raise RuntimeError(value)


@function(service="secretive")
async def known(ctx) -> bool:
    return current_app is not None and len(ctx.secrets().get("api_key")) > 0

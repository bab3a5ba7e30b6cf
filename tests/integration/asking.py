"""Handlers that ask language models."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, SecretStr
from support.cluster import note, noted
from support.secret_values import made

from agnt5 import LLMResponse, entity, function, workflow

SECRET = made("prompt")


class City(BaseModel):
    name: str
    people: int


async def pause():
    note("paused")
    while not noted("go"):
        await asyncio.sleep(0.05)


@function(service="asking")
async def twice(ctx) -> list[str]:
    questions = [ctx.llm.generate(f"question {number}", "gpt-4o-mini") for number in range(2)]
    answers = await ctx.parallel(*questions)
    await ctx.step("pause", pause)
    return [answer.text for answer in answers]


@workflow(service="asking")
async def flow(ctx) -> list[str]:
    city = await ctx.llm.generate("which city?", "gpt-4.1-mini", schema=City)
    texts = [chunk.text async for chunk in await ctx.llm.stream("tell of it", "gpt-4.1")]
    await ctx.step("pause", pause)
    return [city.object.name, *texts]


@function(service="asking")
async def story(ctx) -> list[str]:
    texts = [chunk.text async for chunk in ctx.llm.stream("tell a story", "o3-mini")]
    note("told", len(texts))
    await ctx.step("pause", pause)
    return texts


Asker = entity("Asker")


@Asker.write
async def ask(ctx, question: str) -> str:
    answer = await ctx.llm.generate(question, "asker-model", custom_llm_provider="openai")
    await ctx.step("pause", pause)
    ctx.set("last", answer.text)
    return answer.text


@function(service="asking")
async def capital(ctx) -> LLMResponse:
    return await ctx.llm.generate("which city?", "gpt-4.1-nano", schema=City)


@function(service="asking")
async def secretly(ctx, fail: bool) -> str:
    prompt = [{"role": "user", "content": SecretStr(SECRET)}]
    model = "gpt-refusing" if fail else "gpt-discreet"
    answer = await ctx.llm.generate(prompt, model, custom_llm_provider="openai", retries=0)
    return answer.text


@workflow(service="asking")
async def waiting(ctx) -> str:
    return (await ctx.llm.generate("hello", "gpt-full", custom_llm_provider="openai")).text


@function(service="asking")
async def patient(ctx) -> str:
    return (await ctx.llm.generate("hello", "gpt-busy", custom_llm_provider="openai")).text

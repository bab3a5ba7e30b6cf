"""Handlers of the service `tooling`: models that call tools of every kind."""

from __future__ import annotations

from typing import Any

from support.cluster import note

from agnt5 import Agent, Context, ToolsResponse, entity, function, tool, workflow

MODEL = "gpt-4o"
CLAUDE = "anthropic/claude-sonnet-4-5"


def look_up(word: str) -> dict[str, Any]:
    """Look a word up.

    Args:
        word: What to look up.
    """
    note("looked", word)
    if word == "nothing":
        raise LookupError(f"no entry for {word!r}")
    return {"word": word, "letters": len(word)}


@tool(approval=True)
async def refund(order: str, euros: float) -> str:
    """Give money back."""
    note("refunded", f"{order} {euros}")
    return f"{order}: {euros} euros are on their way"


async def ask_twice(ctx: Context, word: str) -> list:
    """Look a word up twice."""
    return [await ctx.step("first", look_up, word), await ctx.step("second", look_up, word)]


Shelf = entity("Shelf")


@Shelf.write(retries=1)
async def put(ctx: Context, book: str) -> list[str]:
    """Put a book on the shelf."""
    books = [*await ctx.get("books", []), book]
    if book == "too heavy":
        note("heavy", book)
        raise ValueError("the shelf breaks")
    ctx.set("books", books)
    return books


@workflow
async def in_workflow(ctx: Context, question: str) -> ToolsResponse:
    tools = [look_up, refund, ask_twice, "another_service.weigh", ctx.entity("Shelf", question).put]
    return await ctx.llm.run_tools(question, MODEL, tools, approval_timeout=3600, required_roles=["boss"])


@function
async def in_function(ctx: Context, question: str) -> ToolsResponse:
    ctx.tools.register("look", look_up)
    tools = ["look", ask_twice, "another_service.weigh", ctx.entity("Shelf", question).put]
    return await ctx.llm.run_tools(question, MODEL, tools)


@workflow
async def thoughtful(ctx: Context, message: str) -> ToolsResponse:
    return await ctx.llm.run_tools(message, CLAUDE, [look_up], reasoning_effort="low")


thinker = Agent(
    "thinker", "", CLAUDE, tools=[look_up], memory=True, thinking={"type": "enabled", "budget_tokens": 1024}
)
thinker.as_function(service="tooling", stream=True)


@function(service="another_service")
async def weigh(ctx: Context, thing: str) -> str:
    """Weigh something."""
    note("weighed", thing)
    return f"{thing} weighs 3 kg"

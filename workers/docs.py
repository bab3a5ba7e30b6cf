"""Documents: reviewed by a person before they are published."""

from __future__ import annotations

from typing import Any

from agnt5 import Context, function, workflow

DAY_MS = 86_400_000


@workflow
async def approval(ctx: Context, document_id: str) -> dict[str, str]:
    """Submit a document, wait a day for the signal `manager_approved`, publish it or not."""
    await ctx.task("docs", "submit_review", input={"id": document_id})
    answer: dict[str, Any] = await ctx.signal("manager_approved", timeout_ms=DAY_MS, default={"approved": False})
    if not answer["approved"]:
        return {"status": "rejected"}
    await ctx.task("docs", "publish", input={"id": document_id})
    return {"status": "published"}


@function
async def submit_review(ctx: Context, id: str) -> str:  # noqa: A002 - the API of the context's documentation
    """Tell the reviewers."""
    ctx.log().info("document %s waits for review", id)
    return f"review-{id}"


@function
async def publish(ctx: Context, id: str) -> str:  # noqa: A002
    """Make a document public."""
    ctx.log().info("document %s is public", id)
    return f"https://docs.example.com/{id}"

"""The demo's second act: a deployment that checks itself, and goes to production only when a person says yes."""

from __future__ import annotations

import asyncio
from typing import Any

from agnt5 import Context, function, workflow

APPROVAL = "deploy_production"

FORM = {
    "type": "object",
    "properties": {
        "window": {"enum": ["now", "tonight"], "title": "When", "default": "now"},
        "notify": {"type": "boolean", "title": "Tell the team", "default": True},
    },
    "required": ["window"],
    "additionalProperties": False,
}
"""What an approver says beside yes or no."""

CHECKS = ("unit tests", "migrations", "load test")


@workflow(service="demo")
async def deploy(ctx: Context, version: str, pace_s: float) -> dict[str, Any]:
    """Check a version, deploy it to staging, ask a person, deploy it to production."""
    await ctx.parallel(*(ctx.task(check, version=version, what=what, pace_s=pace_s) for what in CHECKS))
    staged = await ctx.task(roll_out, version=version, place="staging", pace_s=pace_s)
    answer = await ctx.human.approval(
        APPROVAL, payload={"version": version, "checks": list(CHECKS), "staging": staged}, form=FORM, timeout=3600
    )
    if not answer.approved:
        return {"version": version, "production": None, "decision": answer.decision, "by": answer.approver}
    live = await ctx.task(roll_out, version=version, place="production", pace_s=pace_s)
    return {"version": version, "production": live, "decision": answer.decision, "by": answer.approver}


@function(service="demo")
async def check(ctx: Context, version: str, what: str, pace_s: float) -> str:
    """One check of a version."""
    del ctx
    await asyncio.sleep(pace_s * len(what) / 4)
    return f"{what} of {version} passed"


@function(service="demo")
async def roll_out(ctx: Context, version: str, place: str, pace_s: float) -> str:
    """Bring a version to a place."""
    del ctx
    await asyncio.sleep(pace_s * 2)
    return f"https://{place}.example.com/{version}"

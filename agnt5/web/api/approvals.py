"""Approvals: what workflows ask people, and their decisions. Who decides comes from the credential alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter

from agnt5.web.access import Decider, Onlooker
from agnt5.web.api import models
from agnt5.web.api.common import Limit, RunId, TheWeb, problems
from agnt5.web.identity import Identity
from agnt5.web.wiring import Web

ApprovalName = Annotated[str, Path(description="The approval's name.", max_length=500, min_length=1)]
_APPROVALS = TypeAdapter(list[models.Approval])


def add_routes(api: APIRouter) -> None:
    """Reading and deciding."""
    add = api.add_api_route
    add(
        "/approvals", list_approvals, methods=["GET"], tags=["approvals"], summary="List open approvals",
        response_model=models.Approvals, responses=problems(),
    )  # fmt: skip
    add(
        "/runs/{run_id:path}/approvals/{name}/decision", decide, methods=["POST"], tags=["approvals"],
        summary="Decide an approval", response_model=models.Approval, responses=problems(400, 404, 409, 413),
    )  # fmt: skip
    add(
        "/runs/{run_id:path}/approvals", list_run_approvals, methods=["GET"], tags=["approvals"],
        summary="List a run's approvals", response_model=models.Approvals, responses=problems(404),
    )  # fmt: skip


async def list_approvals(
    who: Onlooker, web: TheWeb, limit: Limit = 50,
    role: Annotated[str | None, Query(description="Only those that this role may decide.", max_length=200)] = None,
    mine: Annotated[bool, Query(description="Only those that the caller's roles may decide.")] = False,
) -> dict[str, Any]:  # fmt: skip
    """Open approvals, oldest first. Who has not the scope `read` sees those that they may decide."""
    client: Any = web.client
    found = await client.approvals(role=role, status="open", limit=limit)
    return {"approvals": _seen(who, found, mine=mine)}


async def list_run_approvals(
    run_id: RunId, who: Onlooker, web: TheWeb,
    status: Annotated[Literal["open", "decided"] | None, Query(description="Default: all.")] = None, limit: Limit = 50,
) -> dict[str, Any]:  # fmt: skip
    """A run's approvals, oldest first."""
    await web.client.get(run_id)
    client: Any = web.client
    found = await client.approvals(run_id=run_id, status=status, limit=limit)
    return {"approvals": _seen(who, found, mine=False)}


async def decide(run_id: RunId, name: ApprovalName, body: models.Decision, who: Decider, web: TheWeb) -> Any:
    """Approve or reject. The first decision stands, or with a quorum each person's first vote.

    Refused with 403 and a `reason` (role, assignee, self, voted), or 422 if the form is not filled in as it should be.
    """
    client: Any = web.client
    return await client.decide(
        run_id, name, body.decision, approver=who.name, roles=await _roles(web, who, run_id, name),
        comment=body.comment, data=body.data,
    )  # fmt: skip


async def _roles(web: Web, who: Identity, run_id: str, name: str) -> list[str]:
    client: Any = web.client
    required = (await client.approval(run_id, name)).required_roles if who.local else ()
    return who.roles_for(required)


def _seen(who: Identity, found: list[Any], *, mine: bool) -> list[models.Approval]:
    approvals = _APPROVALS.validate_python(found, from_attributes=True)
    if who.may("read") and not mine:
        return approvals
    return [one for one in approvals if _concerns(who, one)]


def _concerns(who: Identity, approval: models.Approval) -> bool:
    if approval.assignees and who.name not in approval.assignees and not who.local:
        return False
    return not approval.required_roles or any(who.holds(role) for role in approval.required_roles)

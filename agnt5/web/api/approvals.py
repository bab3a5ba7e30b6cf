"""Approvals: what workflows ask people, and their decisions. Who decides comes from the credential alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query

from agnt5.client.approvals import ApprovalState
from agnt5.links import DecisionLinks, LinkError
from agnt5.web.access import Decider, Onlooker
from agnt5.web.api import models
from agnt5.web.api.common import IdempotencyKey, Limit, RunId, TheWeb, key_of, problems
from agnt5.web.identity import Identity
from agnt5.web.problems import Problem

ApprovalName = Annotated[str, Path(description="The approval's name.", max_length=500, min_length=1)]
LinkToken = Annotated[str, Path(description="The last part of a link.", max_length=4000, min_length=1)]

SCAN_LIMIT = 2000
"""Open approvals that are looked through for those of one person."""


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
        "/links/{token}", decide_by_link, methods=["POST"], tags=["approvals"], summary="Decide by a link",
        response_model=models.Decided, responses=problems(400, 403, 404, 409, 413, 422, guarded=False),
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
    all_of_them = who.may("read") and not mine
    found = await web.client.approvals(role=role, status="open", limit=limit if all_of_them else SCAN_LIMIT)
    return {"approvals": found if all_of_them else [one for one in found if concerns(who, one)][:limit]}


async def list_run_approvals(
    run_id: RunId, who: Onlooker, web: TheWeb,
    status: Annotated[Literal["open", "decided"] | None, Query(description="Default: all.")] = None, limit: Limit = 50,
) -> dict[str, Any]:  # fmt: skip
    """A run's approvals, oldest first. Who has not the scope `read` sees those that they may decide."""
    await web.client.get(run_id)  # tells that there is no such run
    found = await web.client.approvals(run_id=run_id, status=status, limit=limit)
    return {"approvals": [one for one in found if who.may("read") or concerns(who, one)]}


async def decide(
    run_id: RunId, name: ApprovalName, body: models.Decision, who: Decider, web: TheWeb,
    idempotency_key: IdempotencyKey = None,
) -> ApprovalState:  # fmt: skip
    """Approve or reject. The first decision stands, or with a quorum each person's first vote.

    Refused with 403 and a `reason` (role, assignee, self, voted), or 422 if the form is not filled in as it should be.
    """
    required = (await web.client.approval(run_id, name, ref=body.ref)).required_roles if who.local else ()
    return await web.client.decide(
        run_id, name, body.decision, approver=who.name, roles=who.roles_for(required), comment=body.comment,
        data=body.data, ref=body.ref, operation=key_of(who, idempotency_key),
    )  # fmt: skip


async def decide_by_link(token: LinkToken, body: models.LinkDecision, web: TheWeb) -> ApprovalState:
    """Approve or reject as the person whom the link names. The link is the credential: no token is needed."""
    secret = web.settings.link_secret
    if not secret:
        raise Problem(404, "no-links", "Not found", "This API takes no links: no AGNT5_LINK_SECRET is set.")
    try:
        link = DecisionLinks(secret).read(token)
    except LinkError as error:
        raise Problem(403, "link-not-valid", "The link is not valid", str(error)) from None
    return await web.client.decide(
        link.run_id, link.name, body.decision, approver=link.approver, roles=link.roles, comment=body.comment,
        data=body.data, ref=link.ref,
    )  # fmt: skip


def concerns(who: Identity, approval: ApprovalState) -> bool:
    """Whether somebody may decide an approval, as far as its roles and assignees go."""
    if approval.assignees and who.name not in approval.assignees and not who.local:
        return False
    return not approval.required_roles or any(who.holds(role) for role in approval.required_roles)

"""The inbox of approvals, and taking a decision from a form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from agnt5.client import AsyncClient
from agnt5.client.approvals import ApprovalState
from agnt5.contracts.errors import Agnt5Error, ApprovalDecidedError, ApprovalRefusedError, InvalidInputError
from agnt5.web.access import Decider, Onlooker
from agnt5.web.identity import Identity
from agnt5.web.pages.forms import PREFIX, WHOLE, Field, data_of, fields_of
from agnt5.web.pages.pages import Fault, InPages, Pages, text_of
from agnt5.web.problems import Problem

LISTED = 200
_DECISIONS = {"approve": "approved", "reject": "rejected"}
_REFUSED = {
    "role": "You do not hold a role that is needed",
    "assignee": "This is for somebody else to decide",
    "self": "You asked for this run yourself",
    "voted": "You have voted already",
    "form": "The form is not filled in as it should be",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An approval as a page shows it. `can`: this person may decide it; `why_not` says it where they may not."""

    state: ApprovalState
    id: str
    fields: list[Field]
    can: bool
    why_not: str = ""
    comment: str = ""


def add_routes(router: APIRouter) -> None:
    """Add the routes."""
    router.add_api_route("/approvals", inbox, methods=["GET"])
    router.add_api_route("/approvals/{run_id}/{ref}", one, methods=["GET"])
    router.add_api_route("/approvals/{run_id}/{ref}", decide, methods=["POST"])


async def inbox(request: Request, who: Onlooker, pages: InPages, every: bool = False) -> Response:
    """Open approvals, oldest first: those that this person may decide, or (`every`) all."""
    found = await pages.web.client.approvals(limit=LISTED)
    asked = [asked_of(who, state, at) for at, state in enumerate(found)]
    mine = [one for one in asked if one.can]
    shown = asked if every and who.may("read") else mine
    return pages.show(
        request, "approvals.html", who=who, here="approvals", live=True, asked=shown, every=every,
        others=len(asked) - len(mine), listed=LISTED, full=len(found) == LISTED, may_read=who.may("read"),
    )  # fmt: skip


async def one(request: Request, who: Onlooker, pages: InPages, run_id: str, ref: str) -> Response:
    """One approval by itself: open with its form, or decided with who decided what."""
    return await _show(request, pages, who, await request_of(pages.web.client, run_id, ref))


async def decide(request: Request, who: Decider, pages: InPages, run_id: str, ref: str) -> Response:
    """Approve or reject."""
    form = await pages.form(request)
    client = pages.web.client
    state = await request_of(client, run_id, ref)
    decided = await take(client, state, form, approver=who.name, roles=who.roles_for(state.required_roles))
    if isinstance(decided, Fault):
        latest = await request_of(client, run_id, ref)
        return await _show(request, pages, who, latest, decided, form)
    said = decided.status if decided.status in {"approved", "rejected"} else "voted"
    if who.may("read"):
        return pages.go(request, "runs", run_id, said=said)
    return pages.go(request, "approvals", said=said)


async def _show(
    request: Request, pages: Pages, who: Identity, state: ApprovalState, problem: Fault | None = None,
    form: FormData | None = None,
) -> Response:  # fmt: skip
    if not who.may("read") and not _concerns(who, state):
        raise Problem(403, "forbidden", "Forbidden", "This approval is for others, and you may not read runs.")
    return pages.show(
        request, "approval.html", who=who, here="approvals", problem=problem,
        asked=asked_of(who, state, 0, sent=None if form is None else sent_of(form)), may_read=who.may("read"),
    )  # fmt: skip


# ---- what a page tells of an approval


async def asked_in(client: AsyncClient, who: Identity, run_id: str) -> list[Asked]:
    """All approvals of one run, open ones first."""
    found = await client.approvals(run_id=run_id, status=None, limit=LISTED)
    found.sort(key=lambda state: state.status != "open")
    return [asked_of(who, state, at) for at, state in enumerate(found)]


def asked_of(who: Identity, state: ApprovalState, at: int, sent: Mapping[str, str] | None = None) -> Asked:
    """An approval for one person. `sent` is a form that was refused: what was typed is not lost."""
    id_ = f"ask-{at}"
    why_not = _why_not(who, state)
    return Asked(
        state=state, id=id_, fields=fields_of(state.form, id=f"{id_}-f", given=sent), can=not why_not, why_not=why_not,
        comment="" if sent is None else sent.get("comment", ""),
    )  # fmt: skip


def _why_not(who: Identity, state: ApprovalState) -> str:
    """Why this person cannot decide; the store decides in the end, this only spares a vain try."""
    elsewhere = bool(state.assignees) and not who.local and who.name not in state.assignees
    own = bool(state.requester) and state.requester == who.name and not state.self_approval
    reasons = (
        (state.status != "open", "It is decided."),
        (not who.may("decide"), "You have not the scope 'decide'."),
        (not _holds_role(who, state.required_roles), f"A role is needed: {' or '.join(state.required_roles)}."),
        (elsewhere, f"It is for {', '.join(state.assignees)} to decide."),
        (any(vote.approver == who.name for vote in state.votes), "You have voted."),
        (own, "You asked for this run; somebody else has to decide."),
    )
    return next((why for holds, why in reasons if holds), "")


def _holds_role(who: Identity, required: Iterable[str]) -> bool:
    needed = list(required)
    return not needed or any(who.holds(role) for role in needed)


def _concerns(who: Identity, state: ApprovalState) -> bool:
    asked = who.local or not state.assignees or who.name in state.assignees
    return asked and _holds_role(who, state.required_roles)


# ---- deciding


async def request_of(client: AsyncClient, run_id: str, ref: str) -> ApprovalState:
    """The approval `ref` of a run. Raises `RunNotFoundError`, or a 404 problem."""
    await client.state(run_id)
    for state in await client.approvals(run_id=run_id, status=None, limit=10_000):
        if state.ref == ref:
            return state
    raise Problem(404, "approval-not-found", "There is no such approval", f"Run {run_id} asked for none {ref!r}.")


def sent_of(form: FormData) -> dict[str, str]:
    """The fields of a form that are texts."""
    return {name: value for name, value in form.items() if isinstance(value, str)}


async def take(
    client: AsyncClient, state: ApprovalState, form: FormData, *, approver: str, roles: Iterable[str]
) -> ApprovalState | Fault:
    """Decide as the form says; a fault tells why that could not be."""
    decision = _DECISIONS.get(text_of(form, "decision"))
    if decision is None:
        return Fault(422, "Nothing was decided", "Press Approve or Reject.")
    sent = sent_of(form)
    try:
        data = _data(state, sent, decision)
        return await client.decide(
            state.run_id, state.name, decision, approver=approver, roles=roles, comment=sent.get("comment", ""),
            data=data, ref=state.ref, operation=sent.get("operation") or None,
        )  # fmt: skip
    except (ApprovalRefusedError, ApprovalDecidedError, InvalidInputError) as error:
        return fault_of(error)


def _data(state: ApprovalState, sent: Mapping[str, str], decision: str) -> object:
    """What the form was filled in with. Who rejects need not fill it in."""
    filled = any(value.strip() for name, value in sent.items() if name == WHOLE or name.startswith(PREFIX))
    return None if decision == "rejected" and not filled else data_of(state.form, sent)


def fault_of(error: Agnt5Error) -> Fault:
    """Why a decision was not taken, for people."""
    match error:
        case ApprovalRefusedError():
            status = 422 if error.reason == "form" else 403
            return Fault(status, _REFUSED.get(error.reason, "The decision was refused"), str(error))
        case ApprovalDecidedError():
            return Fault(409, f"It is decided already: {error.decision}", str(error))
        case _:
            return Fault(422, "The form is not filled in as it should be", str(error))

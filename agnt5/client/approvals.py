"""Approvals from outside: what waits for people, and their decisions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agnt5 import codec, forms
from agnt5.contracts.approvals import DECISIONS, Vote, check_text, check_texts
from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import (
    Agnt5Error,
    ApprovalDecidedError,
    ApprovalNotFoundError,
    ApprovalRefusedError,
    InvalidInputError,
)
from agnt5.runtime.dispatch import Dispatcher
from agnt5.store import asks, browse
from agnt5.store.asks import AskRecord
from agnt5.store.replies import Verdict
from agnt5.store.store import Store

COMMENT_LIMIT = 10_000
"""Characters of a comment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalState:
    """A request for people's decision as it stood when it was read. Times are aware UTC datetimes.

    `ref` tells it from others of the same name in its run; `handler` is the run's. `required_roles` and `assignees`
    say who may decide, anybody where empty; `requester` asked for the run. `form` is the JSON Schema of the decision's
    data. `status`: "open", "approved", "rejected", "timeout", or "withdrawn" by its run. `votes` are in their order.
    """

    run_id: str
    name: str
    ref: str
    handler: str
    payload: Any
    required_roles: list[str]
    assignees: list[str]
    quorum: int
    form: dict[str, Any] | None
    requester: str
    self_approval: bool
    requested_at: datetime
    due_at: datetime | None
    status: str
    votes: list[Vote]
    decided_at: datetime | None


def state_of(ask: AskRecord) -> ApprovalState:
    """A record in a form for people."""
    asked = codec.loads(ask.request)
    due_ms = asked.get("due_ms")
    return ApprovalState(
        run_id=ask.run_id,
        name=asked["name"],
        ref=ask.ref,
        handler=ask.handler,
        payload=asked.get("payload"),
        required_roles=asked.get("required_roles", []),
        assignees=asked.get("assignees", []),
        quorum=asked.get("quorum", 1),
        form=asked.get("form"),
        requester=asked.get("requester", ""),
        self_approval=asked.get("self_approval", False),
        requested_at=at_ms(ask.asked_ms),
        due_at=at_ms(due_ms) if due_ms else None,
        status=ask.status,
        votes=[_vote(codec.loads(entry)) for entry in ask.votes],
        decided_at=None if ask.closed_ms is None else at_ms(ask.closed_ms),
    )


def _vote(entry: dict[str, Any]) -> Vote:
    decision = entry.get("decision", "approved")
    return Vote(entry["approver"], decision, entry.get("comment", ""), at_ms(entry["at"]), entry.get("data"))


# ---- reading


async def listed(
    store: Store, *, run_id: str | None, role: str | None, status: str | None, limit: int
) -> list[ApprovalState]:
    """Requests, oldest first. The rules are those of `AsyncClient.approvals`."""
    if status not in {"open", "decided", None}:
        raise InvalidInputError(f"status {status!r}: expected 'open', 'decided', or None for both")
    if run_id is None and status != "open":
        raise InvalidInputError(f"status {status!r}: needs a run_id; decided approvals are kept with their run only")
    found: list[ApprovalState] = []
    if run_id is not None:
        for ask in await asks.of_run(store, run_id):
            if status is None or (ask.status == "open") == (status == "open"):
                _take(found, ask, role)
        return found[:limit]
    async for ask in asks.inbox(store):
        if len(found) >= limit:
            break
        _take(found, ask, role)
    return found


def _take(found: list[ApprovalState], ask: AskRecord, role: str | None) -> None:
    state = state_of(ask)
    if role is None or not state.required_roles or role in state.required_roles:
        found.append(state)


async def found_by(store: Store, run_id: str, name: str, ref: str | None = None) -> ApprovalState:
    """The request `ref` of a run; without it the oldest open one of this name, else the latest of it.

    Raises `ApprovalNotFoundError`, `SealedPayloadError`.
    """
    if ref is not None:
        known = [state_of(ask) for ask in await asks.records(store, [(run_id, ref)], opened=store.sealer.open)]
    else:
        known = [state_of(ask) for ask in await asks.of_run(store, run_id, opened=store.sealer.open)]
    named = [state for state in known if state.name == name]
    if named:
        return next((state for state in named if state.status == "open"), named[-1])
    asked = ", ".join(sorted({repr(state.name) for state in known if state.status == "open"}))
    others = f"open there: {asked}" if asked else "it waits for no decision"
    which = f"{name!r}" if ref is None else f"{name!r} ({ref})"
    raise ApprovalNotFoundError(f"run {run_id} asks for no approval {which}; {others}")


# ---- deciding


async def decide(  # noqa: PLR0913 - what there is to say about a decision
    store: Store,
    dispatcher: Dispatcher,
    run_id: str,
    name: str,
    decision: str,
    *,
    approver: str,
    roles: Iterable[str],
    comment: str,
    data: Any,
    ref: str | None,
    operation: str | None,
    limit: int,
) -> ApprovalState:
    """Decide, and give the state after it. The rules are those of `AsyncClient.decide`."""
    if decision not in DECISIONS:
        raise InvalidInputError(f"decision: expected 'approved' or 'rejected', found {decision!r}")
    who = {"approver": check_text(approver, "approver", "a person's name"), "decision": decision}
    held = check_texts(roles, "roles", "the name of a role")
    more = {"comment": _comment(comment), "data": data}
    written = codec.dumps(more, what=f"decision on {name!r}", limit=limit)
    try:
        state = await found_by(store, run_id, name, ref)
    except ApprovalNotFoundError:
        await browse.record(store, run_id)  # raises where it is the run that does not exist
        raise
    _check_form(state, decision, codec.loads(written)["data"])
    verdict = await store.decide(
        run_id,
        state.ref,
        operation=operation or uuid.uuid4().hex,
        approver=approver,
        roles=held,
        decision=decision,
        who=_members(codec.dumps(who, what="approver")),
        more=_members(written),
    )
    dispatcher.send(verdict.out)
    if verdict.word != "ok":
        raise _refused(state, verdict, approver, held)
    return next(iter([state_of(ask) for ask in await asks.records(store, [(run_id, state.ref)])]), state)


def _comment(comment: Any) -> str:
    if not isinstance(comment, str):
        raise InvalidInputError(f"comment: expected text, found {comment!r}")
    if len(comment) > COMMENT_LIMIT:
        raise InvalidInputError(f"comment: at most {COMMENT_LIMIT:,} characters are allowed, found {len(comment):,}")
    return comment


def _members(data: bytes) -> bytes:
    """The members of a JSON object, to be put behind others."""
    return b"," + data[1:-1]


def _check_form(state: ApprovalState, decision: str, data: Any) -> None:
    """Data of a request with a form has to fit it. Who rejects need not fill it in."""
    if state.form is None or state.status != "open" or (data is None and decision == "rejected"):
        return
    if wrong := forms.faults(state.form, data):
        raise ApprovalRefusedError(
            f"{_named(state)}: the form is not filled in as it should be: {'; '.join(wrong)}", reason="form"
        )


def _named(state: ApprovalState) -> str:
    return f"approval {state.name!r} of run {state.run_id}"


def _refused(state: ApprovalState, verdict: Verdict, approver: str, roles: list[str]) -> Agnt5Error:
    what = _named(state)
    match verdict.word:
        case "closed":
            at = "" if verdict.at_ms is None else f" at {at_ms(verdict.at_ms):%Y-%m-%d %H:%M:%S} UTC"
            how = {"timeout": "timed out", "withdrawn": "was withdrawn by its run"}.get(
                verdict.status, f"was {verdict.status} by {verdict.by}"
            )
            return ApprovalDecidedError(
                f"{what} {how}{at}; the decision of {approver} came after it and changes nothing",
                decision=verdict.status,
            )
        case "role":
            has = f"has {', '.join(roles)}" if roles else "has none"
            why = f"one of the roles {', '.join(state.required_roles)} is needed, {approver} {has}"
        case "assignee":
            why = f"it is for {', '.join(state.assignees)} to decide, not for {approver}"
        case "self":
            why = f"{approver} asked for this run, and somebody else has to decide"
        case _:
            why = f"{approver} has voted already; {state.quorum} different people have to approve"
    return ApprovalRefusedError(f"{what}: {why}", reason=verdict.word)

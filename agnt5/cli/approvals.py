"""`agnt5 approvals`: what waits for people, and their decisions."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from agnt5.cli.output import Cell, as_json, columns, cut, hint, line, print_json
from agnt5.cli.place import chosen_url
from agnt5.cli.values import read_json
from agnt5.client import ApprovalState, Client
from agnt5.client.moments import span

_STYLES = {"open": "open", "approved": "ok", "rejected": "failed"}


def list_approvals(url: str | None, *, run_id: str | None, role: str | None, limit: int, json: bool) -> None:
    """`agnt5 approvals list`."""
    with Client(chosen_url(url)) as client:
        status = "open" if run_id is None else None
        found: list[ApprovalState] = client.approvals(run_id=run_id, role=role, status=status, limit=limit)
    if json:
        for state in found:
            print_json(asdict(state), indent=None)
    else:
        print_approvals(found)


def decide(
    url: str | None, run_id: str, name: str, decision: str, *, approver: str | None, roles: Sequence[str],
    comment: str, data: str | None,
) -> None:  # fmt: skip
    """`agnt5 approvals decide`."""
    value = read_json(data, "--data")
    with Client(chosen_url(url)) as client:
        state = client.decide(
            run_id, name, decision, approver=approver or getpass.getuser(), roles=roles, comment=comment, data=value
        )
    line((state.status, _STYLES.get(state.status, "note")))
    if state.status == "open":
        hint(f"{len(state.votes)} of {state.quorum} people have approved")
    else:
        hint(f"agnt5 runs show {run_id}")


def print_approvals(states: Sequence[ApprovalState]) -> None:
    """A table of approvals."""
    if not states:
        line("no approvals")
        return
    now = datetime.now(UTC)
    titles = ["RUN", "NAME", "STATUS", "ASKED", "DUE", "WHO", "VOTES", "PAYLOAD"]
    rows: list[list[str | Cell]] = [[(title, "bold") for title in titles]]
    for state in states:
        due = "" if state.due_at is None else f"in {_between(now, state.due_at)}" if state.due_at > now else "passed"
        rows.append(
            [
                state.run_id,
                state.name,
                (state.status, _STYLES.get(state.status, "note")),
                f"{_between(state.requested_at, now)} ago",
                due if state.status == "open" else "",
                _who(state),
                f"{len(state.votes)}/{state.quorum}",
                "" if state.payload is None else cut(as_json(state.payload, indent=None), 40),
            ]
        )
    columns(rows)


def _who(state: ApprovalState) -> str:
    """Who may decide."""
    people = " or ".join(state.assignees)
    roles = " or ".join(state.required_roles)
    return f"{people} as {roles}" if people and roles else people or roles or "anybody"


def _between(start: datetime, end: datetime) -> str:
    return span(max(0.0, (end - start).total_seconds() * 1000))

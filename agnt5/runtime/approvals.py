"""How a request for people's decision becomes an ask in the store, and how those who are told of it get a link.

Links are made when the handler that tells people begins, so that no journal holds one: whoever can read a run must
not be able to decide for somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from agnt5 import codec
from agnt5.contracts.clock import at_ms
from agnt5.contracts.settings import Settings
from agnt5.links import DecisionLinks
from agnt5.replay import journal
from agnt5.replay.commands import RequestApproval
from agnt5.replay.events import RunStarted
from agnt5.sdk.human import NOTICE
from agnt5.store.replies import NewAsk

NOTICE_ROOM = 131_072
"""Bytes by which a notice may be longer than the payload that it tells of: names, roles, assignees."""

LINK_LIFE = timedelta(days=7)
"""How long a link holds where the approval has no due time."""

__all__ = ["LINK_LIFE", "NOTICE", "NOTICE_ROOM", "new_ask", "with_link"]


def new_ask(command: RequestApproval, limit: int | None = None) -> NewAsk:
    """The ask that a command opens. Raises `PayloadTooLargeError` for a payload and form beyond `limit` bytes."""
    terms, body = command.terms, journal.encode_command(command)
    assert body is not None
    if limit is not None and len(body) > limit:
        codec.dumps([terms.payload, terms.form], what=f"payload and form of approval {terms.name!r}", limit=limit)
    return NewAsk(
        command.seq,
        body,
        due_ms=terms.due_ms or None,
        quorum=terms.quorum,
        roles=terms.required_roles,
        people=terms.assignees,
        barred="" if terms.self_approval else terms.requester,
    )


def with_link(started: RunStarted, notice: Mapping[str, Any], settings: Settings, now_ms: int) -> dict[str, Any]:
    """The input of a handler that tells people of an approval, with the link to decide it where there can be one."""
    told: dict[str, Any] = dict(started.input)
    approver = notice.get("approver")
    if approver and started.parent and settings.link_secret and settings.web_url:
        due_ms = notice.get("due_ms")
        token = DecisionLinks(settings.link_secret).make(
            started.parent,
            notice["name"],
            notice["ref"],
            approver=approver,
            roles=(),
            expires_at=at_ms(due_ms) if due_ms else at_ms(now_ms) + LINK_LIFE,
        )
        told["link"] = f"{settings.web_url.rstrip('/')}/decide/{token}"
    return told

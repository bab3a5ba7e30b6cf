"""What all answers of Server-Sent Events have in common."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any

from fastapi import Header
from sse_starlette import EventSourceResponse, ServerSentEvent

from agnt5.web.wiring import Web

PING_S = 15
SEND_TIMEOUT_S = 30.0
"""A client that takes nothing for so long is given up."""

STOP_S = 1.0
"""How long a stream may take to end when the server stops; one whose client takes nothing is broken off then."""

RETRY_MS = 1000
"""How long a browser waits before it connects again."""

LastEventId = Annotated[str | None, Header(description="As `after`; browsers send it.", max_length=40)]


def told_as(description: str) -> dict[int | str, dict[str, Any]]:
    """The documentation of a response that is a stream of events."""
    return {200: {"description": description, "content": {"text/event-stream": {"schema": {}}}}}


FOLLOWING: dict[int | str, dict[str, Any]] = {
    **told_as("Server-Sent Events."),
    204: {"description": "The run has ended, and all of it is known: do not connect again."},
}
"""The documentation of streams that are followed with `Last-Event-ID`."""


def greeting(run_id: str) -> ServerSentEvent:
    """What a stream of a run begins with."""
    return ServerSentEvent(comment=f"following {json.dumps(run_id)}", retry=RETRY_MS)


def event_stream(
    web: Web, events: AsyncGenerator[ServerSentEvent], headers: Mapping[str, str] | None = None
) -> EventSourceResponse:
    """The response that sends events as they come, kept alive while there are none.

    It ends when the server begins to stop: in order, so that the client knows what it has and connects to another.
    """
    return EventSourceResponse(
        web.stopping.each(events),
        headers=headers,
        ping=PING_S,
        ping_message_factory=lambda: ServerSentEvent(comment="still here"),
        send_timeout=SEND_TIMEOUT_S,
        shutdown_grace_period=STOP_S,
    )

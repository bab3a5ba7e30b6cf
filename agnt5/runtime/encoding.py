"""Journal bodies of users' values: checked for form and size, serialised once."""

from __future__ import annotations

from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import PayloadTooLargeError, SerializationError
from agnt5.replay import journal
from agnt5.replay.events import Event

LEAST_MESSAGE = 1000
"""Characters of an error's message that are kept, however low the limit is."""


def bounded(data: dict[str, Any], limit: int) -> dict[str, Any]:
    """Error data that can be written in `limit` bytes: details, traceback and message give way, in this order."""
    try:
        codec.dumps(data, what="error", limit=limit)
    except SerializationError:
        return bounded({**data, "details": repr(data.get("details"))}, limit)
    except PayloadTooLargeError:
        if data.get("details") is not None:
            return bounded({**data, "details": None}, limit)
        if data.get("traceback"):
            return bounded({**data, "traceback": ""}, limit)
        message = str(data.get("message", ""))
        kept = max(LEAST_MESSAGE, limit // 8)  # a character has up to six bytes of JSON
        return {**data, "message": f"{message[:kept]}... ({len(message):,} characters, over AGNT5_PAYLOAD_LIMIT)"}
    return data


def error_json(data: dict[str, Any], limit: int) -> bytes:
    """Error data as JSON, of not much more than `limit` bytes."""
    return codec.dumps(bounded(data, limit), what="error")


def encode_checked(event: Event, value: Any, what: str, limit: int) -> bytes:
    """The body of an event which carries a user's value.

    Raises `SerializationError` that names the place inside `what` with no JSON form, `PayloadTooLargeError`.
    """
    try:
        body = journal.encode(event, what)
    except SerializationError:
        codec.dumps(value, what=what, limit=limit)  # raises with the place
        raise
    if codec.suspicious(body) or len(body) > limit:
        codec.dumps(value, what=what, limit=limit)
    return body

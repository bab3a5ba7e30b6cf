"""Journal bodies of users' values: checked for form and size, serialised once."""

from __future__ import annotations

from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import SerializationError
from agnt5.replay import journal
from agnt5.replay.events import Event


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

"""What the scripts of budgets answer."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, cast

from agnt5.contracts.budgets import Sort

HOLD_MS = 3_600_000
"""How long what a call holds counts, where it is never settled: its worker died, and nobody tried it again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The limit that is in the way. `until_ms` is the end of the window, where there is one."""

    what: Sort
    used: int
    held: int
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether an estimate is held now, and if not, why."""

    refusal: Refusal | None = None


async def reserved(pending: Awaitable[list[Any]]) -> Answer:
    reply = await pending
    if reply[0] == b"OK":
        return Answer()
    what, used, held, until = (part.decode() for part in reply[1:])
    return Answer(Refusal(cast("Sort", what), int(used), int(held), int(until) if until else None))


async def done(pending: Awaitable[list[Any]]) -> bool:
    """Whether there was something to settle or to reset."""
    reply = await pending
    return bool(reply[0] == b"OK")

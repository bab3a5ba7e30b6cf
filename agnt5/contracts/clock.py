"""Time at the edges: the only module that reads a clock, and the conversions to integer milliseconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from agnt5.contracts.errors import InvalidInputError


def now_ms() -> int:
    """Wall-clock milliseconds of this machine: for display only, never for a durable decision (rule R3)."""
    return time.time_ns() // 1_000_000


def now_ns() -> int:
    """Wall-clock nanoseconds of this machine: for display only, as `now_ms`."""
    return time.time_ns()


def monotonic_s() -> float:
    """Seconds that only grow, for measuring how long a thing took inside one process."""
    return time.monotonic()


def to_ms(value: object, what: str = "timeout") -> int | None:
    """A timedelta, or a number of seconds, as whole milliseconds; None stays None."""
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e11:  # noqa: PLR2004
        raise InvalidInputError(f"{what}: a non-negative timedelta or number of seconds is needed, found {value!r}")
    return round(seconds * 1000)


def at_ms(ms: int) -> datetime:
    """Epoch milliseconds as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)

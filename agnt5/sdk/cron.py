"""Cron expressions: checked when they are written down, computed in the time zone that they mean."""

from __future__ import annotations

import functools
import re
from datetime import datetime, tzinfo
from typing import Any

from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import InvalidInputError

EXAMPLE = "for example '0 0 * * *' for daily at midnight"

_RANDOM = re.compile(r"(^|[\s,])[RrHh](\(|[\s,/]|$)")
_HOUR_FIELD = 1
_CHECKED_FROM_MS = 1_767_225_600_000


def zone(name: str, what: str = "timezone") -> tzinfo:
    """The time zone of an IANA name. Raises `InvalidInputError` that says what was found."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - loaded on first use

    try:
        return ZoneInfo(name)
    except (ValueError, TypeError, OSError, KeyError):
        raise InvalidInputError(
            f"{what}: expected an IANA time zone such as 'UTC' or 'Europe/Berlin', found {name!r}"
        ) from None


def check_cron(expression: str, what: str = "cron") -> str:
    """Return a cron expression that is well formed and fires some day, or raise `InvalidInputError`."""
    next_fire_ms(expression, after_ms=_CHECKED_FROM_MS, what=what)
    return expression


def next_fire_ms(expression: str, *, after_ms: int, timezone: str = "UTC", what: str = "cron") -> int:
    """The first time after `after_ms` at which the expression fires, in epoch milliseconds.

    Five fields, or six with seconds at the end, or a name such as `@daily`. Where the clocks go forward, a
    time that does not exist fires when they have; where they go back, a fixed hour fires once and `*` fires
    by real time. The same arguments always give the same answer.
    """
    from croniter import croniter  # noqa: PLC0415 - heavy, and only schedules need it

    expression = _well_formed(expression, what)
    start = at_ms(after_ms).astimezone(zone(timezone))
    try:
        times = croniter(expression, start)
        fire: datetime = times.get_next(datetime)
        while fire.fold and not _every_hour(expression):
            fire = times.get_next(datetime)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise InvalidInputError(f"{what}: {expression!r} is no cron expression ({error}); {EXAMPLE}") from None
    return round(fire.timestamp() * 1000)


def _well_formed(expression: Any, what: str) -> str:
    if not isinstance(expression, str) or not expression.strip():
        raise InvalidInputError(f"{what}: expected a cron expression, {EXAMPLE}, found {expression!r}")
    if _RANDOM.search(expression):
        raise InvalidInputError(f"{what}: {expression!r} has a random field, which cannot be replayed; {EXAMPLE}")
    return expression.strip()


@functools.lru_cache(maxsize=1024)
def _every_hour(expression: str) -> bool:
    fields = expression.split()
    return len(fields) <= _HOUR_FIELD or "*" in fields[_HOUR_FIELD]

"""How values are shown on pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agnt5.client.moments import span
from agnt5.client.runs import RunState, lacks_key
from agnt5.telemetry.logs_format import field_word
from agnt5.web.pages import layout

SHOWN = 20_000
"""Characters of JSON that a page shows; the rest is behind a link."""

_BRIEF = 90
_LINE = 2000
_LEVELS = {"DEBUG": "note", "WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_TONES = {"": "note", "open": "running"}


@dataclass(frozen=True, slots=True)
class Pretty:
    """JSON for reading; `left_out` characters of it were too many."""

    text: str
    left_out: int


def pretty(value: Any) -> Pretty:
    """A value as indented JSON, cut when it is huge."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return Pretty(text[:SHOWN], max(0, len(text) - SHOWN))


def ago(moment: datetime | None) -> str:
    """How long ago, or in how long, in one unit."""
    if moment is None:
        return "-"
    seconds = (datetime.now(UTC) - moment).total_seconds()
    text = _roughly(abs(seconds))
    if text == "now":
        return "just now"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _roughly(seconds: float) -> str:
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "now"


def clock(moment: datetime | None) -> str:
    """A time in UTC, to the millisecond."""
    return "-" if moment is None else layout.clock(moment.astimezone(UTC))


def iso(moment: datetime) -> str:
    """A time for machines."""
    return moment.isoformat()


def between(start: datetime, end: datetime) -> str:
    """A duration."""
    return span(max(0.0, (end - start).total_seconds() * 1000))


def duration(run: RunState) -> str:
    """How long a run took, or has taken so far."""
    return between(run.created_at, run.ended_at or datetime.now(UTC))


def brief(text: str) -> str:
    """A text on one line, cut."""
    flat = " ".join(text[: 4 * _BRIEF].split())
    return flat if len(flat) <= _BRIEF else flat[: _BRIEF - 3] + "..."


def count(number: int) -> str:
    """A number with separators."""
    return f"{number:,}"


def tone(outcome: str) -> str:
    """The colour's class of an outcome."""
    return _TONES.get(outcome, outcome)


def level(name: str) -> str:
    """The colour's class of a log level."""
    return _LEVELS.get(name, "info")


def shortened(text: str) -> str:
    """A text as it is, cut when it is long."""
    return text if len(text) <= _LINE else text[:_LINE] + "..."


ALL = {
    "pretty": pretty, "ago": ago, "clock": clock, "iso": iso, "duration": duration, "count": count, "tone": tone,
    "brief": brief, "level": level, "shortened": shortened, "word": field_word, "lacks_key": lacks_key,
}  # fmt: skip

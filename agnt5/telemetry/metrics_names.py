"""Names and numbers as Prometheus takes them: what is made valid, what is refused, which buckets suit a unit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal

Sort = Literal["counter", "histogram", "gauge"]

METHODS: dict[str, str] = {"counter": "inc", "histogram": "observe", "gauge": "set"}
"""What prometheus-client calls telling a metric of each sort a value."""

NAME_LIMIT = 200
VALUE_LIMIT = 200
"""Characters of a label's value; a longer one is cut."""

OURS = "agnt5_"
OTHER = "other"
"""The value of every label in the series that takes what is beyond the limit of series."""

_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_]+")
_LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
_RESERVED_LABELS = frozenset({"le", "quantile", "pid"})
_MILLISECONDS = ("_ms", "_milliseconds", "_millis")
_SECONDS = ("_seconds", "_s", "_sec", "_secs")

_BUCKETS: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...] = (
    (
        _MILLISECONDS,
        (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000),
    ),
    (_SECONDS, (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)),
    (("_bytes",), tuple(float(4**power) for power in range(4, 16))),
    (("_ratio",), (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)),
)
_ANY_BUCKETS = (0.01, 0.1, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 100_000, 1_000_000)


class MisuseError(ValueError):
    """A metric was used as it cannot be. `problem` is one word for its sort; the text says what to do."""

    def __init__(self, problem: str, text: str) -> None:
        super().__init__(text)
        self.problem = problem


def valid_name(name: object, sort: Sort) -> str:
    """A name that Prometheus takes: `requests.count` is `requests_count`. Raises `MisuseError`.

    Whatever is no letter of ASCII, digit or underscore becomes one underscore. A counter's `_total` is left out here:
    prometheus-client adds it to what is shown.
    """
    if not isinstance(name, str):
        raise MisuseError("name", f"a name is text, found {name!r:.80}")
    made = _NOT_IN_NAME.sub("_", name)
    if made[:1].isdigit():
        made = f"_{made}"
    if sort == "counter":
        made = made.removesuffix("_total")
    if not made.strip("_") or len(made) > NAME_LIMIT:
        raise MisuseError(
            "name", f"a name has letters of ASCII or digits in it, and at most {NAME_LIMIT} characters; choose another"
        )
    if made.startswith(OURS):
        raise MisuseError("name", f"names that begin with {OURS} are those of the runtime; choose another")
    return made


def valid_labels(names: Iterable[str]) -> tuple[str, ...]:
    """The names of labels, sorted. Raises `MisuseError`."""
    found = tuple(sorted(names))
    for name in found:
        if not _LABEL.match(name) or name.startswith("__") or name in _RESERVED_LABELS:
            raise MisuseError(
                "label names",
                f"the label name {name!r:.80} is not valid: it has letters of ASCII, digits and underscores, does not"
                f" begin with a digit or with __, and is none of {', '.join(sorted(_RESERVED_LABELS))}; rename it",
            )
    return found


def label_text(value: object) -> str:
    """A label's value as text that any encoder takes, cut where it is long."""
    return str(value)[:VALUE_LIMIT].encode("utf-8", "replace").decode("utf-8")


def number(sort: Sort, value: object) -> float:
    """A value that can be counted. Raises `MisuseError`."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError  # noqa: TRY301 - "12" is a mistake that should be seen
        found = float(value)  # type: ignore[arg-type]  # whatever has a number's form
    except (TypeError, ValueError, OverflowError):
        raise MisuseError("value", f"the value is a number, found {value!r:.80}; it is not counted") from None
    if not math.isfinite(found):
        raise MisuseError("value", f"the value {found} would spoil all that follows; it is not counted")
    if sort == "counter" and found < 0:
        raise MisuseError("value", f"a counter only grows, found {found:g}; use .gauge(...) for what goes down")
    return found


def buckets_of(name: str) -> tuple[float, ...]:
    """Bounds of a histogram, by the unit that its name ends in."""
    return next((bounds for ends, bounds in _BUCKETS if name.endswith(ends)), _ANY_BUCKETS)


def timed(name: str, milliseconds: float) -> tuple[str, float]:
    """Name and value of a time that was measured: in seconds, unless the name says milliseconds."""
    if name.endswith((*_MILLISECONDS, ".ms")):
        return name, milliseconds
    unit_told = name.endswith((*_SECONDS, ".seconds"))
    return name if unit_told else f"{name}_seconds", milliseconds / 1000

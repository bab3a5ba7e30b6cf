"""Where a run stands in a distributed trace: W3C trace context, computed from what the run's journal says.

Nothing of it is kept anywhere else: each worker that goes on with a run finds the same ids. The span of a run has an
id of its own before anybody has recorded it, so that activations, steps and children on any worker can name it as
their parent, and whoever ends the run records it.

One span is one stretch of a run from its start to an end: a generation of `continue_as_new` is below the first
generation, what follows a re-opening is below the stretch that failed. Attempts are spans below their run's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
CORRELATION = "x-correlation-id"

TRACE_HEADERS = frozenset({TRACEPARENT, TRACESTATE})
"""What says where the receiver of a message stands in a trace."""

_FORM = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Trace:
    """A run's place: its trace, its own span, the span above it ("" where it begins the trace)."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    sampled: bool = True
    state: str = ""

    def traceparent(self, span_id: str = "") -> str:
        """The header that makes a receiver a child of the run's span, or of another one of the same trace."""
        return f"00-{self.trace_id}-{span_id or self.span_id}-{'01' if self.sampled else '00'}"

    def reopened(self, times: int) -> Trace:
        """The place of what follows when the run was opened again for the n-th time: below its first stretch."""
        span_id = _digest(f"{self.span_id}!{times}", 8)
        return replace(self, span_id=span_id, parent_id=self.span_id) if times else self

    def part(self, name: str) -> str:
        """The id of a span below the run's that is known by its name before it exists."""
        return _digest(f"{self.span_id} {name}", 8)


NOWHERE = Trace("", "")
"""In no trace."""


def trace_of(run_id: str, headers: Mapping[str, str], started_ms: int) -> Trace:
    """The place of a run. Without a (valid) `traceparent` header it begins a trace of its own.

    Rules of W3C Trace Context, level 1: an invalid header is as none, unknown versions are read as version 00.
    """
    own = _digest(f"{run_id}@{started_ms}", 24)
    trace_id, span_id = own[:32], own[32:]
    match = _FORM.match(_header(headers, TRACEPARENT).strip())
    if match is None or not _valid(match):
        return Trace(trace_id, span_id)
    return Trace(match[2], span_id, match[3], bool(int(match[4], 16) & _SAMPLED), _header(headers, TRACESTATE))


def below(trace: Trace, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a child of a run: those of the run, with the run's span in the place of its parent's.

    The same whenever the child's start is repeated.
    """
    handed = {name: value for name, value in headers.items() if name.lower() not in TRACE_HEADERS}
    if trace.trace_id:
        handed[TRACEPARENT] = trace.traceparent()
        if trace.state:
            handed[TRACESTATE] = trace.state
    return handed


def _valid(match: re.Match[str]) -> bool:
    known_version = match[1] != "00" or match[5] is None
    return known_version and match[1] != "ff" and bool(match[2].strip("0")) and bool(match[3].strip("0"))


def _header(headers: Mapping[str, str], name: str) -> str:
    """A header by its name in any case."""
    if not headers:
        return ""
    if (found := headers.get(name)) is not None:
        return found
    return next((value for given, value in headers.items() if given.lower() == name), "")


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()

"""Where a run stands in a distributed trace: W3C trace context, computed from what the run's journal says.

Nothing of it is kept anywhere else: each worker that goes on with a run finds the same ids. The span of a run has an
id of its own before anybody has recorded it, so that activations, steps and children on any worker can name it as
their parent, and whoever ends the run records it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
CORRELATION = "x-correlation-id"

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


NOWHERE = Trace("", "")
"""In no trace."""


def trace_of(run_id: str, headers: Mapping[str, str], started_ms: int) -> Trace:
    """The place of a run. Without a (valid) `traceparent` header it begins a trace of its own.

    Rules of W3C Trace Context, level 1: an invalid header is as none, unknown versions are read as version 00.
    """
    span_id = _digest(f"{run_id}@{started_ms}", 8)
    match = _FORM.match(headers.get(TRACEPARENT, "").strip().lower())
    if match is None or match[1] == "ff" or not match[2].strip("0") or not match[3].strip("0"):
        return Trace(_digest(f"trace {run_id}@{started_ms}", 16), span_id)
    return Trace(match[2], span_id, match[3], bool(int(match[4], 16) & _SAMPLED), headers.get(TRACESTATE, ""))


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()

"""Which run's code runs now: the fields that every log line of it carries, and where its lines are kept."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

FIELDS: ContextVar[Mapping[str, Any] | None] = ContextVar("agnt5_run_fields", default=None)
"""run_id, step_id, attempt, service, handler, trace_id, span_id and, where there is one, correlation_id; None outside
of runs.

Set by the host where a run's code begins; tasks, steps and threads of that code inherit it.
"""

STEP: ContextVar[str | None] = ContextVar("agnt5_step", default=None)
"""The name of the step that runs, inside `ctx.step`."""

SINK: ContextVar[Callable[[logging.LogRecord], None] | None] = ContextVar("agnt5_log_sink", default=None)
"""Who keeps the log records of the run's code; None where nobody does. Set with `FIELDS`."""

SILENT: ContextVar[Callable[[], bool] | None] = ContextVar("agnt5_silent", default=None)
"""Whether the code only does again what its journal holds, so that its log lines were written before. With `FIELDS`."""


def run_fields() -> dict[str, Any] | None:
    """The fields of the run whose code runs now: with the step that runs, and the span that OpenTelemetry records.

    None outside of runs.
    """
    fields = FIELDS.get()
    if fields is None:
        return None
    found = dict(fields)
    if (step := STEP.get()) is not None:
        found["step_id"] = step
    span = _recorded_span()
    return found if span is None else {**found, **span}


def is_silent() -> bool:
    """Whether a workflow is replayed now, by the code that asks."""
    silent = SILENT.get()
    return silent is not None and silent()


def _recorded_span() -> dict[str, str] | None:
    trace = sys.modules.get("opentelemetry.trace")  # where nobody has loaded it there are no spans
    if trace is None:
        return None
    span = trace.get_current_span()
    place = span.get_span_context()
    if not (place.is_valid and span.is_recording()):
        return None
    return {"trace_id": f"{place.trace_id:032x}", "span_id": f"{place.span_id:016x}"}

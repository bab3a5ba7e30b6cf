"""Which run's code runs now: the fields that every log line of it carries."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

FIELDS: ContextVar[Mapping[str, Any] | None] = ContextVar("agnt5_run_fields", default=None)
"""run_id, attempt, service, handler, trace_id, span_id and, where there is one, correlation_id; None outside of runs.

Set by the host where a run's code begins; tasks, steps and threads of that code inherit it.
"""

"""Observability APIs: `ctx.log()`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from agnt5.contracts.ids import CHILD, split_address
from agnt5.contracts.traces import CORRELATION
from agnt5.sdk.port import RunInfo
from agnt5.telemetry.current import STEP, run_fields
from agnt5.telemetry.logs import RUN_LOGGER, TAKEN, AllFields, mark_records


def log_fields(info: RunInfo) -> dict[str, Any]:
    """What every log line of a run carries."""
    service, handler = split_address(info.handler)
    _, found, own = info.run_id.rpartition(CHILD)
    fields = {
        "run_id": info.run_id,
        "step_id": own if found else None,
        "attempt": info.attempt,
        "service": service,
        "handler": handler,
        "trace_id": info.trace.trace_id,
        "span_id": info.trace.span_id,
    }
    correlation = next((value for name, value in info.headers.items() if name.lower() == CORRELATION), None)
    return fields if correlation is None else {**fields, "correlation_id": correlation}


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry run_id, step_id, attempt, service, handler, trace_id, span_id, correlation_id.

    `extra=` of a call is merged in and wins. Its keys may have any name: those that a record has for itself ("name",
    "message", "args"...) are in `record.fields` only, which has all of them; the others are attributes too. Silent
    while a workflow is replayed, so that each line is written once by the code that runs it first; after a crash,
    lines since the last event can appear again.
    """

    def __init__(self, address: str, fields: Callable[[], Mapping[str, Any]], silent: Callable[[], bool]) -> None:
        super().__init__(logging.getLogger(f"{RUN_LOGGER}.{address}"), {})
        self._fields = fields
        self._silent = silent
        mark_records()

    @property
    def disabled(self) -> bool:
        """Whether its logger is switched off; structlog asks for it."""
        return self.logger.disabled

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the run's fields under the call's own."""
        given = kwargs.get("extra")
        fields = dict(self._fields())
        if isinstance(given, Mapping):
            fields.update(given)
        elif given is not None:
            fields["extra"] = given
        extra = {name: value for name, value in fields.items() if name not in TAKEN}
        extra["fields"] = AllFields(fields)
        kwargs["extra"] = extra
        return msg, kwargs

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """False while replaying."""
        return not self._silent() and super().isEnabledFor(level)


def fields_for(info: RunInfo) -> Callable[[], dict[str, Any]]:
    """The fields of a run's own logger: also in threads that inherit nothing of the run."""
    own = log_fields(info)

    def now() -> dict[str, Any]:
        found = run_fields()
        if found is not None and found["run_id"] == own["run_id"]:
            return found
        step = STEP.get()
        return own if step is None else {**own, "step_id": step}

    return now

"""Observability APIs: `ctx.log()`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from agnt5.contracts.ids import split_address
from agnt5.contracts.traces import CORRELATION
from agnt5.sdk.port import RunInfo

LOGGER = "agnt5.run"
"""Root of the loggers that handlers write to: `agnt5.run.<service>.<handler>`."""


def log_fields(info: RunInfo) -> dict[str, Any]:
    """What every log line of a run carries."""
    service, handler = split_address(info.handler)
    fields = {
        "run_id": info.run_id,
        "attempt": info.attempt,
        "service": service,
        "handler": handler,
        "trace_id": info.trace.trace_id,
        "span_id": info.trace.span_id,
    }
    correlation = next((value for name, value in info.headers.items() if name.lower() == CORRELATION), None)
    return fields if correlation is None else {**fields, "correlation_id": correlation}


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds run_id, step_id, attempt, service and handler to each record.

    `extra=` of a call is merged in and wins. Silent while a workflow is replayed, so that each line is
    written once by the code that runs it first; after a crash, lines since the last event can appear again.
    """

    def __init__(self, address: str, fields: Callable[[], Mapping[str, Any]], silent: Callable[[], bool]) -> None:
        super().__init__(logging.getLogger(f"{LOGGER}.{address}"), {})
        self._fields = fields
        self._silent = silent

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the run's fields under the call's own."""
        kwargs["extra"] = {**self._fields(), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """False while replaying."""
        return not self._silent() and super().isEnabledFor(level)

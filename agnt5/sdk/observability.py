"""Observability APIs: `ctx.log()`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

LOGGER = "agnt5.run"
"""Root of the loggers that handlers write to: `agnt5.run.<service>.<handler>`."""


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

"""Celery's task events of runs, and what they show of values: for runs that have no request, and for previews."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from celery.utils.saferepr import saferepr

from agnt5.contracts.errors import RunCancelledError, RunFailedError
from agnt5.contracts.ids import first_of, parent_of
from agnt5.contracts.masking import MASKER, masked
from agnt5.runtime.slot import Begun

logger = logging.getLogger("agnt5.runtime")

Send = Callable[[str, dict[str, Any]], None]
"""Brings an event of a type, with its fields, on its way."""

PREVIEW = 300
"""Characters of an input that events, and so Flower, show."""

MARGIN = 4000
"""Characters read beyond a preview while secrets are known: one that is cut in two would not be found."""

_SHORT, _FEW, _BIG = 40, 5, 10**15


SEALED = "<sealed>"
"""What events show in the place of values that the store does not hold in clear either."""


def preview(value: Any, *, shown: bool = True) -> str:
    """A short text of an input or result, without known secrets; unless it may be `shown`, one that tells nothing."""
    if not shown:
        return SEALED
    if _is_short(value):
        return masked(repr(value))
    if not MASKER.knows:
        return str(saferepr(value, PREVIEW))
    text = masked(saferepr(value, PREVIEW + MARGIN))
    return text if len(text) <= PREVIEW else f"{text[:PREVIEW]}..."


def arguments(value: Any, *, shown: bool = True) -> tuple[str, str]:
    """An input as Celery shows a call: the positional arguments and those by name."""
    if value is None:
        return "()", "{}"
    text = preview(value, shown=shown)
    return ("()", text) if isinstance(value, dict) else (f"({text},)", "{}")


def opening(run_id: str, handler: str, begun: Begun, *, shown: bool = True) -> dict[str, Any]:
    """What Celery's events `task-received` and `task-started` say of a run."""
    args, kwargs = arguments(begun.input, shown=shown)
    return {
        "uuid": run_id, "name": handler, "args": args, "kwargs": kwargs, "retries": begun.attempt,
        "root_id": begun.root or first_of(run_id), "parent_id": begun.parent or parent_of(run_id),
    }  # fmt: skip


def _is_short(value: Any, depth: int = 2) -> bool:
    """Whether its plain form is short for sure: most are, and Celery's careful one costs fifty times as much."""
    match value:
        case None | bool() | float():
            return True
        case str():
            return len(value) < _SHORT
        case int():
            return -_BIG < value < _BIG
        case dict() if depth and len(value) < _FEW:
            return all(_is_short(part, 0) for part in value) and all(_is_short(v, depth - 1) for v in value.values())
        case list() | tuple() if depth and len(value) < _FEW:
            return all(_is_short(part, depth - 1) for part in value)
        case _:
            return False


def error_fields(error: RunFailedError, *, shown: bool = True) -> dict[str, Any]:
    """What Celery's events say of an error, which Flower shows as Python would write the original exception."""
    if not shown:
        return {"exception": f"{error.type}({SEALED})", "traceback": ""}
    return {"exception": masked(f"{error.type}({error.message!r})"), "traceback": masked(error.traceback)}


def revoked_fields(reason: str, *, shown: bool = True) -> dict[str, Any]:
    """What Celery's event says of a cancelled run."""
    why = masked(reason) if shown else SEALED
    return {"terminated": True, "signum": None, "expired": False, "exception": f"cancelled: {why}"}


class EventTeller:
    """Tells of runs that have no request. `unasked` is for those that never had one; its default is `send`."""

    def __init__(self, send: Send, unasked: Send | None = None, *, shown: bool = True) -> None:
        self._send = send
        self._shown = shown
        self._send_unasked = unasked or send

    def slot(self, run_id: str, handler: str) -> EventSlot:
        return EventSlot(self._send_unasked, run_id, handler, shown=self._shown)

    def succeeded(self, run_id: str, result: Any, runtime_s: float) -> None:
        self._send(
            "task-succeeded", {"uuid": run_id, "result": preview(result, shown=self._shown), "runtime": runtime_s}
        )

    def failed(self, run_id: str, error: RunFailedError) -> None:
        self._send("task-failed", {"uuid": run_id, **error_fields(error, shown=self._shown)})

    def revoked(self, run_id: str, reason: str) -> None:
        self._send("task-revoked", {"uuid": run_id, **revoked_fields(reason, shown=self._shown)})


class EventSlot:
    """Stands in for the request of a run that came without a message: Celery's watchers see it like any other."""

    def __init__(self, send: Send, run_id: str, handler: str, *, shown: bool = True) -> None:
        self._send = send
        self._shown = shown
        self._run_id = run_id
        self._handler = handler
        self._begun_s = monotonic()

    def drop(self, why: str) -> None:
        """There is no request to be told."""

    def refuse(self, why: str) -> None:
        """There is no request to be told."""

    def release(self) -> None:
        """There is no request to be told."""

    def started(self, begun: Begun) -> None:
        told = opening(self._run_id, self._handler, begun, shown=self._shown)
        self._send("task-received", told)
        self._send("task-started", told)

    def succeeded(self, result: Any) -> None:
        runtime_s = monotonic() - self._begun_s
        told = {"uuid": self._run_id, "result": preview(result, shown=self._shown), "runtime": runtime_s}
        self._send("task-succeeded", told)

    def failed(self, error: RunFailedError) -> None:
        if isinstance(error, RunCancelledError):
            self._send("task-revoked", {"uuid": self._run_id, **revoked_fields(error.message, shown=self._shown)})
        else:
            self._send("task-failed", {"uuid": self._run_id, **error_fields(error, shown=self._shown)})

    def retried(self, error: RunFailedError, due_ms: int) -> None:  # noqa: ARG002 - the protocol's
        self._send("task-retried", {"uuid": self._run_id, **error_fields(error, shown=self._shown)})


class Apart:
    """Sends events from a process whose event loop may not block and that has no dispatcher: in a thread, in order."""

    def __init__(self, app: Any, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._events: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def send(self, type_: str, fields: dict[str, Any]) -> None:
        """Send soon."""
        self._events.put((type_, fields))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="agnt5-events", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            event = self._events.get()
            try:
                self._send_all(event)
            except Exception as error:  # noqa: BLE001  # whatever a broker raises: events are told or lost
                logger.warning("events of runs are not told: %s", error)

    def _send_all(self, event: tuple[str, dict[str, Any]]) -> None:
        with self._app.events.default_dispatcher(hostname=self._hostname) as dispatcher:
            dispatcher.send(event[0], **event[1])
            while not self._events.empty():
                type_, fields = self._events.get()
                dispatcher.send(type_, **fields)

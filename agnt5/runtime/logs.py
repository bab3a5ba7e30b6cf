"""Celery's logging in agnt5's format: for worker, beat, and whatever else sets up logging by the app."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery import signals
from celery._state import _task_stack
from celery.app.defaults import DEFAULT_TASK_LOG_FMT
from celery.utils.log import get_multiprocessing_logger

from agnt5.contracts.traces import CORRELATION, TRACEPARENT, trace_of
from agnt5.telemetry.logs import RunFields, mark_records
from agnt5.telemetry.logs_format import formatter_of

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""`worker_log_format` of our apps. A project that sets another one means it, and keeps it."""


def connect(kind: str) -> None:
    """Have what Celery sets up from now on write in this format.

    Celery decides on handlers, files and levels, as it does without us. Logging that a project sets up by itself (the
    `setup_logging` signal, `after_setup_logger` with a formatter of its own) stays as it is.
    """

    @signals.after_setup_logger.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery is untyped
    def root(logger: Any = None, format: str = "", **_: Any) -> None:  # noqa: A002 - Celery's name
        mark_records(task_fields)
        for one in (logger, get_multiprocessing_logger()):
            _dress(one, kind, ours=format == FORMAT)

    @signals.after_setup_task_logger.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery is untyped
    def tasks(logger: Any = None, format: str = "", **_: Any) -> None:  # noqa: A002 - Celery's name
        _dress(logger, kind, ours=format == DEFAULT_TASK_LOG_FMT)

    @signals.celeryd_after_setup.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery is untyped
    def worker(**_: Any) -> None:
        prepare()


def _dress(logger: Any, kind: str, *, ours: bool) -> None:
    for handler in logger.handlers if logger is not None else ():
        if ours and (type(handler.formatter).__module__.startswith("celery.") or _is_ours(handler.formatter)):
            handler.setFormatter(formatter_of(kind, getattr(handler, "stream", None)))
        add_fields(handler)


def _is_ours(formatter: Any) -> bool:
    return type(formatter).__module__ == formatter_of.__module__


def add_fields(handler: logging.Handler) -> None:
    """Let what a handler writes carry the run's fields, masked, once."""
    if not any(isinstance(one, RunFields) for one in handler.filters):
        handler.addFilter(RunFields())


def prepare() -> None:
    """Also where a project sets up logging by itself: records know their run, and the root's handlers mask."""
    mark_records(task_fields)
    for handler in logging.getLogger().handlers:
        add_fields(handler)


def task_fields(record: logging.LogRecord) -> Mapping[str, Any] | None:
    """The fields of what Celery says of a task, and of what a task says: those of a run, under the task's id."""
    said = record.args
    if record.name.startswith("celery.") and isinstance(said, dict) and "id" in said and "name" in said:
        return _fields(str(said["id"]), str(said["name"]))
    task = _task_stack.top
    request = task.request if task is not None else None
    if request is None or not request.id:
        return None
    fields = _fields(request.id, task.name)
    fields["attempt"] = request.retries or 0
    headers = {str(name).lower(): value for name, value in (request.headers or {}).items() if isinstance(value, str)}
    if TRACEPARENT in headers:
        trace = trace_of(request.id, headers, 0)
        fields.update(trace_id=trace.trace_id, span_id=trace.parent_id)
    if CORRELATION in headers:
        fields["correlation_id"] = headers[CORRELATION]
    return fields


def _fields(task_id: str, name: str) -> dict[str, Any]:
    service, _, handler = name.rpartition(".")
    return {"run_id": task_id, "step_id": None, "attempt": 0, "service": service, "handler": handler}

"""How our pool takes messages of runs: no Celery request, no tracer; the host decides what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.strategy import default
from kombu.serialization import loads as loads_body

from agnt5.contracts.errors import RunCancelledError, RunFailedError
from agnt5.runtime.pool import TaskPool
from agnt5.runtime.tasks import RunTask, arrival_of, preview

_logger = get_logger("celery.worker.strategy")


class RunRequest:
    """A message of a run that this worker holds: what `inspect active` lists, and the slot that the run has.

    The slot's methods are called on the loop; they pass on to Celery's thread, where all of Celery's state lives.
    """

    __slots__ = ("__weakref__", "_consumer", "_message", "_pool", "_send", "id", "name", "preview", "time_start")

    def __init__(self, consumer: Any, message: Any, name: str, send: Callable[..., Any] | None) -> None:
        self._consumer = consumer
        self._pool: TaskPool = consumer.pool
        self._message = message
        self._send = send
        self.id: str = message.headers["id"]
        self.name = name
        self.preview = ""
        self.time_start: float | None = None

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002 - Celery's signature
        """What Celery's inspect commands show."""
        return {
            "id": self.id,
            "name": self.name,
            "args": "()",
            "kwargs": self.preview,
            "type": self.name,
            "hostname": self._consumer.hostname,
            "time_start": self.time_start,
            "acknowledged": False,
            "delivery_info": self._message.delivery_info,
            "worker_pid": None,
        }

    # ---- the slot

    def drop(self, why: str) -> None:  # noqa: ARG002 - the protocol's
        self._pool.tell(self._done)

    def refuse(self, why: str) -> None:  # noqa: ARG002 - the protocol's
        self._pool.tell(self._give_back)

    def started(self, value: Any) -> None:
        self.time_start = monotonic()
        if self._send is not None:
            self.preview = preview(value)
        self._pool.tell(self._accepted)

    def release(self) -> None:
        self._pool.tell(self._done)

    def succeeded(self, result: Any) -> None:
        runtime = monotonic() - (self.time_start or monotonic())
        fields = {"result": preview(result), "runtime": runtime} if self._send else {}
        self._pool.tell(self._done, "task-succeeded", fields)

    def failed(self, error: RunFailedError) -> None:
        if isinstance(error, RunCancelledError):
            self._pool.tell(self._done, "task-revoked", {"terminated": True, "signum": None, "expired": False})
        else:
            self._pool.tell(self._done, "task-failed", {"exception": repr(str(error)), "traceback": error.traceback})

    def retried(self, error: RunFailedError, due_ms: int) -> None:  # noqa: ARG002 - the protocol's
        self._pool.tell(self._done, "task-retried", {"exception": repr(str(error)), "traceback": error.traceback})

    # ---- in Celery's thread

    def _accepted(self) -> None:
        state.task_accepted(self)
        if self._send is not None:
            self._send("task-started", uuid=self.id, name=self.name, args="()", kwargs=self.preview)

    def _done(self, event: str | None = None, fields: dict[str, Any] | None = None) -> None:
        state.task_ready(self)
        self._message.ack_log_error(_logger, self._consumer.connection_errors)
        if event is not None and self._send is not None:
            self._send(event, uuid=self.id, **(fields or {}))

    def _give_back(self) -> None:
        state.task_ready(self)
        self._message.reject_log_error(_logger, self._consumer.connection_errors, requeue=True)


def strategy(task: RunTask, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's hook: the handler of a task's messages. On other pools than ours it is Celery's own."""
    name, runtime, pool = task.name, task.runtime, consumer.pool
    if not isinstance(pool, TaskPool) or consumer.hub is None:
        return default(task, app, consumer, **options)  # type: ignore[no-any-return]
    eventer = consumer.event_dispatcher
    send = eventer.send if eventer and eventer.enabled else None
    hostname = consumer.hostname

    def handle(message: Any, *_: Any) -> None:
        headers = message.headers
        request = RunRequest(consumer, message, name, send)
        if send is not None:
            send(
                "task-received", uuid=request.id, name=name, args=headers.get("argsrepr"),
                kwargs=headers.get("kwargsrepr"), root_id=headers.get("root_id"), parent_id=headers.get("parent_id"),
                retries=headers.get("retries", 0), eta=None, expires=None, hostname=hostname,
            )  # fmt: skip
        args, kwargs = _call(message) if "agnt5" not in headers else ((), {})
        state.task_reserved(request)
        pool.submit(runtime.receive, arrival_of(name, headers, args, kwargs), request)

    return handle


def _call(message: Any) -> tuple[Any, Any]:
    """The arguments that a plain producer's message carries. JSON only, whatever the message says (rule R8)."""
    body = loads_body(message.body, message.content_type, message.content_encoding, accept={"application/json"})  # type: ignore[no-untyped-call]
    return body[0], body[1]

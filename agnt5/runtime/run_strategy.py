"""How our pool takes messages of runs: no Celery request, no tracer; the host decides what becomes of them.

Our own messages are taken from the transport as text (`express`): they say no more than a handler and a run id, so
that neither JSON nor a message object is needed. Messages of plain producers come Celery's way (`strategy`).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from celery.worker import state
from celery.worker.strategy import default
from kombu.serialization import loads as loads_body

from agnt5.contracts.errors import RunCancelledError, RunFailedError
from agnt5.runtime.dispatch import HEADER, read_envelope
from agnt5.runtime.host import Arrival
from agnt5.runtime.pool import TaskPool
from agnt5.runtime.slot import Begun
from agnt5.runtime.tasks import RunTask, arrival_of
from agnt5.runtime.tellers import error_fields, opening, preview, revoked_fields
from agnt5.runtime.transport.channel import Channel, Held

Event = tuple[str, dict[str, Any]]


class RunRequest:
    """A message of a run that this worker holds: what `inspect active` lists, and the slot that the run has.

    The slot's methods are called on the loop; they pass on to Celery's thread, where all of Celery's state lives.
    `settle(requeue)` acknowledges the message or gives it back. `shown`: events may show values.
    """

    __slots__ = (
        "__weakref__",
        "_before_s",
        "_opening",
        "_pool",
        "_send",
        "_settle",
        "_shown",
        "acknowledged",
        "hostname",
        "id",
        "name",
        "task",
        "time_start",
    )

    def __init__(
        self, consumer: Any, task: RunTask, run_id: str, settle: Callable[[bool], None],
        send: Callable[..., Any] | None, *, shown: bool = True,
    ) -> None:  # fmt: skip
        self._pool: TaskPool = consumer.pool
        self._settle = settle
        self._send = send
        self._shown = shown
        self.hostname: str = consumer.hostname
        self.id = run_id
        self.name: str = task.name
        self.task = task
        self.acknowledged = False
        self._opening: dict[str, Any] = {"args": "()", "kwargs": "{}"}
        self._before_s = 0.0
        self.time_start: float | None = None

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002 - Celery's signature
        """What Celery's inspect commands show."""
        return {
            "id": self.id,
            "name": self.name,
            "args": self._opening["args"],
            "kwargs": self._opening["kwargs"],
            "type": self.name,
            "hostname": self.hostname,
            "time_start": self.time_start,
            "acknowledged": False,
            "delivery_info": {},
            "worker_pid": None,
        }

    def cancel(self, pool: Any, signal: Any = None, *, emit_retry: bool = True) -> None:
        """Nothing: in a cold shutdown Celery cancels its requests, but it is the host that gives runs back."""

    # ---- the slot

    def drop(self, why: str) -> None:  # noqa: ARG002 - the protocol's
        self._pool.tell(self._done)

    def refuse(self, why: str) -> None:  # noqa: ARG002 - the protocol's
        self._pool.tell(self._give_back)

    def started(self, begun: Begun) -> None:
        self.time_start, self._before_s = monotonic(), begun.before_s
        if self._send is not None:
            self._opening = opening(self.id, self.name, begun, shown=self._shown)
        self._pool.tell(self._accepted)

    def release(self) -> None:
        self._pool.tell(self._done)

    def succeeded(self, result: Any) -> None:
        if self._send is None:
            self._pool.tell(self._done)
        else:
            runtime = monotonic() - (self.time_start or monotonic()) + self._before_s
            told = {"result": preview(result, shown=self._shown), "runtime": runtime}
            self._pool.tell(self._done, ("task-succeeded", told))

    def failed(self, error: RunFailedError) -> None:
        if isinstance(error, RunCancelledError):
            self._pool.tell(self._done, ("task-revoked", revoked_fields(error.message, shown=self._shown)))
        else:
            self._pool.tell(self._done, ("task-failed", error_fields(error, shown=self._shown)))

    def retried(self, error: RunFailedError, due_ms: int) -> None:  # noqa: ARG002 - the protocol's
        self._pool.tell(self._done, ("task-retried", error_fields(error, shown=self._shown)))

    # ---- in Celery's thread

    def _accepted(self) -> None:
        state.task_accepted(self)
        if self._send is not None:
            # not before the claim: messages that come late or twice are no tasks, and nobody had read the input
            self._send("task-received", **self._opening)
            self._send("task-started", **self._opening)

    def _done(self, event: Event | None = None) -> None:
        state.task_ready(self)
        self._settle(False)
        if event is not None and self._send is not None:
            self._send(event[0], uuid=self.id, **event[1])

    def _give_back(self) -> None:
        state.task_ready(self)
        self._settle(True)


def _eventer(consumer: Any) -> Callable[..., Any] | None:
    eventer = consumer.event_dispatcher
    return eventer.send if eventer and eventer.enabled else None


def express(consumer: Any) -> Callable[[Channel, str, str, bytes], bool]:
    """The way of our own messages: `take(channel, queue, tag, text)` says whether it took the message."""
    runs = {name: task for name, task in consumer.app.tasks.items() if isinstance(task, RunTask)}
    send, pool = _eventer(consumer), consumer.pool
    shown = all(task.runtime.settings.shows_values for task in runs.values())

    def take(channel: Channel, queue: str, tag: str, text: bytes) -> bool:
        read = read_envelope(text)
        task = runs.get(read[0]) if read is not None else None
        if read is None or task is None:
            return False
        name, run_id = read
        channel.hold(Held(tag, queue, text))
        request = RunRequest(
            consumer, task, run_id, lambda requeue: channel.settle(tag, requeue=requeue), send, shown=shown
        )
        state.task_reserved(request)
        pool.submit(task.runtime.receive, Arrival(run_id, name), request)
        return True

    return take


def strategy(task: RunTask, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's hook: the handler of a task's messages. On other pools than ours it is Celery's own."""
    name, runtime, pool = task.name, task.runtime, consumer.pool
    if not isinstance(pool, TaskPool) or consumer.hub is None:
        return default(task, app, consumer, **options)  # type: ignore[no-any-return]
    send, shown = _eventer(consumer), runtime.settings.shows_values

    def handle(message: Any, *_: Any) -> None:
        headers = message.headers

        def settle(requeue: bool) -> None:
            message.reject(requeue=True) if requeue else message.ack()

        args, kwargs = ((), {}) if headers.get(HEADER) else _call(message)
        request = RunRequest(consumer, task, headers["id"], settle, send, shown=shown)
        state.task_reserved(request)
        pool.submit(runtime.receive, arrival_of(name, headers, args, kwargs), request)

    return handle


def _call(message: Any) -> tuple[Any, Any]:
    """The arguments that a plain producer's message carries. JSON only, whatever the message says (rule R8)."""
    accept = {"application/json"}
    body = loads_body(message.body, message.content_type, message.content_encoding, accept=accept)  # type: ignore[no-untyped-call]
    return body[0], body[1]

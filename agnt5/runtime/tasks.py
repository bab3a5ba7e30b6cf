"""A Celery task for each handler: same name, the run id as task id, on every pool."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from time import sleep
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Ignore, Reject, Retry, TaskRevokedError
from celery.worker.request import Request

from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import RunCancelledError, RunFailedError
from agnt5.contracts.traces import TRACE_HEADERS
from agnt5.registry import Handler
from agnt5.runtime.dispatch import HEADER
from agnt5.runtime.host import Arrival
from agnt5.runtime.slot import Begun
from agnt5.runtime.stopping import forks
from agnt5.runtime.strangers import AGAIN_S
from agnt5.runtime.tellers import SEALED, Apart, EventTeller, opening

if TYPE_CHECKING:
    from agnt5.runtime.process import Runtime

logger = logging.getLogger("agnt5.runtime")


class Refused(Reject):  # type: ignore[misc]  # Celery is untyped
    """The message goes back to its queue: this process cannot run it, another one may."""


def _in_a_line(record: logging.LogRecord) -> bool:
    """Celery logs a message that is given back with a traceback, which says nothing."""
    if record.exc_info and isinstance(record.exc_info[1], Refused):
        record.exc_info = None
    return True


def arrival_of(name: str, headers: Any, args: Any, kwargs: Any) -> Arrival:
    """A message as the host takes it. Its headers only say whether it carries a call, and where it is in a trace."""
    return Arrival(
        run_id=headers["id"],
        handler=name,
        plain=not headers.get(HEADER),
        args=tuple(args or ()),
        kwargs=dict(kwargs or {}),
        trace={name: text for name in TRACE_HEADERS if isinstance(text := headers.get(name), str)},
    )


class BlockingRequest(Request):  # type: ignore[misc]  # Celery is untyped
    """Celery's request of a run on a pool whose tasks block."""

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Celery begins a cold shutdown with this. Only children can be killed: elsewhere the host gives runs back."""
        if forks(type(pool)):
            super().cancel(pool, signal, emit_retry)


class BlockingSlot:
    """A slot of a pool whose tasks block: the thread waits here until the run is done or goes on without it.

    `begun` is called in that thread once the run is claimed. What Celery is given it sends in events: without `shown`
    that tells nothing of values.
    """

    def __init__(self, begun: Callable[[Begun], None], *, shown: bool = True) -> None:
        self._begun = begun
        self._shown = shown
        self._told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def _set(self, outcome: str, value: Any = None) -> None:
        self._told.put((outcome, value))

    def drop(self, why: str) -> None:
        self._set("release", why)

    def refuse(self, why: str) -> None:
        self._set("refuse", why)

    def started(self, begun: Begun) -> None:
        self._told.put(("started", begun))

    def release(self) -> None:
        self._set("release")

    def succeeded(self, result: Any) -> None:
        self._set("succeeded", result if self._shown else SEALED)

    def failed(self, error: RunFailedError) -> None:
        self._set("failed", self._told_of(error))

    def retried(self, error: RunFailedError, due_ms: int) -> None:
        self._set("retried", Retry(exc=self._told_of(error), when=at_ms(due_ms)))

    def _told_of(self, error: RunFailedError) -> RunFailedError:
        return error if self._shown else type(error)(SEALED, type=error.type)

    def wait(self) -> Any:
        """The run's result, or the exception that tells Celery what became of it."""
        outcome, value = self._told.get()
        if outcome == "started":
            self._begun(value)
            outcome, value = self._told.get()
        match outcome:
            case "succeeded":
                return value
            case "failed":
                raise TaskRevokedError(str(value)) if isinstance(value, RunCancelledError) else value
            case "retried":
                raise value
            case "refuse":
                raise Refused(value, requeue=True)
            case _:
                raise Ignore


class RunTask(Task):  # type: ignore[misc]  # Celery is untyped
    """The Celery side of a handler. Its body is only used by pools whose tasks block."""

    abstract = True
    Strategy = "agnt5.runtime.run_strategy:strategy"
    Request = BlockingRequest
    acks_late = True
    typing = False
    throws = (RunFailedError,)
    handler: Handler
    runtime: Runtime

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Execute the run on this process's host, and wait for it, or until it goes on without this slot."""
        request = self.request
        headers = {"id": request.id, HEADER: request.get(HEADER), **{one: request.get(one) for one in TRACE_HEADERS}}
        shown = self.runtime.settings.shows_values
        # what follows in a chain of Celery's gets the result: that is what whoever made it asks for
        slot = BlockingSlot(self._tell_begun, shown=shown or bool(request.callbacks or request.chain))
        arrival = arrival_of(self.name, headers, args, kwargs)
        self.runtime.submit(arrival, slot, EventTeller(self._apart(), shown=shown))
        try:
            return slot.wait()
        except Refused:
            if not self.runtime.has_left:
                sleep(AGAIN_S)  # it may come back at once
            raise

    def _apart(self) -> Callable[[str, dict[str, Any]], None]:
        """How the host's loop tells, in a process that has no event dispatcher: by a thread of this process."""
        if not self.app.conf.worker_send_task_events:
            return lambda _type, _fields: None
        return Apart(self.app, self.runtime.node).send

    def _tell_begun(self, begun: Begun) -> None:
        """Celery's own event was sent before anybody had read the input."""
        if self.app.conf.worker_send_task_events:
            told = opening(self.request.id, self.name, begun, shown=self.runtime.settings.shows_values)
            del told["uuid"]
            try:
                self.send_event("task-started", **told)
            except Exception as error:  # noqa: BLE001  # whatever a broker raises: the run goes on untold
                logger.warning("the start of run %s is not told: %s", self.request.id, error)


def register(app: Any, runtime: Runtime) -> None:
    """Make a Celery task of each handler."""
    logging.getLogger("celery.app.trace").addFilter(_in_a_line)
    for handler in runtime.registry:
        body = {"name": handler.address, "handler": handler, "runtime": runtime, "__module__": handler.fn.__module__}
        app.register_task(type(f"Run_{handler.name}", (RunTask,), body)())

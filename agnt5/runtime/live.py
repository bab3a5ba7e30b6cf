"""A run in memory: what it is, how it begins, and how it ends or leaves this host."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agnt5 import codec
from agnt5.contracts.errors import (
    Agnt5Error,
    InvalidInputError,
    JournalLimitError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
    StaleEpochError,
    StoreFullError,
    StoreUnavailableError,
    TaskFailedError,
    error_data,
    from_data,
    from_user_code,
)
from agnt5.contracts.masking import MASKED
from agnt5.contracts.runs import Kind, RunStatus
from agnt5.contracts.traces import NOWHERE, Trace, trace_of
from agnt5.registry import Handler
from agnt5.replay.events import CancelRequested, Event, RunReopened, RunStarted
from agnt5.runtime.approvals import NOTICE, with_link
from agnt5.runtime.encoding import error_json
from agnt5.runtime.journaled import Journaled
from agnt5.runtime.slot import Begun, Slot
from agnt5.runtime.starting import REFUSAL
from agnt5.sdk.observability import log_fields
from agnt5.sdk.port import RunInfo
from agnt5.store.replies import Applied, Claimed, More
from agnt5.store.store import Batch, Ending, Ownership
from agnt5.telemetry.current import FIELDS, SILENT, SINK

if TYPE_CHECKING:
    from agnt5.runtime.host import Host

logger = logging.getLogger("agnt5.runtime")


class LiveRun(Journaled):
    """What functions and workflows in memory share. Everything happens on the host's loop."""

    def __init__(self, host: Host, handler: Handler, own: Ownership, claimed: Claimed, slot: Slot | None) -> None:
        super().__init__(host, own, claimed.generation)
        self.handler = handler
        self.claimed = claimed
        self.slot = slot
        self.trace = NOWHERE
        self.stretch_ms = 0
        self.begun_s = host.loop.time()
        self.before_s = 0.0
        self.idle_since_s = self.begun_s
        self.deadline_passed = False
        self._parking = False
        self._status = RunStatus.RUNNING
        self._fields: dict[str, Any] | None = None

    @property
    def waiting(self) -> bool:
        """Whether its code waits for an event, so that it may be parked."""
        return self._status is RunStatus.WAITING

    @property
    def busy(self) -> bool:
        """Whether its code runs now."""
        return not self.ended and not self.waiting

    def info(self, started: RunStarted) -> RunInfo:
        """The facts that its context shows."""
        return RunInfo(
            run_id=self.run_id,
            handler=self.handler.address,
            kind=self.handler.kind.value,
            attempt=self.claimed.attempt,
            headers=started.headers,
            parent=started.parent,
            generation=started.generation,
            started_ms=started.at,
            host=self.own.host,
            requester=started.requester,
            root=started.root,
            trace=self.trace,
        )

    def enter(self, started: RunStarted | None = None) -> None:
        """From here on the current context is this run's: its log lines carry the run's fields, and are kept with it.

        `started`: its code begins; without it, once it has begun.
        """
        if started is not None:
            self._fields = log_fields(self.info(started))
        FIELDS.set(self._fields)
        SINK.set(self.host.logs)
        SILENT.set(self.silent)

    def own_context(self) -> Context | None:
        """The current context, entered: what calls us may be another run's code. None where it is ours already."""
        if FIELDS.get() is self._fields:
            return None
        context = copy_context()
        context.run(self.enter)
        return context

    silent: Callable[[], bool] | None = None
    """Whether its code only does again what was done before; None for code that never does."""

    def holds(self, started: RunStarted) -> list[str]:
        """The entities whose locks this run or those that called it hold."""
        return started.holds

    def arguments(self, started: RunStarted) -> dict[str, Any]:
        """What the handler is called with. Raises `InvalidInputError` where the input does not fit."""
        if (refusal := started.options.get(REFUSAL)) is not None:
            raise InvalidInputError(refusal)
        if (notice := started.options.get(NOTICE)) is not None:
            return self.handler.bind(with_link(started, notice, self.host.settings, self.host.clock_ms()))
        return self.handler.bind(started.input)

    # ---- how it begins

    def begin(self, entries: list[bytes]) -> Coroutine[Any, Any, None] | None:
        """Apply the journal as it was claimed, and start the code; what is returned is to be awaited to run it."""
        events = [self._event(entry) for entry in entries]
        assert isinstance(events[0], RunStarted)
        if self.handler.kind is Kind.WORKFLOW and len(events) > 1:
            self.before_s = max(0.0, (self.host.clock_ms() - events[0].at) / 1000)
        self.begun, self.seen, self.generation = True, len(events), events[0].generation
        self.trace, self.stretch_ms = self._place(events[0], events)
        if self.slot is not None:
            told = events[0]
            self.slot.started(Begun(told.input, self.claimed.attempt, told.parent, told.root, self.before_s))
        code = self.start(events)
        if self._inbox:  # what came while it had to wait for its turn
            self._inbox = {at: event for at, event in self._inbox.items() if at > self.seen}
            self._settle()
        return code

    def _place(self, started: RunStarted, events: list[Event]) -> tuple[Trace, int]:
        """Its place in a distributed trace, the same on every worker, and since when it goes on without an end."""
        trace = self.host.observer.placed(trace_of(self.run_id, started.headers, started.at))
        reopened = [event.at for event in events if type(event) is RunReopened]
        return trace.reopened(len(reopened)), (reopened or [started.at])[-1]

    def _notice(self, events: list[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind is CancelRequested:
                self.deadline_passed = self.deadline_passed or event.deadline  # type: ignore[attr-defined]
            elif kind is RunReopened:
                self.deadline_passed = False  # whoever opened it again gives it new time

    # ---- what it does now

    def note(self, status: RunStatus, batch: Batch | None = None, then: Callable[[], None] | None = None) -> None:
        """Record what the run does now, with a batch where there is one."""
        changed = status is not self._status
        self._status = status
        self.touch()
        if batch or changed:
            self.append(batch or Batch(), then=then, status=status if changed else None)

    def touch(self) -> None:
        """Something happened: the time to park it begins anew."""
        self.idle_since_s = self.host.loop.time()
        if self.waiting:
            self.host.idle(self)

    def release(self) -> None:
        """Go on without a Celery request."""
        if self.slot is not None:
            slot, self.slot = self.slot, None
            slot.release()

    # ---- how it ends

    async def complete(self, value: Any) -> None:
        """End as completed; a result that has no JSON form or is too large ends it as failed."""
        try:
            payload = codec.dumps(
                value, what=f"result of {self.handler.address}", limit=self.host.settings.payload_limit
            )
        except Agnt5Error as error:
            await self.fail(error)
            return
        if MASKED in payload:
            value = codec.loads(payload)  # events show what is recorded
        if await self._finish("completed", payload):
            self.host.observer.ended(self, "completed")
            if self.slot is not None:
                self._take_slot().succeeded(value)
            else:
                runtime_s = self.host.loop.time() - self.begun_s + self.before_s
                self.host.teller.succeeded(self.run_id, value, runtime_s)

    async def fail(self, error: BaseException, *, timed_out: bool = False) -> None:
        """End as failed."""
        data = error_data(error, where=f"run {self.run_id} ({self.handler.address})")
        if await self._finish("timeout" if timed_out else "failed", error_json(data, self.host.settings.payload_limit)):
            failure = from_data(data, TaskFailedError)
            self.host.observer.ended(self, "timeout" if timed_out else "failed", failure)
            logger.error("%s", failure, exc_info=_traced(error))
            self.host.logs.flush(self.run_id)
            if self.slot is not None:
                self._take_slot().failed(failure)
            else:
                self.host.teller.failed(self.run_id, failure)

    async def cancelled(self, reason: str) -> None:
        """End as cancelled, or as failed when it was its run timeout that asked."""
        if self.deadline_passed:
            await self.fail(RunTimeoutError("the run timeout has passed", type="RunTimeoutError"), timed_out=True)
        elif await self._finish("cancelled", codec.dumps(reason, what="reason")):
            self.host.observer.ended(self, "cancelled")
            if self.slot is not None:
                self._take_slot().failed(RunCancelledError(reason, type="RunCancelledError"))
            else:
                self.host.teller.revoked(self.run_id, reason)

    async def _finish(self, status: Ending, payload: bytes) -> bool:
        if self.ended:
            return False
        self.ended = True
        self.host.logs.flush(self.run_id)  # on the wire before the end: who sees the end sees its lines
        pending = self.write_end(status, payload)
        self.host.forget(self)
        with self.host.ends(self):
            applied = await pending
        self.host.sent(applied)
        self.after_end(applied, status, payload)
        return True

    def write_end(self, status: Ending, payload: bytes) -> Awaitable[Applied]:
        """Put the end on the wire."""
        return self.host.store.finish(self.own, status, payload)

    def after_end(self, applied: Applied, status: Ending, payload: bytes) -> None:
        """The end is recorded: what else is to be done."""

    def _take_slot(self) -> Slot:
        assert self.slot is not None
        slot, self.slot = self.slot, None
        return slot

    async def try_later(self, error: RunFailedError | BaseException, delay_ms: int) -> None:
        """End this attempt as failed; another follows after `delay_ms`."""
        if self.ended:
            return
        self.ended = True
        data = error_data(error, where=f"run {self.run_id} ({self.handler.address})")
        pending = self.host.store.retry(
            self.own,
            attempt=self.claimed.attempt,
            error=error_json(data, self.host.settings.payload_limit),
            delay_ms=delay_ms,
        )
        self.host.forget(self)
        with self.host.ends(self):
            out = await pending
        self.host.dispatcher.send(out)
        failure = from_data(data, TaskFailedError)
        self.host.observer.retried(self)
        logger.warning("%s; tried again in %.1f s", failure, delay_ms / 1000, exc_info=_traced(error))
        if self.slot is not None:
            self._take_slot().retried(failure, self.host.clock_ms() + delay_ms)

    async def park(self) -> bool:
        """Give the waiting run back, unless events came that it has not seen."""
        if self.ended or not self.waiting or self._parking or self._writing or self._reading or self._inbox:
            return False
        self._parking = True  # the idle are parked while a shutdown parks all: the later of two would be refused
        try:
            reply = await self.host.store.park(self.own, seen=self.seen)
        except StaleEpochError as error:
            self.went_wrong(error)
            return False
        finally:
            self._parking = False
        if isinstance(reply, More):
            self.check(reply.length)
            return False
        self.host.dispatcher.send(reply)
        self.host.observer.parked(self)
        self.leave()
        return True

    async def hand_back(self) -> None:
        """Give the run back to be claimed again at once: an interruption, which costs no retry."""
        if self.ended:
            return
        self.ended = True
        pending = self.host.store.hand_back(self.own, seen=self.seen if self.begun else self.claimed.seen)
        self.leave()
        reply = await pending
        if not isinstance(reply, More):
            self.host.dispatcher.send(reply)

    def leave(self) -> None:
        """Forget the run here; the store has what there is to know."""
        self.ended = True
        self.host.forget(self)
        if self.begun:
            self.drop()
        self.release()

    def went_wrong(self, error: BaseException) -> None:
        """A write or read of this run failed for good."""
        match error:
            case StaleEpochError():
                logger.warning("%s", error)
                self.leave()
            case _ if self.ended:
                logger.error("run %s, after its end: %r", self.run_id, error, exc_info=error)
                self.release()
            case JournalLimitError():
                self.host.spawn(self.fail(error), self)
            case StoreFullError() | StoreUnavailableError():
                logger.error("run %s: %s; it is handed back", self.run_id, error)
                self.host.later(1.0, lambda: self.host.spawn(self.hand_back(), self))
            case _:
                logger.error("run %s: %r", self.run_id, error, exc_info=error)
                self.host.refuse(self, error)

    # ---- what the two kinds differ in

    @abstractmethod
    def start(self, events: list[Event]) -> Coroutine[Any, Any, None] | None:
        """Start the code with the journal so far; live code is returned, for the current task to run."""

    @abstractmethod
    def drop(self) -> None:
        """Stop the code without a trace."""


def _traced(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType] | None:
    """What is logged with a failure: where in the user's code the error comes from, if it comes from code."""
    frames = from_user_code(error)
    return None if frames is None else (type(error), error, frames)

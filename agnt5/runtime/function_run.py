"""A function in memory: live execution, checkpointed.

A later attempt gets recorded steps, children and timers back. A function that waits for a child or a timer gives
its Celery request back and goes on in memory, so that waiting never takes the slot that the child needs.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import (
    Agnt5Error,
    EntityDeadlockError,
    InvalidInputError,
    RunEndedError,
    RunNotFoundError,
    RunTimeoutError,
    StepFailedError,
    TaskFailedError,
    error_data,
    from_data,
)
from agnt5.contracts.ids import entity_of
from agnt5.contracts.runs import RunStatus
from agnt5.replay import journal
from agnt5.replay.checkpoints import Checkpoints, ChildSlot
from agnt5.replay.commands import StartTask
from agnt5.replay.events import (
    CancelRequested,
    Event,
    RunStarted,
    SignalDelivered,
    SignalEmitted,
    SignalRefused,
    StepCompleted,
    StepFailed,
    TaskCancelRequested,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerFired,
    TimerStarted,
)
from agnt5.retry import RetryPolicy
from agnt5.runtime.children import new_child
from agnt5.runtime.emitter import emit_all, emit_from_thread
from agnt5.runtime.encoding import bounded, encode_checked
from agnt5.runtime.exits import contained
from agnt5.runtime.live import LiveRun
from agnt5.sdk.contexts import FunctionContext
from agnt5.sdk.port import TaskRef
from agnt5.store.store import Batch


@dataclass(slots=True, eq=False)
class Child:
    """A child as its function holds it."""

    seq: int
    id: str
    future: asyncio.Future[Any]


class LiveFunction(LiveRun):
    """A claimed function: one attempt of it. Is the port that its context talks to."""

    replaying = False

    def start(self, events: list[Event]) -> Coroutine[Any, Any, None]:
        first = events[0]
        assert isinstance(first, RunStarted)
        self.started = first
        self._children: dict[int, Child] = {}
        self._timers: dict[int, asyncio.Future[None]] = {}
        self._emits: dict[int, asyncio.Future[None]] = {}
        self._calling: set[asyncio.Task[None]] = set()
        self._blocked = 0
        self._cancelled: str | None = None
        self._checkpoints = Checkpoints(self.run_id, events)
        self._notice(events)
        task = asyncio.current_task()
        assert task is not None  # the host's, which is ours from here on
        self._task = task
        for event in events:
            if isinstance(event, CancelRequested):
                self._cancel(event)
        return self._run()

    # ---- the attempt

    async def _run(self) -> None:
        self.enter(self.started)
        try:
            with self.host.observer.attempt(self):
                value = await self._attempt()
        except asyncio.CancelledError:
            if self._cancelled is not None:
                await self._ended_by_cancel()
                return
            if self.ended:
                raise
            await self._failed(RunTimeoutError("the handler cancelled itself", type="CancelledError"))
        except Exception as error:  # noqa: BLE001 - user code's errors are data from here on
            await self._failed(error)
        else:
            if self._calling:  # calls that nobody waits for are made all the same
                await asyncio.gather(*self._calling)
            await self.complete(value)

    async def _attempt(self) -> Any:
        timeout_ms = self.started.options.get("timeout_ms") or self.handler.options.timeout_ms
        if timeout_ms is None:
            return await self._call()
        limit = asyncio.timeout(timeout_ms / 1000)
        try:
            async with limit:
                return await self._call()
        except TimeoutError:
            if limit.expired():
                message = f"attempt {self.claimed.attempt} took longer than {timeout_ms} ms"
                raise RunTimeoutError(message, type="RunTimeoutError") from None
            raise

    async def _call(self) -> Any:
        handler, ctx = self.handler, self.context()
        kwargs = self.arguments(self.started)
        if inspect.isasyncgenfunction(handler.fn):
            return await emit_all(self, handler.fn(ctx, **kwargs))
        if inspect.isgeneratorfunction(handler.fn):
            return await emit_from_thread(self, lambda: handler.fn(ctx, **kwargs))
        with contained():
            if inspect.iscoroutinefunction(handler.fn):
                return await handler.fn(ctx, **kwargs)
        return await self.host.call(lambda: handler.fn(ctx, **kwargs))

    def context(self) -> FunctionContext:
        """What the handler gets as its first argument."""
        return FunctionContext(self.info(self.started), self, self.host.effects)

    async def _failed(self, error: BaseException) -> None:
        policy = self._policy()
        delay_ms = policy.delay_ms(self.claimed.failures + 1, error, random.random())  # noqa: S311 - jitter
        self._stop_waits()
        if delay_ms is None:
            await self.fail(error)
        else:
            await self.try_later(error, delay_ms)

    def _policy(self) -> RetryPolicy:
        if (data := self.started.options.get("retries")) is not None:
            return RetryPolicy.from_data(data)
        return self.handler.options.retries or RetryPolicy()

    async def _ended_by_cancel(self) -> None:
        self._stop_waits()
        for call in self._checkpoints.open_calls():  # they live in other shards, where the end of this run is not seen
            await self.host.calls.cancel(call)
        await self.cancelled(self._cancelled or "")

    def _stop_waits(self) -> None:
        for future in [*self._timers.values(), *self._emits.values(), *(c.future for c in self._children.values())]:
            if not future.done():
                future.cancel()

    # ---- events

    def apply(self, events: list[Event]) -> None:
        for event in events:
            self._checkpoints.feed(event)
            match event:
                case TaskCompleted() | TaskFailed():
                    self._settle_child(event)
                case TimerFired():
                    if (timer := self._timers.pop(event.seq, None)) and not timer.done():
                        timer.set_result(None)
                case CancelRequested():
                    self._cancel(event)
                case _:
                    pass

    def _settle_child(self, end: TaskCompleted | TaskFailed) -> None:
        child = self._children.get(end.seq)
        if child is None or child.future.done():
            return
        if isinstance(end, TaskCompleted):
            child.future.set_result(end.result)
        else:
            child.future.set_exception(from_data(end.error, TaskFailedError))
            child.future.exception()  # seen: a child that nobody waits for may fail

    def _settle_recorded(self, slot: ChildSlot) -> bool:
        """Settle a child by what an earlier attempt recorded of its end; whether it did."""
        if slot.completion is None:
            return False
        self._settle_child(slot.completion)
        return True

    def _cancel(self, event: CancelRequested) -> None:
        self._cancelled = event.reason
        self._task.cancel()

    def drop(self) -> None:
        self._task.cancel()

    # ---- waiting

    def waits_for(self, ref: TaskRef) -> None:
        """The code begins to wait for a child."""
        self._wait_on(ref.future)

    def _wait_on(self, future: asyncio.Future[Any]) -> None:
        if future.done() or self.ended:
            return
        self.release()
        self._blocked += 1
        if self._blocked == 1:
            self.note(RunStatus.WAITING)
        future.add_done_callback(self._resumed)

    def _resumed(self, _: asyncio.Future[Any]) -> None:
        self._blocked -= 1
        if self._blocked == 0 and not self.ended:
            self.note(RunStatus.RUNNING)

    # ---- the port

    def now_ms(self) -> int:
        """The store's time, nearly."""
        return self.host.clock_ms()

    def step(self, name: str, fn: Callable[[], Any], key: str = "") -> asyncio.Future[Any]:
        """Run a step, or give what an earlier attempt recorded."""
        seq, recorded = self._checkpoints.step(name, key)
        if recorded is not None:
            done: asyncio.Future[Any] = self.host.loop.create_future()
            if isinstance(recorded, StepCompleted):
                done.set_result(recorded.result)
            else:
                done.set_exception(from_data(recorded.error, StepFailedError))
            return done
        return self.host.loop.create_task(self._step(seq, name, key, fn))

    async def _step(self, seq: int, name: str, key: str, fn: Callable[[], Any]) -> Any:
        begun_s = self.host.loop.time()
        try:
            with self.host.observer.step(self, name):
                value = await self.host.call(fn)
        except Exception as error:
            data = bounded(error_data(error, where=f"step {name!r}"), self.host.settings.payload_limit)
            took_ms = self.host.since_ms(begun_s)
            self.append(
                Batch(bodies=[journal.encode(StepFailed(seq=seq, name=name, key=key, error=data, took_ms=took_ms))])
            )
            raise
        event = StepCompleted(seq=seq, name=name, key=key, result=value, took_ms=self.host.since_ms(begun_s))
        body = encode_checked(event, value, f"result of step {name!r}", self.host.settings.payload_limit)
        await self.write(Batch(bodies=[body]))
        return codec.loads(body).get("result")

    def start_task(
        self,
        handler: str,
        input: Any,  # noqa: A002 - one word for one thing
        *,
        key: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> Child:
        """Start a child, or give back the one that an earlier attempt started under the same key or number."""
        slot = self._checkpoints.child(handler, key)
        if (known := self._children.get(slot.seq)) is not None:
            return known
        child = Child(slot.seq, slot.id, self.host.loop.create_future())
        self._children[slot.seq] = child
        if not slot.scheduled:
            command = StartTask(seq=slot.seq, handler=handler, id=slot.id, input=input, options=options or {})
            scheduled = TaskScheduled(seq=slot.seq, handler=handler, id=slot.id)
            self.append(Batch(bodies=[journal.encode(scheduled)], children=[new_child(self, command, self.started)]))
        else:
            self._settle_recorded(slot)
        return child

    def call_entity(
        self,
        handler: str,
        entity: str,
        input: Any,  # noqa: A002
        *,
        key: str = "",
        options: dict[str, Any] | None = None,
    ) -> Child:
        """Call a method of an entity, or give back the call that an earlier attempt made at this place."""
        slot = self._checkpoints.call(handler, entity, key)
        child = self._children[slot.seq] = Child(slot.seq, slot.id, self.host.loop.create_future())
        if not self._settle_recorded(slot):
            command = StartTask(seq=slot.seq, handler=handler, id=slot.id, input=input, options=options or {})
            calling = self.host.spawn(self._call_entity(command, scheduled=slot.scheduled), self)
            self._calling.add(calling)
            calling.add_done_callback(self._calling.discard)
        return child

    async def _call_entity(self, command: StartTask, *, scheduled: bool) -> None:
        if not scheduled:
            event = TaskScheduled(seq=command.seq, handler=command.handler, id=command.id)
            await self.write(Batch(bodies=[journal.encode(event)]), heard=True)
        try:
            await self.host.calls.deliver(self, command, self.started)
        except (EntityDeadlockError, InvalidInputError) as error:
            body = journal.encode(TaskFailed(seq=command.seq, error=error_data(error)))
            await self.write(Batch(bodies=[body]), heard=True)

    def cancel_task(self, ref: TaskRef) -> None:
        """Ask a child, or a call of an entity, to end."""
        body = journal.encode(TaskCancelRequested(seq=0, target=ref.seq))
        if entity_of(ref.id) is None:
            self.append(Batch(bodies=[body], cancels=[(ref.id, b'"its parent asked for it"')]))
        else:
            self.append(Batch(bodies=[body]), then=lambda: self.host.spawn(self.host.calls.cancel(ref.id), self))

    def start_timer(self, due_ms: int, name: str = "") -> asyncio.Future[Any]:
        """A durable timer; a later attempt waits for what is left of it."""
        slot = self._checkpoints.timer(name)
        future: asyncio.Future[None] = self.host.loop.create_future()
        if slot.fired:
            future.set_result(None)
            return future
        self._timers[slot.seq] = future
        future.add_done_callback(lambda _: self._timers.pop(slot.seq, None))
        if slot.due_ms is None:
            body = journal.encode(TimerStarted(seq=slot.seq, due_ms=due_ms, name=name))
            self.append(Batch(bodies=[body], timers=[(slot.seq, due_ms)]))
        else:
            self.append(Batch(timers=[(slot.seq, slot.due_ms)]))
        self._wait_on(future)
        return future

    def emit_signal(self, name: str, target: str, payload: Any) -> asyncio.Future[Any]:
        """Deliver a signal once, over all attempts."""
        slot = self._checkpoints.signal_out(name, target)
        if isinstance(slot.answer, SignalDelivered):
            done: asyncio.Future[Any] = self.host.loop.create_future()
            done.set_result(None)
            return done
        emitted = slot.emitted is not None
        return self.host.loop.create_task(self._emit(slot.seq, name, target, payload, emitted=emitted))

    async def _emit(self, seq: int, name: str, target: str, payload: Any, *, emitted: bool) -> None:
        if not emitted:
            event = SignalEmitted(seq=seq, name=name, target=target, payload=payload)
            body = encode_checked(event, payload, f"payload of signal {name!r}", self.host.settings.payload_limit)
            await self.write(Batch(bodies=[body]))
        answer: Event = SignalDelivered(seq=seq)
        failure: Agnt5Error | None = None
        try:
            await self.host.signal(self, target, name, payload, operation=f"{self.run_id}#{seq}")
        except (RunNotFoundError, RunEndedError) as error:
            failure, answer = error, SignalRefused(seq=seq, error=error_data(error))
        await self.write(Batch(bodies=[journal.encode(answer)]))
        if failure is not None:
            raise failure

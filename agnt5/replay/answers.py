"""Feeds events to a machine: one small method per type of event that workflow code can notice."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from agnt5.contracts import errors
from agnt5.contracts.errors import Agnt5Error, RunFailedError, StepFailedError, TaskFailedError, from_data
from agnt5.replay import events as ev
from agnt5.replay.chance import Chance
from agnt5.replay.commands import Command, EmitSignal, RequestApproval, RunStep, StartTask, StartTimer
from agnt5.replay.futures import CommandFuture
from agnt5.replay.ledger import IDENTITY
from agnt5.replay.loop import DurableTimerHandle
from agnt5.replay.opened import Opened
from agnt5.replay.outcomes import Cancelled, Completed, ContinueAsNew, ContinuedAsNew, Failed, Outcome
from agnt5.replay.refs import TaskRef
from agnt5.replay.reopen import step_redone, task_redone
from agnt5.replay.state import State

_UNSEEN: frozenset[type[ev.Event]] = frozenset(
    {
        ev.AttemptStarted,
        ev.AttemptFailed,
        ev.HostLost,
        ev.RunCompleted,
        ev.RunFailed,
        ev.RunCancelled,
        ev.DecisionRefused,
        *(kind for kind in IDENTITY if kind is not ev.StepCompleted and kind is not ev.StepFailed),
    }
)
"""Events that code cannot notice: of the run's life, and the commands, which the ledger has compared."""

_REFUSALS: dict[str, type[Agnt5Error]] = {
    kind.__name__: kind for kind in (errors.RunNotFoundError, errors.RunEndedError, errors.InvalidInputError)
}


class Answers:
    """The answering side of a machine. `program` runs in a copy of the context that is current now."""

    def __init__(self, state: State, program: Callable[[ev.RunStarted], Coroutine[Any, Any, Any]]) -> None:
        self._state = state
        self._program = program
        self._context = contextvars.copy_context()
        self._main: asyncio.Task[Any] | None = None
        self._cancels: dict[bool, str] = {}
        self._voided: list[int] = []
        self._votes: dict[int, list[dict[str, Any]]] = {}
        self._batch: Sequence[ev.Event] = ()
        self._index = 0
        self._table: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.RunStarted: self._started,
            ev.TaskCompleted: self._task_completed,
            ev.TaskFailed: self._task_failed,
            ev.TimerFired: self._timer_fired,
            ev.StepCompleted: self._step_completed,
            ev.StepFailed: self._step_failed,
            ev.SignalReceived: self._signal_received,
            ev.SignalDelivered: self._signal_delivered,
            ev.SignalRefused: self._signal_refused,
            ev.ApprovalVoted: self._approval_voted,
            ev.ApprovalDecided: self._approval_decided,
            ev.CancelRequested: self._cancel_requested,
            ev.RunReopened: self._reopened,
        }

    def feed(self, events: Sequence[ev.Event], void: dict[int, int]) -> None:
        """Feed events one by one; `void` holds the positions of failures that may count as not recorded."""
        state, loop, table = self._state, self._state.loop, self._table
        self._batch = events
        for index, event in enumerate(events):
            state.position += 1
            answer = table.get(type(event))
            if answer is None:
                self._check_known(event)
                continue
            if self._main is None and not isinstance(event, ev.RunStarted):
                raise Agnt5Error(f"run {state.run_id}: the journal begins with {event!r}, not with RunStarted")
            if index in void and state.ledger.seq >= void[index] and self._void(event):
                continue
            if state.outcome is not None and not isinstance(event, ev.SignalReceived):
                continue
            self._index = index
            loop.now_ms = max(loop.now_ms, event.at)
            answer(event)
            loop.run_ready()
            if state.broken is not None:
                break
        self._batch = ()

    def _check_known(self, event: ev.Event) -> None:
        if type(event) not in _UNSEEN:
            raise Agnt5Error(f"run {self._state.run_id}: {event!r} is no event of a journal")

    # ---- begin and end

    def _started(self, event: ev.RunStarted) -> None:
        state = self._state
        if self._main is not None:
            raise Agnt5Error(f"run {state.run_id}: the journal has a second RunStarted, generation {event.generation}")
        state.generation = event.generation
        state.chance = Chance(state.run_id, event.generation)
        self._main = state.loop.create_task(self._run(event), context=self._context)
        self._main.add_done_callback(self._ended)

    async def _run(self, event: ev.RunStarted) -> Any:
        # awaited in here, so that an error of the call itself is the program's too
        return await self._program(event)

    def _ended(self, main: asyncio.Task[Any]) -> None:
        self._state.end(self._judge(main))

    def _judge(self, main: asyncio.Task[Any]) -> Outcome:
        if main.cancelled():
            if self._cancels:
                return Cancelled([*self._cancels.values()][-1])
            return Failed(asyncio.CancelledError("the workflow cancelled itself; nobody asked the run to end"))
        error = main.exception()
        if error is None:
            return Completed(main.result())
        going_on = _continuation(error)
        return Failed(error) if going_on is None else ContinuedAsNew(going_on.input, ())

    def _cancel_requested(self, event: ev.CancelRequested) -> None:
        # a passed deadline counts even after a cancel that the code got over
        if self._main is not None and event.deadline not in self._cancels:
            self._cancels[event.deadline] = event.reason
            self._main.cancel()

    # ---- answers to commands

    def _task_completed(self, event: ev.TaskCompleted) -> None:
        self._task_ended(event.seq, "the result of a task", lambda future: future.set_result(event.result))

    def _task_failed(self, event: ev.TaskFailed) -> None:
        self._task_ended(
            event.seq, "the failure of a task", lambda future: future.fail(from_data(event.error, TaskFailedError))
        )

    def _task_ended(self, seq: int, what: str, settle: Callable[[CommandFuture], None]) -> None:
        opened = self._pop(seq, StartTask, what)
        if opened is None:
            return
        ref = opened.target
        assert isinstance(ref, TaskRef)
        if ref.cancelled_by is not None:
            self._state.opened.pop(ref.cancelled_by)
        if not ref.future.done():
            settle(ref.future)

    def _timer_fired(self, event: ev.TimerFired) -> None:
        opened = self._pop(event.seq, StartTimer, "the firing of a timer")
        if opened is None:
            return
        command, loop = opened.command, self._state.loop
        assert isinstance(command, StartTimer)
        loop.now_ms = max(loop.now_ms, command.due_ms)
        if isinstance(opened.target, DurableTimerHandle):
            loop.fire(opened.target)
        else:
            _settle(opened, None)

    def _step_completed(self, event: ev.StepCompleted) -> None:
        _settle(self._pop(event.seq, RunStep, f'the value of step "{event.name}"'), event.result)

    def _step_failed(self, event: ev.StepFailed) -> None:
        opened = self._pop(event.seq, RunStep, f'the failure of step "{event.name}"')
        _settle(opened, None, from_data(event.error, StepFailedError))

    def _signal_received(self, event: ev.SignalReceived) -> None:
        state = self._state
        if (seq := state.mailbox.receive(event)) is not None:
            state.opened.pop(seq)

    def _signal_delivered(self, event: ev.SignalDelivered) -> None:
        _settle(self._pop(event.seq, EmitSignal, "the delivery of a signal"), None)

    def _signal_refused(self, event: ev.SignalRefused) -> None:
        opened = self._pop(event.seq, EmitSignal, "the refusal of a signal")
        _settle(opened, None, _refusal(event.error))

    def _approval_voted(self, event: ev.ApprovalVoted) -> None:
        self._votes.setdefault(event.seq, []).append(_vote(event))

    def _approval_decided(self, event: ev.ApprovalDecided) -> None:
        opened = self._pop(event.seq, RequestApproval, "the decision of an approval")
        votes = self._votes.pop(event.seq, [])
        decision = _vote(event)
        _settle(opened, decision | {"votes": [*votes, decision] if event.approver else votes})

    def _pop(self, seq: int, kind: type[Command], what: str) -> Opened | None:
        """The open command that an answer is for; None if the answer came before, or nobody waits for it."""
        state = self._state
        opened = state.opened.get(seq)
        if opened is None:
            if seq > state.ledger.seq:
                raise state.ledger.unknown(seq, what)
            return None
        if type(opened.command) is not kind:
            raise state.ledger.other_kind(seq, what)
        return state.opened.pop(seq)

    # ---- re-opened runs

    def _void(self, event: Any) -> bool:
        """Count a failure as not recorded. One that the code itself brought about by a cancel stays."""
        if isinstance(event, ev.CancelRequested):
            return True
        opened = self._state.opened.get(event.seq)
        if opened is None or (isinstance(opened.target, TaskRef) and opened.target.cancelled_by is not None):
            return False
        if event.seq not in self._voided:
            self._voided.append(event.seq)
        return True

    def _reopened(self, _event: ev.RunReopened) -> None:
        voided, self._voided = sorted(self._voided), []
        for seq in voided:
            opened = self._state.opened.get(seq)
            if opened is None:
                continue
            command = opened.command
            rest = self._index + 1
            if isinstance(command, StartTask) and isinstance(opened.target, TaskRef):
                command = self._next_child(command, opened.target)
                done = task_redone(self._batch, rest, seq, command.id)
            else:
                done = step_redone(self._batch, rest, seq)
            self._state.opened.again(seq, command, is_new=not done)

    def _next_child(self, command: StartTask, ref: TaskRef) -> StartTask:
        ref.redo += 1
        first = command.id if ref.redo == 1 else command.id.rpartition("!")[0]
        ref.id = f"{first}!{ref.redo}"
        return replace(command, id=ref.id)


def _settle(opened: Opened | None, value: Any, error: RunFailedError | Agnt5Error | None = None) -> None:
    if opened is None:
        return
    future = opened.target
    assert isinstance(future, CommandFuture)
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.fail(error)


def _vote(event: ev.ApprovalVoted | ev.ApprovalDecided) -> dict[str, Any]:
    return {
        "decision": event.decision,
        "approver": event.approver,
        "comment": event.comment,
        "data": event.data,
        "at_ms": event.at,
    }


def _refusal(data: dict[str, Any]) -> Agnt5Error:
    kind = _REFUSALS.get(data.get("type", ""))
    return from_data(data) if kind is None else kind(data.get("message", ""))


def _continuation(error: BaseException) -> ContinueAsNew | None:
    """The ContinueAsNew in an error, also inside the group that a TaskGroup makes of it."""
    if isinstance(error, ContinueAsNew):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _continuation(inner)) is not None), None)
    return None

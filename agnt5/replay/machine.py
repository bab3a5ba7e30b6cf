"""Runs one workflow: events in, commands out. The same events always give the same commands."""

from __future__ import annotations

import contextlib
import functools
import random
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any, NoReturn

from agnt5.contracts.approvals import ApprovalTerms
from agnt5.contracts.errors import Agnt5Error, InvalidInputError, NonDeterminismError, WrongContextError
from agnt5.contracts.ids import call_id, call_operation, child_id
from agnt5.replay.answers import Answers
from agnt5.replay.commands import (
    AwaitSignal,
    CancelTask,
    Command,
    EmitSignal,
    MarkPatch,
    RecordConfig,
    RequestApproval,
    RunStep,
    StartTask,
    StartTimer,
)
from agnt5.replay.events import ApprovalRequested, ConfigRead, Event, RunStarted
from agnt5.replay.futures import CommandFuture, SignalFuture
from agnt5.replay.journal import terms_of
from agnt5.replay.ledger import Wanted
from agnt5.replay.loop import MAX_CALLBACKS, DeterministicLoop, DurableTimerHandle, EndlessLoopError, Halted
from agnt5.replay.outcomes import Activation, ContinueAsNew, ContinuedAsNew, Failed
from agnt5.replay.refs import ApprovalRef, TaskRef, key_part
from agnt5.replay.reopen import doubted
from agnt5.replay.state import State

Program = Callable[["Machine", RunStarted], Coroutine[Any, Any, Any]]


class Machine:
    """One generation of one workflow run.

    Hand the whole journal to the first `activate`, later events to later ones, and append the commands of
    each answer to the journal before their effects begin (steps above all). Any cut of one journal into
    activations leads to the same commands and the same outcome. After an error that `activate` raised, the
    machine is of no use any more. Call `close` when done with it.

    `processed` is the number of leading journal entries whose commands an earlier activation has appended:
    user code that runs for them is silent (`replaying`), and what it takes back has been taken back.
    `claimed_ms` is the store's time at which its host took the run.
    Tasks inherit the context variables that were current when the machine was made.
    """

    def __init__(
        self,
        run_id: str,
        program: Program,
        *,
        processed: int = 0,
        claimed_ms: int = 0,
        max_callbacks: int = MAX_CALLBACKS,
    ) -> None:
        self.run_id = run_id
        self.processed = processed
        self._claimed_ms = claimed_ms
        self._loop = DeterministicLoop(  # type: ignore[abstract]
            start_timer=self._start_loop_timer, cancel_timer=self._abandon, max_callbacks=max_callbacks
        )
        self._state = State(run_id, self._loop)
        self._ledger, self._opened, self._mailbox = self._state.ledger, self._state.opened, self._state.mailbox
        self._answers = Answers(self._state, functools.partial(program, self))
        self._refs: dict[str, TaskRef] = {}
        self._patches: dict[str, bool] = {}
        self._configs: dict[tuple[str, str], Any] = {}
        self._closed = False

    # ---- for the host

    @property
    def replaying(self) -> bool:
        """True while the code runs for what was handled before: logs, metrics and spans are silent then."""
        return bool(self._ledger.recorded) or self._state.position < self.processed or self._closed

    @property
    def waiting_on(self) -> tuple[dict[str, Any], ...]:
        """What the code waits for now, as JSON data for people."""
        return self._opened.as_data()

    def open_commands(self) -> tuple[Command, ...]:
        """Journaled commands without an answer, whose effects a new owner repeats (steps are not among them).

        Those that the latest activation answered are left out: they are not journaled yet.
        """
        return self._opened.journaled()

    def activate(self, events: Sequence[Event]) -> Activation:
        """Feed events in journal order, run the code until idle after each, and answer what it asked anew.

        Raises `NonDeterminismError` if the code does not fit the journal; nothing was asked then.
        Events that the machine knows already (its own commands, repeated answers) do no harm.
        """
        if self._state.broken is not None:
            raise self._state.broken.with_traceback(None)
        if self._closed and self._state.outcome is None:
            raise Agnt5Error(f"run {self.run_id}: this machine is closed")
        try:
            return self._activate(events)
        except Agnt5Error as error:
            self._state.broken = error
            self.close()
            raise
        except BaseException:
            self._state.broken = Agnt5Error(f"run {self.run_id}: this machine was interrupted, make a new one")
            self.close()
            raise

    def close(self) -> None:
        """Drop the workflow where it stands. `finally` blocks of its code run, and can ask for nothing."""
        if not self._closed:
            self._closed = True
            self._loop.dispose(report=self._state.outcome is not None)

    def _activate(self, events: Sequence[Event]) -> Activation:
        void = doubted(events) if self._ledger.scan(events) else {}
        self._opened.begin_activation()
        if self._closed:
            self._answers.feed(events, void)
        else:
            self._loop.enter()
            try:
                self._answers.feed(events, void)
            except EndlessLoopError as error:
                self._state.end(Failed(error))
            finally:
                self._loop.leave()
        if self._state.broken is not None:
            raise self._state.broken
        self._ledger.check_all_asked()
        return self._answer()

    def _answer(self) -> Activation:
        outcome = self._state.outcome
        if outcome is not None:
            self.close()
            if isinstance(outcome, ContinuedAsNew):
                outcome = ContinuedAsNew(outcome.input, self._mailbox.unconsumed())
        return Activation(self._opened.new_commands(), outcome)

    # ---- the port: what the SDK calls from workflow code

    def start_task(
        self,
        handler: str,
        input: Any,  # noqa: A002
        *,
        key: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> TaskRef:
        """Start a child run. The same key in one run is the same child; `InvalidInputError` for another handler."""
        self._check_usable()
        part: str | int = self._ledger.seq + 1
        if key is not None:
            if (known := self._refs.get(key)) is not None:
                return self._same_handler(known, handler, key)
            part = key_part(key)
        ref = self._start(handler, child_id(self.run_id, part, generation=self._state.generation), input, options)
        if key is not None:
            self._refs[key] = ref
        return ref

    def call_entity(
        self,
        handler: str,
        entity: str,
        input: Any,  # noqa: A002
        *,
        key: str = "",  # noqa: ARG002 - for functions, as that of `step`
        options: dict[str, Any] | None = None,
    ) -> TaskRef:
        """Call a method of an entity: a task that lives in the entity's shard, under an id of its own kind."""
        self._check_usable()
        operation = call_operation(self.run_id, self._state.generation, str(self._ledger.seq + 1))
        return self._start(handler, call_id(entity, operation), input, options)

    def cancel_task(self, ref: TaskRef) -> None:
        """Ask a child to end; `ref.future` gets its `RunCancelledError` then. No command if it has ended."""
        self._check_usable()
        if ref.cancelled_by is not None or not self._opened.has(ref.seq):
            return
        recorded = self._take(("cancel", str(ref.seq), ""))
        ref.cancelled_by = self._ledger.seq
        command = CancelTask(seq=ref.cancelled_by, target=ref.seq, id=ref.id)
        self._opened.add(command, None, is_new=recorded is None)

    def step(self, name: str, fn: Callable[[], Any], key: str = "") -> CommandFuture:  # noqa: ARG002
        """Have `fn` run by the host; its value or its `StepFailedError` is recorded once and for all.

        `key` is for functions: here the order of commands says which step is meant.
        """
        self._check_usable()
        recorded = self._take(("step", name, ""))
        seq = self._ledger.seq
        future = CommandFuture(seq, self._abandon, loop=self._loop)
        self._opened.add(RunStep(seq=seq, name=name, fn=fn, context=copy_context()), future, is_new=recorded is None)
        return future

    def start_timer(self, due_ms: int, name: str = "") -> CommandFuture:
        """A future that is done at `due_ms`. Cancelling it takes the timer back."""
        future = CommandFuture(self._ledger.seq + 1, self._abandon, loop=self._loop)
        self._start_timer(due_ms, name, future)
        return future

    def await_signal(self, name: str) -> SignalFuture:
        """A future for the next signal `name`. A waiter that is cancelled before it has the payload eats none."""
        self._check_usable()
        recorded = self._take(("signal", name, ""))
        seq = self._ledger.seq
        future = SignalFuture(seq, self._abandon, self._give_back, loop=self._loop)
        self._opened.add(AwaitSignal(seq=seq, name=name), future, is_new=recorded is None)
        if self._mailbox.wait(name, future):
            self._opened.pop(seq)
        return future

    def emit_signal(self, name: str, target: str, payload: Any) -> CommandFuture:
        """Signal another run; the future is done on delivery, or has the error of its refusal."""
        self._check_usable()
        recorded = self._take(("emit", name, target))
        seq = self._ledger.seq
        future = CommandFuture(seq, None, loop=self._loop)
        command = EmitSignal(seq=seq, name=name, target=target, payload=payload)
        self._opened.add(command, future, is_new=recorded is None)
        return future

    def request_approval(self, terms: ApprovalTerms, timeout_ms: int | None = None) -> ApprovalRef:
        """Ask people for a decision; recorded terms count. The answer is `{decision, approver, comment, data, at_ms,
        votes}`, each vote the same without `votes`.

        `timeout_ms` is counted from the claim where that is later than what the code runs for: a run that waited for
        a worker must not ask what is past its due time already.
        """
        self._check_usable()
        recorded = self._take(("approval", terms.name, ""))
        if isinstance(recorded, ApprovalRequested):
            terms = terms_of(recorded)
        elif timeout_ms is not None:
            terms = replace(terms, due_ms=max(self._loop.now_ms, self._claimed_ms) + timeout_ms)
        seq = self._ledger.seq
        future = CommandFuture(seq, self._abandon, loop=self._loop)
        self._opened.add(RequestApproval(seq=seq, terms=terms), future, is_new=recorded is None)
        return ApprovalRef(seq, terms, future)

    def patched(self, change: str) -> bool:
        """True if the changed code runs here: in new runs, and in open ones that had not come this far.

        The first answer holds for the rest of the generation.
        """
        self._check_usable()
        answer = self._patches.get(change)
        if answer is None:
            answer = self._patches[change] = self._ledger.patched(change)
            if answer and self._take(("patch", change, "")) is None:
                self._opened.mark(MarkPatch(seq=self._ledger.seq, change=change))
        return answer

    def read_config(self, key: str, unit: str, ask: Callable[[], Any], *, fresh: bool = False) -> Any:
        """What `ask` gives, recorded, so that every replay gets the same: as JSON data, not to be changed.

        The first answer for a key and unit holds for the rest of the generation, until one is asked for that is
        `fresh`. `ask` must not raise.
        """
        self._check_usable()
        if fresh or (key, unit) not in self._configs:
            recorded = self._take(("config", key, unit))
            if isinstance(recorded, ConfigRead):
                value = recorded.value
            else:
                value = ask()
                self._opened.mark(RecordConfig(seq=self._ledger.seq, key=key, value=value, unit=unit))
            self._configs[key, unit] = value
        return self._configs[key, unit]

    def continue_as_new(self, input: Any) -> NoReturn:  # noqa: A002
        """End this generation and begin the next with `input`. Call it from the main code, or what it awaits."""
        self._check_usable()
        raise ContinueAsNew(input)

    def now_ms(self) -> int:
        """The time of the event that the code runs for; never goes back."""
        return self._loop.now_ms

    def random(self) -> random.Random:
        """The run's own generator."""
        return self._state.chance.random()

    def uuid(self) -> uuid.UUID:
        """The run's next UUID."""
        return self._state.chance.uuid()

    # ---- inside

    def _start(self, handler: str, run_id: str, input: Any, options: dict[str, Any] | None) -> TaskRef:  # noqa: A002
        recorded = self._take(("task", handler, run_id))
        seq = self._ledger.seq
        command = StartTask(seq=seq, handler=handler, id=run_id, input=input, options=options or {})
        ref = TaskRef(seq, run_id, handler, CommandFuture(seq, None, loop=self._loop))
        self._opened.add(command, ref, is_new=recorded is None)
        return ref

    def _take(self, wanted: Wanted) -> Event | None:
        try:
            recorded = self._ledger.take(wanted)
        except NonDeterminismError as error:
            self._state.broken = error
            self._loop.halt()
            raise Halted from None
        if recorded is not None:
            # one append journals all commands of an activation: what was asked before this one has been done
            self._opened.forget_cancels()
        return recorded

    def _check_usable(self) -> None:
        if not self._loop.active:
            raise WrongContextError(
                f"run {self.run_id}: a workflow's ctx was used outside of its own code, for example inside ctx.step; "
                "pass values into the step, and use ctx in the workflow itself"
            )
        if self._loop.halted:
            raise Halted

    def _same_handler(self, known: TaskRef, handler: str, key: str) -> TaskRef:
        if known.handler == handler:
            return known
        raise InvalidInputError(
            f"run {self.run_id}: key {key!r} is taken by a task of {known.handler}, the code asks {handler}; "
            "a key names one child, use another"
        )

    def _start_timer(self, due_ms: int, name: str, target: CommandFuture | DurableTimerHandle) -> None:
        self._check_usable()
        recorded = self._take(("timer", name, ""))
        due = due_ms if recorded is None else recorded.due_ms  # type: ignore[attr-defined]
        command = StartTimer(seq=self._ledger.seq, due_ms=due, name=name)
        self._opened.add(command, target, is_new=recorded is None)

    def _start_loop_timer(self, due_ms: int, handle: DurableTimerHandle) -> int:
        # raising here, inside asyncio.wait_for, would leave its coroutine unawaited: the halted loop is enough
        with contextlib.suppress(Halted):
            self._start_timer(due_ms, "", handle)
        return self._ledger.seq

    def _abandon(self, seq: int) -> None:
        """User code waits no more for command `seq`."""
        if self._loop.halted:
            return
        command = self._opened.abandon(seq, settled=self._state.position < self.processed)
        if isinstance(command, AwaitSignal):
            self._mailbox.forget(command.name, seq)

    def _give_back(self, future: SignalFuture) -> None:
        if (seq := self._mailbox.give_back(future)) is not None:
            self._opened.pop(seq)

"""A workflow in memory: the replay machine's shell. The machine decides, this obeys.

Commands become one append each activation; steps run as tasks on the host's loop; the machine sees only events
that the journal holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from agnt5.contracts.errors import (
    Agnt5Error,
    EntityDeadlockError,
    InvalidInputError,
    JournalLimitError,
    NonDeterminismError,
    RunEndedError,
    RunNotFoundError,
    error_data,
)
from agnt5.contracts.ids import entity_of
from agnt5.contracts.runs import RunStatus
from agnt5.contracts.traces import below
from agnt5.replay import journal
from agnt5.replay.commands import (
    CancelStep,
    CancelTask,
    CancelTimer,
    Command,
    EmitSignal,
    RecordConfig,
    RequestApproval,
    RunStep,
    StartTask,
    StartTimer,
    WithdrawApproval,
)
from agnt5.replay.events import (
    Event,
    RunReopened,
    RunStarted,
    SignalDelivered,
    SignalRefused,
    StepCompleted,
    StepFailed,
    TaskFailed,
)
from agnt5.replay.machine import Machine
from agnt5.replay.outcomes import Cancelled, Completed, ContinuedAsNew, Failed, Outcome
from agnt5.runtime.approvals import new_ask
from agnt5.runtime.children import new_child
from agnt5.runtime.encoding import bounded, encode_checked
from agnt5.runtime.exits import contained
from agnt5.runtime.live import LiveRun
from agnt5.sdk.contexts import WorkflowContext
from agnt5.store.replies import Applied, More
from agnt5.store.store import Batch
from agnt5.telemetry.current import SILENT


class LiveWorkflow(LiveRun):
    """A claimed workflow. Replays what its journal holds, then goes on."""

    machine: Machine
    started: RunStarted

    def start(self, events: list[Event]) -> None:
        first = events[0]
        assert isinstance(first, RunStarted)
        self.started = first
        self._steps: dict[int, asyncio.Task[None]] = {}
        self._reaching: dict[int, asyncio.Task[None]] = {}
        self._outcome: Outcome | None = None
        self._begin(events)

    def _begin(self, events: list[Event]) -> None:
        self.enter(self.started)  # inherited by the tasks of the machine
        self.host.observer.begun(self)
        self.machine = Machine(self.run_id, self._program, processed=self.claimed.seen, claimed_ms=self.claimed.now_ms)
        self._notice(events)
        self._activate(events, replay=True)

    async def _program(self, machine: Machine, started: RunStarted) -> Any:
        ctx = WorkflowContext(self.info(started), machine, self.host.effects)
        kwargs = self.arguments(started)
        with contained():
            return await self.handler.fn(ctx, **kwargs)

    def apply(self, events: list[Event]) -> None:
        self.touch()
        self._activate(events)

    def _activate(self, events: list[Event], *, replay: bool = False) -> None:
        try:
            with self.host.observer.activation(self):
                activation = self.machine.activate(events)
        except NonDeterminismError as error:
            self.host.refuse(self, error)
            return
        except (SystemExit, KeyboardInterrupt) as error:  # of a task that the workflow made
            self.host.spawn(self.fail(error), self)
            return
        if replay:
            self._resume(opened_again=any(type(event) is RunReopened for event in events))
        commands = activation.commands
        ended = activation.outcome is not None
        self.host.observer.activated(self, events, len(commands), ended=ended and self._outcome is None, replay=replay)
        if activation.outcome is None:
            if commands or not self.waiting:
                self._obey(commands)
            self.release()
        else:
            # at once: what later events add to it (signals to carry over) belongs to the journal seen so far
            first, self._outcome = self._outcome is None, activation.outcome
            if first:
                self.host.spawn(self._end(commands), self)

    def _resume(self, *, opened_again: bool) -> None:
        """Take up what the journal left open (rule R4): what leaves the shard, asks and timers that ended."""
        commands = self.machine.open_commands()
        self._reach_out(commands)
        batch = Batch(asks=[new_ask(command) for command in commands if isinstance(command, RequestApproval)])
        if opened_again:
            batch.timers += [(command.seq, command.due_ms) for command in commands if isinstance(command, StartTimer)]
        if batch:
            self.append(batch)

    # ---- commands

    def _obey(self, commands: tuple[Command, ...]) -> None:
        try:
            batch, after = self._batch(commands)
        except Agnt5Error as error:  # an input that has no JSON form, or is too large
            self.host.spawn(self.fail(error), self)
            return
        recorded = None
        if any(isinstance(command, RecordConfig) for command in commands):
            # a step must not begin for a value that a crash would forget: the next owner may read another one
            recorded = self.host.loop.create_future()
            after = partial(_both, after, recorded)
        for command in commands:
            if isinstance(command, CancelStep) and (step := self._steps.pop(command.seq, None)):
                step.cancel()
            elif isinstance(command, RunStep):
                running = self._step(command, recorded)
                self._steps[command.seq] = self.host.spawn(running, self, context=command.context)
        self.note(RunStatus.RUNNING if self._steps else RunStatus.WAITING, batch, after)

    def _batch(self, commands: tuple[Command, ...]) -> tuple[Batch, Callable[[], None] | None]:
        batch = Batch()
        outside: list[Command] = []
        for command in commands:
            body = self._body(command)
            if body is not None:
                batch.bodies.append(body)
            if _leaves(command):
                outside.append(command)
            else:
                self._put(batch, command)
        if not outside:
            return batch, None
        return batch, lambda: self._reach_out(outside)

    def _body(self, command: Command) -> bytes | None:
        """The journal entry of a command; None where it has none when it is asked."""
        if not isinstance(command, EmitSignal):
            return journal.encode_command(command)
        event = journal.event_of(command)
        assert event is not None
        what = f"payload of signal {command.name!r} (run {self.run_id})"
        return encode_checked(event, command.payload, what, self.host.settings.payload_limit)

    def _put(self, batch: Batch, command: Command) -> None:
        """The effect of a command within its own shard."""
        match command:
            case StartTask():
                batch.children.append(new_child(self, command, self.started))
            case StartTimer():
                batch.timers.append((command.seq, command.due_ms))
            case CancelTimer():
                batch.untimers.append(command.seq)
            case RequestApproval():
                batch.asks.append(new_ask(command, self.host.settings.payload_limit))
            case WithdrawApproval():
                batch.unasks.append(command.seq)
            case CancelTask():
                batch.cancels.append((command.id, b'"its parent asked for it"'))
            case _:
                pass

    def silent(self) -> bool:
        """While it is replayed."""
        return self.machine.replaying

    async def _step(self, command: RunStep, recorded: asyncio.Future[None] | None) -> None:
        SILENT.set(None)  # a step that runs is never a repetition
        seq, name, what = command.seq, command.name, f"step {command.name!r} (run {self.run_id})"
        if recorded is not None:
            await asyncio.shield(recorded)
        begun_s = self.host.loop.time()
        try:
            with self.host.observer.step(self, name):
                value = await self.host.call(command.fn)
            event = StepCompleted(seq=seq, name=name, result=value, took_ms=self.host.since_ms(begun_s))
            body = encode_checked(event, value, f"result of {what}", self.host.settings.payload_limit)
        except Exception as error:  # noqa: BLE001 - recorded, and raised where the workflow awaits it
            took_ms = self.host.since_ms(begun_s)
            data = bounded(error_data(error, where=what), self.host.settings.payload_limit)
            body = journal.encode(StepFailed(seq=seq, name=name, error=data, took_ms=took_ms))
        self._steps.pop(seq, None)
        await self.write(Batch(bodies=[body]), heard=True)

    def _reach_out(self, commands: Iterable[Command]) -> None:
        """Bring on its way what leaves the tree's shard; what gets lost is repeated by the next owner (rule R4)."""
        for command in commands:
            if isinstance(command, EmitSignal):
                self._reaching[command.seq] = self.host.spawn(self._deliver(command), self)
            elif isinstance(command, StartTask | CancelTask) and _leaves(command):
                self._reaching[command.seq] = self.host.spawn(self._call_entity(command), self)

    async def park(self) -> bool:
        """As every run, but not while something is on its way out: nobody would repeat that for a parked run."""
        self._reaching = {seq: task for seq, task in self._reaching.items() if not task.done()}
        return not self._reaching and await super().park()

    async def _call_entity(self, command: StartTask | CancelTask) -> None:
        if isinstance(command, CancelTask):
            if calling := self._reaching.get(command.target):  # what is not there yet cannot be cancelled
                await asyncio.wait([calling])
            await self.host.calls.cancel(command.id)
            return
        try:
            await self.host.calls.deliver(self, command, self.started)
        except (EntityDeadlockError, InvalidInputError) as error:
            body = journal.encode(TaskFailed(seq=command.seq, error=error_data(error)))
            self.append(Batch(bodies=[body]), heard=True)

    async def _deliver(self, command: EmitSignal) -> None:
        event: Event
        operation = f"{self.run_id}#{self.started.generation}.{command.seq}"
        try:
            await self.host.signal(self, command.target, command.name, command.payload, operation=operation)
            event = SignalDelivered(seq=command.seq)
        except (RunNotFoundError, RunEndedError, JournalLimitError) as error:
            event = SignalRefused(seq=command.seq, error=error_data(error))
        self.append(Batch(bodies=[journal.encode(event)]), heard=True)

    # ---- ends

    async def _end(self, commands: tuple[Command, ...]) -> None:
        try:
            batch, _ = self._batch(commands)
        except Agnt5Error as error:  # the input of a task that nobody awaits
            await self.fail(error)
            return
        if batch:
            self.append(batch)
        await self._last_reach_out(commands)
        for step in self._steps.values():
            step.cancel()
        match self._outcome:
            case Completed(result):
                await self.complete(result)
            case Failed(raised):
                await self.fail(raised)
            case Cancelled(reason):
                await self.cancelled(reason)
            case ContinuedAsNew():
                await self._renew()
                return
        self.machine.close()

    async def _last_reach_out(self, commands: Iterable[Command]) -> None:
        """What nobody waits for is brought on its way all the same: an ended run delivers nothing."""
        self._reach_out(commands)
        if isinstance(self._outcome, Cancelled):
            for command in self.machine.open_commands():  # of other shards, where the end of this run is not seen
                if isinstance(command, StartTask) and _leaves(command):
                    await self.host.calls.cancel(command.id)
        if open_tasks := [task for task in self._reaching.values() if not task.done()]:
            await asyncio.wait(open_tasks)

    async def _renew(self) -> None:
        """Begin the next generation, as soon as nothing has come that this one has not seen."""
        try:
            while isinstance(reply := await self._try_renew(), More):
                # our own last commands, or a signal, which is carried over too
                while self.seen < reply.length and not self.ended:
                    await self._read_on()
                if self.ended:
                    return
        except InvalidInputError as error:
            await self.fail(error)
            return
        self.machine.close()
        self.host.observer.renewed(self)
        entries = await self.host.store.entries(self.run_id, 0)
        self._inbox.clear()
        self.begin(entries)

    def _try_renew(self) -> Awaitable[Applied | More]:
        started, outcome = self.started, self._outcome
        assert isinstance(outcome, ContinuedAsNew)
        next_start = RunStarted(
            handler=started.handler,
            kind=started.kind,
            input=outcome.input,
            # later generations are below the first one in the trace
            headers=started.headers if started.generation else below(self.trace, started.headers),
            parent=started.parent,
            generation=started.generation + 1,
            queue=started.queue,
            priority=started.priority,
            options=started.options,
            holds=started.holds,
            requester=started.requester,
            root=started.root,
        )
        what = f"input of continue_as_new (run {self.run_id})"
        body = encode_checked(next_start, outcome.input, what, self.host.settings.payload_limit)
        carried = [b'{"at":%d,' % signal.at + journal.encode(signal)[1:] for signal in outcome.carried]
        return self.host.store.renew(self.own, seen=self.seen, body=body, carried=carried)

    def drop(self) -> None:
        for step in self._steps.values():
            step.cancel()
        self.machine.close()


def _both(first: Callable[[], None] | None, then: asyncio.Future[None]) -> None:
    if first is not None:
        first()
    then.set_result(None)


def _leaves(command: Command) -> bool:
    """Whether a command's effect is in another shard: signals, and calls of entities with their cancels."""
    if isinstance(command, StartTask | CancelTask):
        return entity_of(command.id) is not None
    return isinstance(command, EmitSignal)

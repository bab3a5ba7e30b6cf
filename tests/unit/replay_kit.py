"""A host in small: keeps a journal in a list and drives one machine."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from agnt5.replay.commands import Command
from agnt5.replay.events import (
    CancelRequested,
    Event,
    RunStarted,
    SignalReceived,
    StepCompleted,
    TaskCompleted,
    TaskFailed,
    TimerFired,
)
from agnt5.replay.journal import event_of
from agnt5.replay.machine import Machine
from agnt5.replay.outcomes import Activation

RUN_ID = "order-17"


class Run:
    """One run: `start`, then answers; each is stamped, appended, fed, and its commands are appended."""

    def __init__(self, program, run_id: str = RUN_ID, **options) -> None:
        self.program = program
        self.run_id = run_id
        self.journal: list[Event] = []
        self.now_ms = 1_000_000
        self.machine = Machine(run_id, program, **options)
        self.answer: Activation | None = None

    def start(self, generation: int = 0, input: object = None) -> tuple[Command, ...]:  # noqa: A002
        return self.feed(RunStarted(handler="orders.fulfil", kind="workflow", input=input, generation=generation))

    def feed(self, *events: Event) -> tuple[Command, ...]:
        stamped = [event if event.at else replace(event, at=self.now_ms) for event in events]
        self.journal.extend(stamped)
        self.answer = self.machine.activate(stamped)
        for command in self.answer.commands:
            event = event_of(command)
            if event is not None:
                self.journal.append(replace(event, at=self.now_ms))
        return self.answer.commands

    def complete(self, seq: int, result: object = None) -> tuple[Command, ...]:
        return self.feed(TaskCompleted(seq=seq, result=result))

    def fail(self, seq: int, type: str = "ValueError", message: str = "no") -> tuple[Command, ...]:  # noqa: A002
        return self.feed(TaskFailed(seq=seq, error={"type": type, "message": message}))

    def step_done(self, seq: int, name: str, result: object = None) -> tuple[Command, ...]:
        return self.feed(StepCompleted(seq=seq, name=name, result=result))

    def fire(self, seq: int, due_ms: int) -> tuple[Command, ...]:
        self.now_ms = max(self.now_ms, due_ms)
        return self.feed(TimerFired(seq=seq))

    def signal(self, name: str, payload: object = None, op: str = "") -> tuple[Command, ...]:
        return self.feed(SignalReceived(name=name, payload=payload, op=op))

    def cancel(self, reason: str = "enough") -> tuple[Command, ...]:
        return self.feed(CancelRequested(reason=reason))

    @property
    def outcome(self):
        return self.answer.outcome

    def replay(self, program=None, **options) -> tuple[Machine, Activation]:
        """A new machine fed with the whole journal at once."""
        machine = Machine(self.run_id, program or self.program, **options)
        return machine, machine.activate(self.journal)


def names(commands) -> list[str]:
    """`StartTask 1` and so on, for comparisons that read well."""
    return [f"{type(command).__name__} {command.seq}" for command in commands]


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fails where what runs inside leaves something behind that its end is warned of."""
    gc.collect()  # what other tests have left, such as connections that LiteLLM keeps
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()

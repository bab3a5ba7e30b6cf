"""Compares, by command number, what the journal holds with what the code asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agnt5.contracts.errors import NonDeterminismError
from agnt5.replay.events import (
    ApprovalRequested,
    ConfigRead,
    Event,
    PatchMarked,
    RunReopened,
    SignalAwaited,
    SignalEmitted,
    StepCompleted,
    StepFailed,
    TaskCancelRequested,
    TaskScheduled,
    TimerStarted,
)

Wanted = tuple[str, str, str]
"""What a command is, for comparison: its kind, its name, and one more thing that belongs to its identity."""

IDENTITY: dict[type[Event], Callable[[Any], Wanted]] = {
    TaskScheduled: lambda event: ("task", event.handler, event.id),
    TaskCancelRequested: lambda event: ("cancel", str(event.target), ""),
    TimerStarted: lambda event: ("timer", event.name, ""),
    SignalAwaited: lambda event: ("signal", event.name, ""),
    SignalEmitted: lambda event: ("emit", event.name, event.target),
    ApprovalRequested: lambda event: ("approval", event.name, ""),
    PatchMarked: lambda event: ("patch", event.change, ""),
    ConfigRead: lambda event: ("config", event.key, event.unit),
    StepCompleted: lambda event: ("step", event.name, ""),
    StepFailed: lambda event: ("step", event.name, ""),
}
"""Every event that records a command. Due times and payloads are left out: the recorded ones count."""

_SHOWN: dict[str, Callable[[Wanted], str]] = {
    "task": lambda wanted: f'task "{wanted[1]}" (run {wanted[2]})',
    "cancel": lambda wanted: f"the cancel of task {wanted[1]}",
    "timer": lambda wanted: f'timer "{wanted[1]}"' if wanted[1] else "an unnamed timer (sleep or timeout)",
    "signal": lambda wanted: f'a wait for signal "{wanted[1]}"',
    "emit": lambda wanted: f'signal "{wanted[1]}" to run {wanted[2]}',
    "approval": lambda wanted: f'approval "{wanted[1]}"',
    "patch": lambda wanted: f'patch "{wanted[1]}"',
    "config": lambda wanted: f'config "{wanted[1]}"' + (f" for {wanted[2]}" if wanted[2] else ""),
    "step": lambda wanted: f'step "{wanted[1]}"',
}

ADVICE = "the workflow changed while runs were open, gate the change with ctx.patched(...)"


def same(recorded: Wanted, asked: Wanted) -> bool:
    """True if both are one command; a task that was done again differs in the `!n` behind its id."""
    if recorded == asked:
        return True
    return recorded[0] == "task" and recorded[:2] == asked[:2] and recorded[2].startswith(asked[2] + "!")


class Ledger:
    """The commands of one run: what was asked so far, and what is recorded and not yet asked."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.highest = 0
        self.asked: list[Wanted] = []
        self.recorded: dict[int, Event] = {}

    @property
    def seq(self) -> int:
        """The number of the latest command."""
        return len(self.asked)

    def scan(self, events: Sequence[Event]) -> bool:
        """Take in the commands that a batch of the journal records; raises for one that the code asked otherwise.

        True if the run was re-opened in this batch.
        """
        asked, recorded = self.asked, self.recorded
        reopened = False
        for event in events:
            identity = IDENTITY.get(type(event))
            if identity is None:
                reopened = reopened or type(event) is RunReopened
                continue
            seq: int = event.seq  # type: ignore[attr-defined]
            if seq > len(asked):
                recorded.setdefault(seq, event)
                self.highest = max(self.highest, seq)
            elif not same(wanted := identity(event), asked[seq - 1]):
                raise self.mismatch(seq, wanted, asked[seq - 1])
        return reopened

    def take(self, wanted: Wanted) -> Event | None:
        """Number a command that the code asks; returns its record, or None when it is new."""
        self.asked.append(wanted)
        seq = len(self.asked)
        event = self.recorded.pop(seq, None)
        if event is not None:
            recorded = IDENTITY[type(event)](event)
            if recorded != wanted and not same(recorded, wanted):
                raise self.mismatch(seq, recorded, wanted)
        elif seq < self.highest and wanted[0] != "step":
            raise self._problem(seq, f"nothing, but has command {self.highest}", f"the code asked {_show(wanted)}")
        return event

    def patched(self, change: str) -> bool:
        """Whether changed code may run from here: it did when this was recorded, or nothing later is recorded."""
        seq = len(self.asked) + 1
        event = self.recorded.get(seq)
        if isinstance(event, PatchMarked) and event.change == change:
            return True
        return self.highest < seq

    def check_all_asked(self) -> None:
        """Raise if the journal holds a command that the code, fed with all events, did not ask."""
        if self.recorded:
            seq = min(self.recorded)
            event = self.recorded[seq]
            raise self._problem(seq, _show(IDENTITY[type(event)](event)), "the code did not ask for it")

    def unknown(self, seq: int, what: str) -> NonDeterminismError:
        """For an answer to a command that the code has not asked."""
        return self._problem(seq, what, f"the code has asked {self.seq} commands so far")

    def other_kind(self, seq: int, what: str) -> NonDeterminismError:
        """For an answer that does not belong to the kind of command that the code asked."""
        return self._problem(seq, what, f"the code asked {_show(self.asked[seq - 1])}")

    def mismatch(self, seq: int, recorded: Wanted, asked: Wanted) -> NonDeterminismError:
        """For a command that was recorded as another."""
        return self._problem(seq, _show(recorded), f"the code asked {_show(asked)}")

    def _problem(self, seq: int, journal: str, code: str) -> NonDeterminismError:
        return NonDeterminismError(f"run {self.run_id}, command {seq}: the journal has {journal}, {code}; {ADVICE}")


def _show(wanted: Wanted) -> str:
    return _SHOWN[wanted[0]](wanted)

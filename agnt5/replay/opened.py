"""The commands that have no answer yet, and those that the current activation has to answer with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agnt5.replay.commands import (
    AwaitSignal,
    CancelStep,
    CancelTask,
    CancelTimer,
    Command,
    EmitSignal,
    RequestApproval,
    RunStep,
    StartTask,
    StartTimer,
    WithdrawApproval,
)
from agnt5.replay.futures import CommandFuture
from agnt5.replay.loop import DurableTimerHandle
from agnt5.replay.refs import TaskRef

Target = TaskRef | CommandFuture | DurableTimerHandle | None
"""Who gets the answer."""


@dataclass(slots=True, eq=False)
class Opened:
    """An open command. `is_new`: the journal did not have it when it was asked."""

    command: Command
    target: Target
    is_new: bool


_DATA: dict[type[Command], Callable[[Any], dict[str, Any]]] = {
    StartTask: lambda command: {"kind": "task", "name": command.handler, "id": command.id},
    StartTimer: lambda command: {"kind": "timer", "name": command.name, "due_ms": command.due_ms},
    AwaitSignal: lambda command: {"kind": "signal", "name": command.name},
    EmitSignal: lambda command: {"kind": "emit", "name": command.name, "target": command.target},
    RequestApproval: lambda command: {
        "kind": "approval",
        "name": command.terms.name,
        "due_ms": command.terms.due_ms or None,
    },
    RunStep: lambda command: {"kind": "step", "name": command.name},
}


class OpenCommands:
    """Open commands by number, in the order of asking, and the new commands of this activation."""

    def __init__(self) -> None:
        self._open: dict[int, Opened] = {}
        self._new: list[Command] = []
        self._cancels = 0

    def begin_activation(self) -> None:
        """Forget the commands of the activation before."""
        self._new = []
        self._cancels = 0

    def new_commands(self) -> tuple[Command, ...]:
        """What this activation asks, in order."""
        return tuple(self._new)

    def add(self, command: Command, target: Target, *, is_new: bool) -> None:
        """A command was asked and waits for its answer."""
        self._open[command.seq] = Opened(command, target, is_new)
        if is_new:
            self._new.append(command)

    def mark(self, command: Command) -> None:
        """A command was asked that has no answer."""
        self._new.append(command)

    def again(self, seq: int, command: Command, *, is_new: bool) -> None:
        """An open command is asked once more, because the run was re-opened."""
        opened = self._open[seq]
        opened.command, opened.is_new = command, is_new
        if is_new:
            self._new.append(command)

    def has(self, seq: int) -> bool:
        """True while the command has no answer."""
        return seq in self._open

    def get(self, seq: int) -> Opened | None:
        """The open command."""
        return self._open.get(seq)

    def pop(self, seq: int) -> Opened | None:
        """The open command, which has its answer now."""
        return self._open.pop(seq, None)

    def abandon(self, seq: int, *, settled: bool) -> Command | None:
        """Nobody waits for the command any more: take it back where that has a meaning.

        `settled`: an earlier activation has done so already.
        """
        opened = self._open.pop(seq, None)
        if opened is None:
            return None
        command = opened.command
        if isinstance(command, StartTimer | RequestApproval) and not settled:
            self._new.append(CancelTimer(seq=seq) if isinstance(command, StartTimer) else WithdrawApproval(seq=seq))
            self._cancels += 1
        elif isinstance(command, RunStep) and opened.is_new:
            kept = [new for new in self._new if new is not command]
            if len(kept) == len(self._new):
                kept.append(CancelStep(seq=seq))
            self._new = kept
        return command

    def forget_cancels(self) -> None:
        """The cancels asked so far in this activation are known to be done."""
        if self._cancels:
            self._new = [new for new in self._new if not isinstance(new, CancelTimer | WithdrawApproval)]
            self._cancels = 0

    def journaled(self) -> tuple[Command, ...]:
        """Open commands, without steps and without those of this activation."""
        new = {command.seq for command in self._new}
        return tuple(
            opened.command
            for seq, opened in self._open.items()
            if seq not in new and not isinstance(opened.command, RunStep)
        )

    def as_data(self) -> tuple[dict[str, Any], ...]:
        """Open commands for people; a cancel waits together with its task."""
        return tuple(
            {"seq": seq, **_DATA[type(opened.command)](opened.command)}
            for seq, opened in self._open.items()
            if not isinstance(opened.command, CancelTask)
        )

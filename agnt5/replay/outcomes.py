"""What an activation answers: new commands, and how the program ended if it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agnt5.replay.commands import Command
from agnt5.replay.events import SignalReceived


class ContinueAsNew(BaseException):
    """Raised by `Machine.continue_as_new`; not an Exception, so that `except Exception` lets it through."""

    def __init__(self, input: Any) -> None:  # noqa: A002
        super().__init__()
        self.input = input


@dataclass(frozen=True, slots=True)
class Completed:
    """The program returned."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The program raised."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The program ended by the cancel that was asked for."""

    reason: str


@dataclass(frozen=True, slots=True)
class ContinuedAsNew:
    """The program asked for a next generation; `carried` are the signals that it did not consume, oldest first."""

    input: Any
    carried: tuple[SignalReceived, ...]


Outcome = Completed | Failed | Cancelled | ContinuedAsNew


@dataclass(frozen=True, slots=True)
class Activation:
    """The answer to `Machine.activate`. `commands` are those that the journal does not have, in order."""

    commands: tuple[Command, ...]
    outcome: Outcome | None

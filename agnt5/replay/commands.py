"""What workflow code asks for. Imperative, frozen; numbered by `seq` in the order of asking (from 1)."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from agnt5.contracts.approvals import ApprovalTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Any command. `seq` is 1 for the first command of a generation."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTask(Command):
    """Create the child run `id` of `handler`. `options` go to the child's record as they are."""

    handler: str
    id: str
    input: Any = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTask(Command):
    """Ask the child of command `target` to end."""

    target: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimer(Command):
    """Set a timer for the absolute time `due_ms`."""

    due_ms: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTimer(Command):
    """Take back the timer of command `seq`. Not journaled: a timer that fires all the same is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitSignal(Command):
    """Wait for the next signal `name`."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitSignal(Command):
    """Deliver a signal to another run."""

    name: str
    target: str
    payload: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestApproval(Command):
    """Ask people for a decision."""

    terms: ApprovalTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawApproval(Command):
    """Take back the request of command `seq`. Not journaled: a decision that comes all the same is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep(Command):
    """Run `fn` outside the workflow and record its value. Journaled when it ends, not when it starts."""

    name: str
    fn: Callable[[], Any]
    context: Context | None = field(default=None, repr=False, compare=False)
    """The context variables of the code that asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelStep(Command):
    """Stop the running step of command `seq`: nobody waits for its value. Not journaled; a late value is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkPatch(Command):
    """Record that the changed code runs from here on."""

    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConfig(Command):
    """Record the config value that the code was given."""

    key: str
    value: Any
    unit: str

"""What a journal holds. Past tense, frozen, plain JSON values inside.

An entry is one JSON object: `{"at": <ms>, "e": "<class name>", ...fields}`. `at` is the store's own time
of the append, so that everything which reads it replays the same. Fields with their default value are left out.

Three sorts: *command events* record what user code asked for, and carry the command number `seq`;
*completions* answer a command, with its `seq`, or come from outside (signals, cancel); *lifecycle events*
open and close a run and its attempts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Any journal entry. `at` is 0 until the store has set it."""

    at: int = 0


# ---- lifecycle


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """First entry of every generation of every run: all that never changes about it.

    `holds` are the entities whose locks the chain of calls above it holds; `requester` is who asked for its root.
    `root` is the id of that root, where a call of an entity stands between: ids tell no more who called.
    """

    handler: str
    kind: str
    input: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    parent: str | None = None
    generation: int = 0
    queue: str = ""
    priority: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)
    requester: str = ""
    root: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """A later try began (the first one is implied by RunStarted)."""

    attempt: int
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Event):
    """A try failed and another will follow at `retry_at_ms`."""

    attempt: int
    error: dict[str, Any]
    retry_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLost(Event):
    """The worker that owned the run died; the run was queued again."""

    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(Event):
    """Terminal."""

    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    """Terminal, until an operator re-opens it."""

    error: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled(Event):
    """Terminal."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReopened(Event):
    """An operator retried a failed run: failures before this entry count as not recorded."""


# ---- command events: what user code asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScheduled(Event):
    """A child run was created under `id`."""

    seq: int
    handler: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCancelRequested(Event):
    """The child of command `target` was asked to end."""

    seq: int
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerStarted(Event):
    """A timer was set for the absolute time `due_ms`."""

    seq: int
    due_ms: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalAwaited(Event):
    """The code waits for the next signal of this name."""

    seq: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalEmitted(Event):
    """A signal to another run was asked for; `SignalDelivered` answers it."""

    seq: int
    name: str
    target: str
    payload: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested(Event):
    """People were asked for a decision; the fields are those of `ApprovalTerms`."""

    seq: int
    name: str
    payload: Any = None
    required_roles: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    quorum: int = 1
    form: dict[str, Any] | None = None
    due_ms: int = 0
    self_approval: bool = False
    requester: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchMarked(Event):
    """`ctx.patched(change)` answered True here."""

    seq: int
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRead(Event):
    """The code asked for a config value, and this is what it was given; `unit` is for whom, "" for the run's tree."""

    seq: int
    key: str
    value: Any = None
    unit: str = ""


# ---- completions


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCompleted(Event):
    """The child of command `seq` completed."""

    seq: int
    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed(Event):
    """The child of command `seq` finally failed, or was cancelled (`error.type` is RunCancelledError)."""

    seq: int
    error: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired(Event):
    """The timer of command `seq` is due."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalVoted(Event):
    """One of a quorum approved the request of command `seq`; more are needed."""

    seq: int
    approver: str
    decision: str = "approved"
    comment: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRefused(Event):
    """Somebody who may not decide the request of command `seq` tried to, or came too late. Code does not see it.

    `why` is "role", "assignee", "self", "voted" or "closed".
    """

    seq: int
    approver: str
    decision: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDecided(Event):
    """The request of command `seq` has its answer: `approved`, `rejected`, or `timeout` (then by nobody)."""

    seq: int
    decision: str
    approver: str = ""
    comment: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompleted(Event):
    """A step ran and this is its value. Records command and completion in one entry.

    `key` tells a function's steps of one name apart where their order may change; `took_ms` is how long it ran.
    """

    seq: int
    name: str
    result: Any = None
    key: str = ""
    took_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(Event):
    """A step raised. Final in a workflow; done again by a function's next attempt."""

    seq: int
    name: str
    error: dict[str, Any]
    key: str = ""
    took_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDelivered(Event):
    """The signal of command `seq` reached its target."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRefused(Event):
    """The signal of command `seq` could not be delivered (no such run, or it has ended)."""

    seq: int
    error: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Event):
    """Somebody sent this run a signal. `traceparent` is the sender's place in a trace, where it has one."""

    name: str
    payload: Any = None
    op: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody asked this run to end, or (`deadline`) its run timeout has passed."""

    reason: str = ""
    deadline: bool = False

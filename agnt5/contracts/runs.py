"""The vocabulary of runs: status, kinds, and the table of legal steps between statuses."""

from __future__ import annotations

from enum import StrEnum

from agnt5.contracts.errors import IllegalTransitionError


class RunStatus(StrEnum):
    """Where a run stands. The last three are terminal and final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True for a terminal status."""
        return self in TERMINAL


TERMINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})


class Kind(StrEnum):
    """What a handler is; `ctx.component_type` is its value."""

    FUNCTION = "function"
    WORKFLOW = "workflow"
    ENTITY = "entity"


NEXT: dict[tuple[RunStatus, str], RunStatus] = {
    (RunStatus.QUEUED, "claim"): RunStatus.RUNNING,
    (RunStatus.QUEUED, "cancel"): RunStatus.CANCELLED,
    (RunStatus.RUNNING, "wait"): RunStatus.WAITING,
    (RunStatus.RUNNING, "retry"): RunStatus.WAITING,
    (RunStatus.RUNNING, "reap"): RunStatus.QUEUED,
    (RunStatus.RUNNING, "complete"): RunStatus.COMPLETED,
    (RunStatus.RUNNING, "fail"): RunStatus.FAILED,
    (RunStatus.RUNNING, "cancel"): RunStatus.CANCELLED,
    (RunStatus.WAITING, "event"): RunStatus.RUNNING,
    (RunStatus.WAITING, "wake"): RunStatus.QUEUED,
    (RunStatus.WAITING, "reap"): RunStatus.QUEUED,
    (RunStatus.WAITING, "cancel"): RunStatus.CANCELLED,
    (RunStatus.FAILED, "reopen"): RunStatus.QUEUED,
}
"""Every legal step. The store's scripts make them; the docs' diagram is made from this table."""


def step(status: RunStatus, cause: str) -> RunStatus:
    """The status after `cause`; raises `IllegalTransitionError` for a step the table does not have."""
    try:
        return NEXT[status, cause]
    except KeyError:
        raise IllegalTransitionError(f"a {status} run has no step {cause!r}") from None

"""Which recorded failures count as not recorded, because an operator re-opened the run after them."""

from __future__ import annotations

from collections.abc import Sequence

from agnt5.replay.events import (
    CancelRequested,
    Event,
    RunReopened,
    StepCompleted,
    StepFailed,
    TaskFailed,
    TaskScheduled,
)
from agnt5.replay.ledger import IDENTITY


def doubted(events: Sequence[Event]) -> dict[int, int]:
    """Positions of failures before a RunReopened, each with the highest command recorded until then.

    A passed run timeout is a failure too. One is void if the code had asked all those commands before it saw
    the failure. Otherwise the code went on from it (it handled it, or compensated), the journal depends on it,
    and it stays.
    """
    found: dict[int, int] = {}
    open_failures: list[int] = []
    highest = 0
    for position, event in enumerate(events):
        if type(event) in IDENTITY:
            highest = max(highest, event.seq)  # type: ignore[attr-defined]
        if isinstance(event, TaskFailed | StepFailed) or (isinstance(event, CancelRequested) and event.deadline):
            open_failures.append(position)
        elif isinstance(event, RunReopened):
            found.update(dict.fromkeys(open_failures, highest))
            open_failures.clear()
    return found


def task_redone(events: Sequence[Event], after: int, seq: int, run_id: str) -> bool:
    """True if the journal has the redo `run_id` of task `seq` behind position `after`."""
    return any(isinstance(event, TaskScheduled) and (event.seq, event.id) == (seq, run_id) for event in events[after:])


def step_redone(events: Sequence[Event], after: int, seq: int) -> bool:
    """True if step `seq` was recorded again behind position `after`."""
    return any(isinstance(event, StepCompleted | StepFailed) and event.seq == seq for event in events[after:])

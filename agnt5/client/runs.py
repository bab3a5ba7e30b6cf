"""What a client says of a run: its state, its outcome, its history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agnt5 import codec
from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import RunCancelledError, SealedPayloadError, TaskFailedError, from_data
from agnt5.contracts.runs import RunStatus
from agnt5.sealing import Sealer
from agnt5.store.replies import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run as it stood when it was read. Times are aware UTC datetimes, None where it has not come so far.

    `host` is the worker that has it in memory; `trouble` says why a worker refused it (its code does not fit the
    journal); `error` is `{type, message, traceback, where}` of a failed run.
    """

    id: str
    handler: str
    kind: str
    status: RunStatus
    attempt: int
    generation: int
    queue: str
    priority: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    retry_at: datetime | None
    host: str | None
    parent: str | None
    input: Any
    result: Any = None
    error: dict[str, Any] | None = None
    trouble: str | None = None


def lacks_key(trouble: str) -> bool:
    """Whether a worker refused a run because it has no key of its values: other code would not help."""
    return trouble.startswith(SealedPayloadError.__name__)


def state_of(record: Record) -> RunState:
    """A record in a form for people."""
    first = codec.loads(record.first)
    last = codec.loads(record.last) if record.status.ended else {}
    fields = record.fields
    error = last.get("error")
    if isinstance(error, str):
        error = {"type": "SealedPayloadError", "message": error}
    if record.status is RunStatus.CANCELLED:
        error = {"type": "RunCancelledError", "message": last.get("reason", "")}
    return RunState(
        id=record.id,
        handler=fields["handler"],
        kind=fields.get("kind") or first.get("kind", ""),
        status=record.status,
        attempt=record.number("attempt") or 0,
        generation=record.number("gen") or 0,
        queue=fields["queue"],
        priority=record.number("priority") or 0,
        created_at=at_ms(int(fields["created"])),
        started_at=_time(record, "started"),
        ended_at=_time(record, "ended"),
        retry_at=_time(record, "retry"),
        host=fields.get("host") or None,
        parent=fields.get("parent"),
        input=first.get("input"),
        result=last.get("result"),
        error=error,
        trouble=fields.get("trouble"),
    )


def outcome_of(run_id: str, entry: bytes, sealer: Sealer) -> Any:
    """The result that a terminal journal entry holds, or the error that the run ended with, raised.

    Raises `SealedPayloadError` where it cannot be opened.
    """
    last = codec.loads(sealer.open(entry, run_id))
    match last["e"]:
        case "RunCompleted":
            return last.get("result")
        case "RunCancelled":
            reason = last.get("reason") or "cancelled"
            raise RunCancelledError(reason, type="RunCancelledError", where=f"run {run_id}")
        case _:
            raise from_data(last.get("error") or {}, TaskFailedError)


def _time(record: Record, field: str) -> datetime | None:
    ms = record.number(field)
    return None if ms is None else at_ms(ms)

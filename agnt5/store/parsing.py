"""Replies of scripts as values, or as the errors that they stand for. One function a verb of `store.py`."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from agnt5.contracts.errors import (
    Agnt5Error,
    ApprovalNotFoundError,
    DuplicateRunError,
    EntityBusyError,
    EntityNotFoundError,
    InvalidInputError,
    JournalLimitError,
    RunEndedError,
    RunNotFoundError,
    StaleEpochError,
    StreamLimitError,
)
from agnt5.contracts.runs import RunStatus
from agnt5.store.replies import (
    Applied,
    Called,
    Claimed,
    Created,
    Dispatch,
    Fired,
    More,
    NotClaimed,
    Untold,
    Verdict,
    claim_of,
    dispatches,
    heir_of,
    mails,
)


def fence(reply: list[Any], run_id: str) -> Applied | None:
    """The answer of the fence: None when the write went on, `Applied(again)`, or an error."""
    match reply[0]:
        case b"STALE":
            raise StaleEpochError(
                f"run {run_id}: another worker owns it now ({reply[1].decode()}); this write was refused"
            )
        case b"AGAIN":
            return Applied(again=True, length=int(reply[1]))
        case b"LIMIT":
            raise JournalLimitError(f"run {run_id}: {_full(reply)}")
        case _:
            return None


def _full(reply: list[Any]) -> str:
    """Which limit of a journal is reached, and what to do."""
    what, found = reply[1].decode(), int(reply[2])
    remedy = "cut it with ctx.continue_as_new(...) or split the work into child runs"
    if what == "bytes":
        return (
            f"its journal has or would have {found:,} bytes, over the limit (AGNT5_JOURNAL_LIMIT_BYTES); let steps,"
            " children and signals give less (keep large data in a file, object store or database and pass its address)"
            f", {remedy}"
        )
    return f"its journal has {found} entries, the limit is reached (AGNT5_JOURNAL_LIMIT_EVENTS); {remedy}"


async def created(pending: Awaitable[list[Any]], run_id: str, handler: str) -> Created:
    reply = await pending
    match reply[0]:
        case b"CREATED":
            return Created(True, RunStatus.QUEUED, dispatches(reply[2]))
        case b"EXISTS":
            return Created(False, RunStatus(reply[1].decode()))
        case _:
            raise duplicate(reply, run_id, handler)


async def kept(pending: Awaitable[list[Any]]) -> bool:
    return bool((await pending)[0] == b"OK")


def duplicate(reply: list[Any], run_id: str, handler: str) -> DuplicateRunError:
    return DuplicateRunError(
        f"run {run_id}: it exists already, as {reply[1].decode()}, with another input or handler than"
        f" {handler}; use another id, or client.get(...) for the one that exists"
    )


async def claimed(pending: Awaitable[list[Any]]) -> Claimed | NotClaimed:
    reply = await pending
    if reply[0] != b"CLAIMED":
        detail = reply[1].decode() if len(reply) > 1 else ""
        return NotClaimed(reply[0].decode().lower(), detail)
    return claim_of(reply[1:])


async def called(pending: Awaitable[list[Any]], run_id: str, handler: str) -> Called:
    reply = await pending
    match reply[0]:
        case b"CREATED":
            return Called(True, RunStatus.QUEUED, dispatches(reply[2]), heir_of(reply[3]))
        case b"EXISTS":
            return Called(False, RunStatus(reply[1].decode()), heir=heir_of(reply[2]))
        case _:
            raise duplicate(reply, run_id, handler)


async def committed(pending: Awaitable[list[Any]], run_id: str) -> Applied:
    reply = await pending
    if again := fence(reply, run_id):
        return replace(again, heir=heir_of(reply[2]))
    return Applied(now_ms=int(reply[1]), out=dispatches(reply[2]), mail=mails(reply[3]), heir=heir_of(reply[4]))


async def answered(pending: Awaitable[list[Any]]) -> Applied:
    """Whoever is gone, has ended or knows it already needs no answer."""
    reply = await pending
    return Applied(out=dispatches(reply[1]), mail=mails(reply[2])) if reply[0] == b"OK" else Applied()


async def erased(pending: Awaitable[list[Any]], entity: str) -> None:
    reply = await pending
    match reply[0]:
        case b"BUSY":
            raise EntityBusyError(
                f"entity {entity}: call {reply[1].decode()} holds its lock; delete it when that has ended"
            )
        case b"GONE":
            raise EntityNotFoundError(f"entity {entity}: it has no state")
        case _:
            return


async def applied(pending: Awaitable[list[Any]], run_id: str) -> Applied:
    reply = await pending
    if again := fence(reply, run_id):
        return again
    return Applied(length=int(reply[1]), now_ms=int(reply[2]), out=dispatches(reply[3]), mail=mails(reply[4]))


async def emitted(pending: Awaitable[list[Any]], run_id: str, limit: int) -> None:
    reply = await pending
    if reply[0] == b"LIMIT":
        raise StreamLimitError(
            f"run {run_id}: it yielded more than {limit:,} chunks (AGNT5_STREAM_LIMIT); yield larger ones, fewer times,"
            " or raise the limit"
        )
    fence(reply, run_id)


async def finished(pending: Awaitable[list[Any]], run_id: str) -> Applied:
    reply = await pending
    if again := fence(reply, run_id):
        return again
    return Applied(now_ms=int(reply[1]), out=dispatches(reply[2]), mail=mails(reply[3]))


async def retried(pending: Awaitable[list[Any]], run_id: str) -> list[Dispatch]:
    reply = await pending
    return [] if fence(reply, run_id) else dispatches(reply[2])


async def parked(pending: Awaitable[list[Any]], run_id: str) -> list[Dispatch] | More:
    reply = await pending
    if fence(reply, run_id):
        return []
    return More(int(reply[1])) if reply[0] == b"MORE" else dispatches(reply[1])


async def renewed(pending: Awaitable[list[Any]], run_id: str) -> Applied | More:
    reply = await pending
    if again := fence(reply, run_id):
        return again
    if reply[0] == b"MORE":
        return More(int(reply[1]))
    return Applied(length=int(reply[1]), now_ms=int(reply[2]))


async def delivered(pending: Awaitable[list[Any]], run_id: str) -> list[Dispatch]:
    reply = await pending
    match reply[0]:
        case b"OK":
            return dispatches(reply[1])
        case b"DUPLICATE":
            return []
        case b"LIMIT":
            raise JournalLimitError(f"run {run_id}: the signal was not taken: {_full(reply)}")
        case _:
            raise absent(reply, run_id)


async def decided(pending: Awaitable[list[Any]], run_id: str, ref: str) -> Verdict:
    reply = await pending
    match reply[0]:
        case b"NONE":
            raise ApprovalNotFoundError(f"run {run_id}: it asks for no approval {ref}")
        case b"GONE" | b"ENDED":
            raise absent(reply, run_id)
        case word:
            status, by, at = (part.decode() for part in reply[1:4])
            return Verdict(word.decode().lower(), status, by, int(at) if at else None, dispatches(reply[4]))


async def cancelled(pending: Awaitable[list[Any]], run_id: str) -> tuple[RunStatus, list[Dispatch]]:
    reply = await pending
    if reply[0] != b"OK":
        raise absent(reply, run_id)
    return RunStatus(reply[1].decode()), dispatches(reply[2])


async def woken(pending: Awaitable[list[Any]]) -> list[Dispatch]:
    return dispatches((await pending)[1])


async def reopened(pending: Awaitable[list[Any]], run_id: str) -> list[Dispatch]:
    reply = await pending
    match reply[0]:
        case b"OK":
            return dispatches(reply[1])
        case b"NOT_FAILED":
            raise InvalidInputError(f"run {run_id} is {reply[1].decode()}; only a failed run can be retried")
        case b"CHILD":
            raise InvalidInputError(f"run {run_id} is a child; retry its parent {reply[1].decode()} instead")
        case b"CALL":
            raise InvalidInputError(f"run {run_id} is a call of an entity, which changed nothing; call it again")
        case _:
            raise absent(reply, run_id)


def absent(reply: list[Any], run_id: str) -> Agnt5Error:
    if reply[0] == b"ENDED":
        return RunEndedError(f"run {run_id} has ended: it is {reply[1].decode()}")
    return RunNotFoundError(f"run {run_id}: there is none of this id (never started, or past its retention)")


async def fired(pending: Awaitable[list[Any]]) -> Fired:
    _, count, due, now, out, late = await pending
    return Fired(int(count), int(float(due)) if due else None, int(now), dispatches(out), [int(ms) for ms in late])


async def lent(pending: Awaitable[list[Any]]) -> list[Untold]:
    found = []
    for entry in (await pending)[1]:
        run_id, ending, generation, attempt, length, at, handler = entry.decode().split("|", 6)
        numbers = (int(generation), int(attempt), int(length), int(at))
        found.append(Untold(entry, run_id, ending, *numbers, handler))
    return found


async def reaped(pending: Awaitable[list[Any]]) -> tuple[int, int, list[Dispatch]]:
    _, count, left, out = await pending
    return int(count), int(left), dispatches(out)


async def requeued(pending: Awaitable[list[Any]]) -> tuple[int, int | None, list[Dispatch]]:
    _, count, oldest, out = await pending
    return int(count), int(float(oldest)) if oldest else None, dispatches(out)


async def beaten(pending: Awaitable[list[Any]]) -> tuple[bool, int]:
    reply = await pending
    return reply[0] == b"NEW", int(reply[1])


async def time_ms(pending: Awaitable[list[bytes]]) -> int:
    seconds, micros = await pending
    return int(seconds) * 1000 + int(micros) // 1000

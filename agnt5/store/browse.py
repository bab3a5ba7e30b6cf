"""Reads for people: one run's record, lists of runs, a run's journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from agnt5.contracts.errors import RunNotFoundError
from agnt5.contracts.runs import RunStatus
from agnt5.sealing import Opened
from agnt5.store import keys
from agnt5.store.replies import Record, pairs
from agnt5.store.store import Store

LIST_PAGE = 200


async def record(store: Store, run_id: str) -> Record:
    """A run's record. Raises `RunNotFoundError`, `SealedPayloadError`."""
    if found := (await records(store, [run_id], opened=store.sealer.open))[0]:
        return found
    raise RunNotFoundError(f"run {run_id}: there is none of this id (never started, or past its retention)")


async def records(store: Store, run_ids: list[str], *, opened: Opened | None = None) -> list[Record | None]:
    """Many records in one write; None where there is none.

    `opened` opens sealed entries; by default what cannot be opened is told as text that says so.
    """
    opened = opened or store.sealer.shown
    pending = []
    for run_id in run_ids:
        log = keys.log(run_id, store.shards)
        pending.append(
            (
                run_id,
                store.link.call("HGETALL", keys.run(run_id, store.shards)),
                store.link.call("LINDEX", log, 0),
                store.link.call("LINDEX", log, -1),
            )
        )
    found: list[Record | None] = []
    for run_id, fields, first, last in pending:
        flat = [part.decode() for part in await fields]
        state = dict(pairs(flat))
        head, tail = await first, await last
        if not state or head is None:
            found.append(None)
        else:
            if "trouble" in state:
                state["trouble"] = store.sealer.shown_text(state["trouble"], run_id)
            head, tail = opened(head, run_id), opened(tail, run_id)
            found.append(Record(run_id, RunStatus(state["status"]), state, head, tail))
    return found


async def newest(store: Store, *, ended: bool, before_ms: float = float("inf")) -> AsyncIterator[Record]:
    """Root runs, newest first: the open ones by creation, or the ended ones by their end."""
    index = keys.ended_runs if ended else keys.open_runs
    async for run_ids in merged(store, index, newest_first=True, before_ms=before_ms):
        for found in await records(store, run_ids):
            if found is not None:
                yield found


async def merged(
    store: Store, index: Callable[[int], str], *, newest_first: bool, before_ms: float = float("inf")
) -> AsyncIterator[list[str]]:
    """The members of every shard's `index`, a sorted set by ms, in one order, some at a time."""
    top = "+inf" if before_ms == float("inf") else f"({before_ms:.0f}"
    command = ("ZREVRANGEBYSCORE", top, "-inf") if newest_first else ("ZRANGEBYSCORE", "-inf", top)
    starts = dict.fromkeys(range(store.shards), 0)
    heap: list[tuple[float, str]] = []
    while starts or heap:
        verb, *bounds = command
        pending = [
            (shard, store.link.call(verb, index(shard), *bounds, "WITHSCORES", "LIMIT", start, LIST_PAGE))
            for shard, start in starts.items()
        ]
        for shard, reply in pending:
            page = await reply
            heap += [(float(score), member.decode()) for member, score in pairs(page)]
            if len(page) < 2 * LIST_PAGE:
                del starts[shard]
            else:
                starts[shard] += LIST_PAGE
        heap.sort(reverse=newest_first)
        # of each shard that goes on, at least LIST_PAGE of the first are here
        ready = heap if not starts else heap[:LIST_PAGE]
        heap = heap[len(ready) :]
        yield [member for _, member in ready]

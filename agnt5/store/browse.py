"""Reads for people: one run's record, lists of runs, a run's journal."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agnt5.contracts.errors import RunNotFoundError
from agnt5.contracts.runs import RunStatus
from agnt5.store import keys
from agnt5.store.replies import Record
from agnt5.store.store import Store

LIST_PAGE = 200


async def record(store: Store, run_id: str) -> Record:
    """A run's record. Raises `RunNotFoundError`."""
    if found := (await records(store, [run_id]))[0]:
        return found
    raise RunNotFoundError(f"run {run_id}: there is none of this id (never started, or past its retention)")


async def records(store: Store, run_ids: list[str]) -> list[Record | None]:
    """Many records in one write; None where there is none."""
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
        state = dict(zip(flat[::2], flat[1::2], strict=True))
        head, tail = await first, await last
        if not state or head is None:
            found.append(None)
        else:
            found.append(Record(run_id, RunStatus(state["status"]), state, head, tail))
    return found


async def newest(store: Store, *, ended: bool, before_ms: float = float("inf")) -> AsyncIterator[Record]:
    """Root runs, newest first: the open ones by creation, or the ended ones by their end."""
    index = keys.ended_runs if ended else keys.open_runs
    top = "+inf" if before_ms == float("inf") else f"({before_ms:.0f}"
    cursors = dict.fromkeys(range(store.shards), (top, 0))
    heap: list[tuple[float, str]] = []
    while cursors or heap:
        for shard, (bound, skip) in list(cursors.items()):
            page = await store.link.call(
                "ZREVRANGEBYSCORE", index(shard), bound, "-inf", "WITHSCORES", "LIMIT", skip, LIST_PAGE
            )
            heap += [(float(score), run_id.decode()) for run_id, score in zip(page[::2], page[1::2], strict=True)]
            if len(page) < 2 * LIST_PAGE:
                del cursors[shard]
            else:
                cursors[shard] = (bound, skip + LIST_PAGE)
        heap.sort(reverse=True)
        ready = heap if not cursors else heap[:LIST_PAGE]
        heap = heap[len(ready) :]
        for found in await records(store, [run_id for _, run_id in ready]):
            if found is not None:
                yield found

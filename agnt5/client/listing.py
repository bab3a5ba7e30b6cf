"""Pages of runs: newest first, to be gone on with from a cursor."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from agnt5.client.runs import RunState, state_of
from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.runs import RunStatus
from agnt5.store import browse
from agnt5.store.replies import Record
from agnt5.store.store import Store

SCAN_LIMIT = 5000
"""Runs that one page looks at: a filter that fits nothing ends in an empty page with a cursor, not in a long read."""


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs. `cursor` is given back for those that follow; None where there are no more."""

    runs: list[RunState]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place in the list: open runs by creation, then ended ones by their end; ids decide between equal times."""

    ended: bool
    ms: int
    run_id: str

    def text(self) -> str:
        data = json.dumps([int(self.ended), self.ms, self.run_id]).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def page_of_runs(
    store: Store, *, status: RunStatus | None, handler: str | None, limit: int, cursor: str | None = None
) -> RunPage:
    """Root runs, those that have not ended first, newest first. Runs that end between two pages may come twice.

    Raises `InvalidInputError` for a cursor that is none.
    """
    found: list[RunState] = []
    last = None if cursor is None else _spot(cursor)
    scanned = 0
    for ended in (False, True):
        if (status is not None and status.ended is not ended) or (last is not None and last.ended and not ended):
            continue
        async for record in _from(store, last, ended=ended):
            if len(found) >= limit or scanned >= SCAN_LIMIT:
                return RunPage(found, last.text() if last else None)
            scanned += 1
            last = _spot_of(record, ended=ended)
            if (status is None or record.status is status) and handler in (None, record.fields["handler"]):
                found.append(state_of(record))
    return RunPage(found, None)


async def _from(store: Store, last: _Spot | None, *, ended: bool) -> AsyncIterator[Record]:
    if last is None or last.ended is not ended:
        async for record in browse.newest(store, ended=ended):
            yield record
        return
    async for record in browse.newest(store, ended=ended, before_ms=last.ms + 1):
        spot = _spot_of(record, ended=ended)
        if (spot.ms, spot.run_id) < (last.ms, last.run_id):
            yield record


def _spot_of(record: Record, *, ended: bool) -> _Spot:
    ms = record.number("ended" if ended else "created")
    # a run that ended since its index was read has left this part of the list: its creation is where it stood
    return _Spot(ended, ms if ms is not None else record.number("created") or 0, record.id)


def _spot(cursor: str) -> _Spot:
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        ended, ms, run_id = json.loads(data)
        if isinstance(ms, int) and isinstance(run_id, str) and ended in {0, 1}:
            return _Spot(bool(ended), ms, run_id)
    except (ValueError, TypeError, binascii.Error):
        pass
    raise InvalidInputError("cursor: the one of an earlier page is needed, unchanged")

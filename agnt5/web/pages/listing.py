"""Root runs for a list: filtered, by pages, and counted by status."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from agnt5.client import AsyncClient
from agnt5.client.runs import RunState, state_of
from agnt5.contracts.clock import monotonic_s
from agnt5.contracts.runs import RunStatus
from agnt5.store import browse, keys
from agnt5.store.replies import Record
from agnt5.store.store import Store

PAGE = 50
LOOKED_AT = 5000
"""A list looks at so many of the newest runs at most, and counts so many of the open and of the ended ones."""

MOST_PAGES = LOOKED_AT // PAGE
COUNTED_S = 2.0
"""Counts are so old at most."""

_CHUNK = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which runs are wanted."""

    status: str = ""
    handler: str = ""
    text: str = ""

    @property
    def any(self) -> bool:
        """Whether anything is filtered."""
        return bool(self.status or self.handler or self.text)

    def query(self, page: int) -> dict[str, Any]:
        """As the query of a link."""
        return {"status": self.status, "handler": self.handler, "q": self.text, "page": page if page > 1 else ""}

    def fit(self, record: Record) -> bool:
        """Whether a run is wanted."""
        handler = record.fields["handler"]
        text = self.text.lower()
        return (
            (not self.status or record.status == self.status)
            and self.handler in ("", handler)
            and (not text or text in record.id.lower() or text in handler.lower())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A page of a list. `more`: there is a next one; `cut`: so many runs were looked at, and there are others."""

    runs: list[RunState]
    number: int
    more: bool
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Root runs by status. `cut`: there are so many that only the newest were counted."""

    each: list[tuple[str, int]]
    cut: bool = False

    @property
    def total(self) -> int:
        """All of them."""
        return sum(count for _, count in self.each)


async def list_runs(client: AsyncClient, wanted: Filters, number: int) -> RunPage:
    """One page, newest first: those that have not ended, then the ended ones."""
    store, _ = await client.opened()
    number = max(1, min(number, MOST_PAGES))
    skip, looked = (number - 1) * PAGE, 0
    found: list[RunState] = []
    only = RunStatus(wanted.status).ended if wanted.status else None
    for ended in (False, True):
        if only not in (None, ended):
            continue
        async for record in browse.newest(store, ended=ended):
            looked += 1
            if looked > LOOKED_AT:
                return RunPage(runs=found[skip:], number=number, more=False, cut=LOOKED_AT)
            if not wanted.fit(record):
                continue
            if len(found) == skip + PAGE:
                return RunPage(runs=found[skip:], number=number, more=number < MOST_PAGES)
            found.append(state_of(record))
    return RunPage(runs=found[skip:], number=number, more=False)


class Counter:
    """Counts root runs, at most once in `COUNTED_S`, however many look."""

    def __init__(self) -> None:
        self._counts = Counts([(status.value, 0) for status in RunStatus])
        self._at_s = -math.inf
        self._counting = asyncio.Lock()

    async def counts(self, client: AsyncClient) -> Counts:
        """By status."""
        async with self._counting:
            if monotonic_s() - self._at_s > COUNTED_S:
                store, _ = await client.opened()
                self._counts = await _count(store)
                self._at_s = monotonic_s()
            return self._counts


async def _count(store: Store) -> Counts:
    counts = dict.fromkeys(RunStatus, 0)
    most, cut = math.ceil(LOOKED_AT / store.shards), False
    for index in (keys.open_runs, keys.ended_runs):
        pages = [store.link.call("ZREVRANGE", index(shard), 0, most) for shard in range(store.shards)]
        found = [await page for page in pages]
        cut = cut or any(len(page) > most for page in found)
        ids = [run_id.decode() for page in found for run_id in page[:most]]
        for at in range(0, len(ids), _CHUNK):
            asked = [
                store.link.call("HGET", keys.run(run_id, store.shards), "status") for run_id in ids[at : at + _CHUNK]
            ]
            for reply in asked:
                if status := await reply:
                    counts[RunStatus(status.decode())] += 1
    return Counts([(status.value, count) for status, count in counts.items()], cut)

"""How runs ended that no worker had: cancelled or timed out in a queue or parked, or given up for killing workers.

The script that ends such a run notes it in the same step. Beats borrow the notes: each counts what it got, records the
spans, and strikes the notes off. What a beat has not struck off when its lease ends is told of by another one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

from agnt5.contracts.ids import entity_of, parent_of
from agnt5.replay import journal
from agnt5.replay.events import RunCancelled, RunFailed, RunStarted
from agnt5.runtime.figures import entry_ms
from agnt5.store import keys
from agnt5.store.replies import Untold
from agnt5.store.store import Store
from agnt5.telemetry.figures import current
from agnt5.telemetry.metrics_names import OTHER
from agnt5.telemetry.spans import active

if TYPE_CHECKING:
    from agnt5.telemetry.spans_tracer import Tracing

logger = logging.getLogger("agnt5.beat")

LIMIT = 50
"""Of a shard at a time: beat has timers to fire meanwhile, and each is read with its run's input."""

LEASE_MS = 30_000

_REOPENED = re.compile(rb'\{"at":(\d+),"e":"RunReopened"\}')


class Endings:
    """One beat's. Where neither figures nor spans are asked for, the notes are struck off unread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._warned = False

    async def tell(self) -> int:
        """Tell of what ended lately; how many runs those were.

        Each is told of once, unless this beat dies or loses its store between telling and striking off.
        """
        store, handlers = self._store, await self._handlers()
        pages = await asyncio.gather(
            *(store.lend(shard, limit=LIMIT, lease_ms=LEASE_MS) for shard in range(store.shards))
        )
        for shard, ends in enumerate(pages):
            if ends:
                await self._tell(ends, handlers)
                await store.link.call("ZREM", keys.untold(shard), *(end.entry for end in ends))
        return sum(map(len, pages))

    async def _handlers(self) -> set[str]:
        """Those that workers have announced; each counts from 0 on, so that the first end is an increase."""
        figures = current()
        if not figures.on:
            return set()
        known = {name.decode() for name in await self._store.link.call("HKEYS", keys.handlers())}
        figures.expected(known)
        return known

    async def _tell(self, ends: list[Untold], handlers: set[str]) -> None:
        figures, tracing = current(), active()
        if not figures.on and tracing is None:
            return
        journals = await asyncio.gather(*(self._ends_of_journal(end) for end in ends))
        reopened = [[] if tracing is None else await self._reopened_ms(end) for end in ends]
        for end, (first, last), again in zip(ends, journals, reopened, strict=True):
            took_s = None if first is None else max(0, end.at_ms - entry_ms(first)) / 1000
            # anybody who starts runs may name handlers that there are not
            figures.ended(end.handler if end.handler in handlers else OTHER, end.ending, took_s)
            if tracing is not None and first is not None and last is not None:
                self._record(tracing, end, first, last, again)

    async def _ends_of_journal(self, end: Untold) -> tuple[bytes | None, bytes | None]:
        """Its first entry and the run's end; None where the run is past its retention."""
        call, log = self._store.link.call, keys.log(end.run_id, self._store.shards)
        first, last = await asyncio.gather(call("LINDEX", log, 0), call("LINDEX", log, end.length - 1))
        return first, last

    async def _reopened_ms(self, end: Untold) -> list[int]:
        """When it was opened again before this end: only roots are, and each time is an attempt more."""
        if not end.attempt or parent_of(end.run_id) or entity_of(end.run_id):
            return []
        entries = (await self._store.entries(end.run_id, 0))[: end.length]
        return [int(found[1]) for entry in entries if (found := _REOPENED.fullmatch(entry))]

    def _record(self, tracing: Tracing, end: Untold, first: bytes, last: bytes, reopened_ms: list[int]) -> None:
        """Record the run's span, unless its journal is another one by now or cannot be read here."""
        from agnt5.runtime.run_spans import record_untold  # noqa: PLC0415 - only those who trace pay for it

        opened = self._store.sealer.open
        try:
            started, ended = (journal.decode(opened(entry, end.run_id)) for entry in (first, last))
            match started, ended:
                case RunStarted(), RunFailed() | RunCancelled() if started.generation == end.generation:
                    record_untold(tracing, end, started, ended, reopened_ms)
        except Exception as error:  # noqa: BLE001 - sealed with a key that is not here, or of a later version
            if not self._warned:
                self._warned = True
                logger.warning("run %s has no span, and others may have none: %s", end.run_id, error)

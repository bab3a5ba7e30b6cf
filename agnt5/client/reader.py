"""What a client reads of runs: states, journals, log lines, chunks, results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from agnt5.client.both import read_both
from agnt5.client.catalog import HandlerLike, address_of
from agnt5.client.connected import Connected
from agnt5.client.fleet import Fleet, read_fleet
from agnt5.client.follow import Followed, Follows, Page, Place, following, read_page
from agnt5.client.listing import RunPage, page_of_runs
from agnt5.client.logs import LogLine, read_logs
from agnt5.client.runs import RunState, outcome_of, state_of
from agnt5.client.streams import Chunk, ChunkPage, ChunkPlace, StreamReset, Streams, known, read_chunks, values_of
from agnt5.contracts.clock import to_ms
from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.runs import RunStatus
from agnt5.replay import journal
from agnt5.replay.events import Event
from agnt5.store import browse


class RunReader(Connected):
    """Reads runs, and changes nothing."""

    async def state(self, run_id: str) -> RunState:
        """A run's state. Raises `RunNotFoundError`."""
        store, _, _ = await self._open()
        return state_of(await browse.record(store, run_id))

    async def states(self, run_ids: Sequence[str]) -> list[RunState]:
        """The states of many runs in one write; ids of no run are left out."""
        store, _, _ = await self._open()
        return [state_of(record) for record in await browse.records(store, list(run_ids)) if record is not None]

    async def last_event(self, run_id: str) -> tuple[RunState, Event]:
        """A run's state and its newest journal entry, in one read. Raises `RunNotFoundError`."""
        store, _, _ = await self._open()
        record = await browse.record(store, run_id)
        return state_of(record), journal.decode(record.last)

    async def history(self, run_id: str) -> list[Event]:
        """The journal of a run's current generation. Raises `RunNotFoundError`."""
        store, _, _ = await self._open()
        await browse.record(store, run_id)
        return [journal.decode(store.sealer.open(entry, run_id)) for entry in await store.entries(run_id, 0)]

    async def logs(self, run_id: str, *, limit: int | None = None, level: str = "") -> list[LogLine]:
        """The log lines that are kept with a run (AGNT5_LOG_KEEP), oldest first, of all its attempts.

        `limit`: only the latest so many; `level`: only those of this level and above. A running run's latest lines come
        within a quarter of a second, those of an ended one are there. Raises `RunNotFoundError`, `InvalidInputError`.
        """
        store, _, _ = await self._open()
        return await read_logs(store, run_id, limit=limit, level=level)

    async def history_page(self, run_id: str, *, after: Place | str | None = None, limit: int = 100) -> Page:
        """Up to `limit` journal entries after a place; without one, from the beginning of the current generation.

        Goes on over generations as far as their journals are kept. Raises `RunNotFoundError`, `InvalidInputError`.
        """
        store, _, _ = await self._open()
        return await read_page(store, run_id, following(after), limit)

    async def follow(self, run_id: str, *, after: Place | str | None = None) -> AsyncGenerator[Followed]:
        """Each journal event of a run as it comes, over generations, until the run has ended.

        `after` is the place of the last event that is known (`Followed.place`, or its text `0.17`); without it the
        current generation is told from its beginning. New events come within a quarter of a second, the end at
        once. Rides out short outages. Raises `RunNotFoundError`, `InvalidInputError`, `StoreUnavailableError`: go on
        with `after` then.
        """
        store, _, waits = await self._open()
        if self._follows is None:
            self._follows = Follows(store, waits)
        async with aclosing(self._follows.follow(run_id, following(after))) as events:
            async for one in events:
                yield one

    async def chunks(
        self, run_id: str, *, after: ChunkPlace | str | None = None
    ) -> AsyncGenerator[Chunk | StreamReset]:
        """Each chunk that a run yields, with its place, as it comes; from the first, or after a place that is known.

        A run that is tried again yields anew: a `StreamReset` says that what came before it is void. Ends with the
        run, and raises what `AsyncRun.result` raises if that failed. Rides out short outages. Raises
        `RunNotFoundError`, `InvalidInputError`, `StoreUnavailableError`: go on with `after` then.
        """
        store, _, _ = await self._open()
        if self._streams is None:
            self._streams = Streams(store)
        async with aclosing(self._streams.chunks(run_id, known(after))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def follow_with_chunks(self, run_id: str) -> AsyncGenerator[Followed | Chunk | StreamReset]:
        """`follow` and `chunks` as one: journal events and chunks in the order in which they came to the store.

        From the beginning of the current generation, and in the same order to each reader, whenever it comes; only
        what a later attempt made void is not told again. Chunks come at once, and with them the events before them.
        The run's end is its last journal event: no outcome is raised. Else raises what both of them raise.
        """
        store, _, waits = await self._open()
        self._streams = self._streams or Streams(store)
        self._follows = self._follows or Follows(store, waits)
        async with aclosing(read_both(store, self._streams, self._follows, run_id)) as found:
            async for one in found:
                yield one

    def stream(self, run_id: str, *, after: ChunkPlace | str | None = None) -> AsyncGenerator[Any]:
        """`chunks` as the values that were yielded, in JSON form, and `StreamReset`."""
        return values_of(self.chunks(run_id, after=after))

    async def chunk_page(self, run_id: str, *, after: ChunkPlace | str | None = None, limit: int = 100) -> ChunkPage:
        """Up to `limit` of the chunks that are there after a place. Raises `RunNotFoundError`, `InvalidInputError`."""
        store, _, _ = await self._open()
        return await read_chunks(store, run_id, known(after), limit)

    async def run_page(
        self, *, status: RunStatus | str | None = None, handler: HandlerLike | None = None, limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:  # fmt: skip
        """`runs` in pages: give back a page's `cursor` for the next one. Raises `InvalidInputError`."""
        store, _, _ = await self._open()
        wanted = None if status is None else _status(status)
        address = None if handler is None else address_of(handler)
        return await page_of_runs(store, status=wanted, handler=address, limit=limit, cursor=cursor)

    async def fleet(self) -> Fleet:
        """The workers that live, and the runs that wait for them."""
        store, _, _ = await self._open()
        return await read_fleet(store, liveness_timeout_ms=self.settings.liveness_timeout_ms)

    async def runs(
        self, *, status: RunStatus | str | None = None, handler: HandlerLike | None = None, limit: int = 50
    ) -> list[RunState]:
        """Root runs, newest first: those that have not ended, then the ended ones within retention."""
        page = await self.run_page(status=status, handler=handler, limit=limit)
        found = page.runs
        while page.cursor is not None and len(found) < limit:
            page = await self.run_page(status=status, handler=handler, limit=limit - len(found), cursor=page.cursor)
            found += page.runs
        return found

    async def wait(self, run_id: str, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109 - the public name
        """The result of a run by id, as plain JSON data. See `AsyncRun.result`."""
        store, _, waits = await self._open()
        timeout_ms = to_ms(timeout)
        ended = await waits.ended(run_id, None if timeout_ms is None else timeout_ms / 1000)
        return outcome_of(run_id, ended, store.sealer)


def _status(status: RunStatus | str) -> RunStatus:
    try:
        return RunStatus(status)
    except ValueError:
        raise InvalidInputError(f"status {status!r}: one of {', '.join(RunStatus)} is needed") from None

"""A run's journal and its stream as one: events and chunks in the order in which they came to the store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from agnt5.client.follow import Followed, Follows, Place, read_page
from agnt5.client.streams import LOOK_S, NOWHERE, Chunk, ChunkPlace, StreamReset, Streams, Watch, read_chunks
from agnt5.store.store import Store

PAGE = 100
"""Events, and chunks, that a reader holds at a time."""


async def read_both(
    store: Store, streams: Streams, follows: Follows, run_id: str
) -> AsyncGenerator[Followed | Chunk | StreamReset]:
    """All of a run as it comes, until it has ended. Holds a page of each; reads no further until it is asked to."""
    reader = _Reader(store, run_id)
    stream, log = streams.watch(run_id), follows.watch(run_id)
    try:
        while not reader.ended:
            told, looks = stream.told, log.looks
            async with aclosing(reader.look()) as found:
                async for one in found:
                    yield one
            if reader.idle and not reader.ended:
                await _news(stream, told, log.news(reader.at, looks))
    finally:
        streams.leave(run_id, stream)
        follows.leave(run_id, log)


async def _news(stream: Watch, told: int, log: Coroutine[Any, Any, None]) -> None:
    """Wait until something may be new: the stream was told of more than `told` times, or `log` ends."""
    journal = asyncio.ensure_future(log)
    try:
        if stream.told != told:
            return
        done, _ = await asyncio.wait([stream.news, journal], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        journal.cancel()
    if journal in done:
        journal.result()  # raises once the client is closed


@dataclass(slots=True)
class _Reader:
    """Where a reader is in both. `idle`: its last look found nothing; `ended`: nothing will follow.

    `void`: the claim of the last reset that was seen without a chunk.
    """

    store: Store
    run_id: str
    at: Place | None = None
    after: ChunkPlace = NOWHERE
    void: int = 0
    idle: bool = False
    ended: bool = False

    async def look(self) -> AsyncGenerator[Followed | Chunk | StreamReset]:
        """What is there by now, in order; not always all of it, unless it was `idle`.

        The journal is read before the stream: what was yielded before its events is there then, to be told first.
        """
        page = await read_page(self.store, self.run_id, self.at, PAGE)
        events = deque(page.found)
        self.at, self.idle = page.next, not events
        reset: StreamReset | None = None
        full = True
        while full:
            chunks = await read_chunks(self.store, self.run_id, self.after, PAGE)
            reset, full = chunks.reset, len(chunks.found) == PAGE
            self.idle = self.idle and not chunks.found
            for chunk in chunks.found:
                while events and events[0].place < chunk.before:
                    yield events.popleft()
                if self.at < chunk.before:
                    return  # the journal has grown meanwhile: what it has now comes first
                if reset:
                    yield reset
                    reset = None
                yield chunk
                self.after = chunk.place
        for event in events:
            yield event
        if reset and reset.claim != self.void:  # what failed before it may have come after the journal was read
            self.void, self.idle = reset.claim, False
            return
        if reset:
            yield reset
            self.after = ChunkPlace(reset.claim, 0)
        self.ended = page.ended

"""What running handlers yield: each chunk as it comes, until the run has ended."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from agnt5 import codec
from agnt5.client.follow import Place
from agnt5.client.runs import outcome_of
from agnt5.client.waiting import is_end
from agnt5.contracts.errors import Agnt5Error, InvalidInputError, RunNotFoundError, StoreUnavailableError
from agnt5.contracts.runs import RunStatus
from agnt5.store import keys
from agnt5.store.store import Store
from agnt5.store.subscriber import Subscriber

LOOK_S = 5.0
"""A publication can get lost: each reader looks again after so long."""

RETRY_S = 1.0

PAGE = 100
"""Chunks that a reader holds at a time: each may be of the limit's size."""

_PLACE = re.compile(r"(\d{1,15})-(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class ChunkPlace:
    """Where a chunk stands: the claim of the run that yielded it, and its number there, from 1. As text `2-17`.

    A run is claimed once for each attempt, and again when it is given from one worker to another.
    """

    claim: int
    number: int

    def __str__(self) -> str:
        return f"{self.claim}-{self.number}"

    @classmethod
    def read(cls, text: str) -> Self:
        """A place from its text. Raises `InvalidInputError`."""
        if found := _PLACE.fullmatch(text):
            return cls(int(found[1]), int(found[2]))
        raise InvalidInputError(f"place {text!r}: '<claim>-<number>' of a chunk is needed, as '2-17'")


NOWHERE = ChunkPlace(0, 0)
"""Before the first chunk of any run."""


def known(after: ChunkPlace | str | None) -> ChunkPlace:
    """A place in any of its forms. Raises `InvalidInputError`."""
    return ChunkPlace.read(after) if isinstance(after, str) else after or NOWHERE


START = Place(0, 0)
"""Where each journal begins."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a handler yielded, as JSON, and its place.

    `at_ms` is the store's time of it, in milliseconds since 1970. It came before the journal event that stands or will
    stand at `before`, and after all that stand before that. A release that did not tell leaves both at 0.
    """

    place: ChunkPlace
    data: bytes
    at_ms: int = 0
    before: Place = START

    @property
    def value(self) -> Any:
        """It as plain data."""
        return codec.loads(self.data)


@dataclass(frozen=True, slots=True)
class StreamReset:
    """A new attempt begins to yield from the start: all chunks that came before this are void.

    `claim` is the first part of the places of what follows; it grows with each attempt.
    """

    claim: int


@dataclass(frozen=True, slots=True)
class ChunkPage:
    """Some of a stream. `reset`: what the reader knew is void. `next` is the place to go on after.

    `ended`: the run has ended, and nothing follows.
    """

    found: list[Chunk]
    next: ChunkPlace
    reset: StreamReset | None = None
    ended: bool = False


async def read_chunks(store: Store, run_id: str, after: ChunkPlace, limit: int = PAGE) -> ChunkPage:
    """Up to `limit` chunks after a place, in one read. Raises `RunNotFoundError`.

    A place of another claim than that whose chunks are there counts as the beginning, with a reset.
    """
    call, run, out = store.link.call, keys.run(run_id, store.shards), keys.out(run_id, store.shards)
    reset = None
    while True:
        asked = [  # status before chunks: an end that is seen has all of them
            call("HMGET", run, "status", "out"),
            call("XRANGE", out, f"({after}", "+", "COUNT", limit),
            call("HGET", run, "out"),
        ]
        (status, last), entries, still = [await reply for reply in asked]
        if status is None:
            raise _absent(run_id)
        claim = _place(last).claim
        if claim != _place(still).claim:
            continue  # another claim began in between: whose chunks these are is not known
        if last is not None and claim != after.claim:
            reset = StreamReset(claim) if after.number or reset else None
            after, known = ChunkPlace(claim, 0), after
            if known.claim > claim:  # a store that came back older: its chunks stand before that place
                continue
        found = [_chunk(at, fields, lambda data: store.sealer.open(data, run_id)) for at, fields in entries]
        ended = RunStatus(status.decode()).ended and len(found) < limit
        return ChunkPage(found, found[-1].place if found else after, reset, ended)


async def values_of(chunks: AsyncGenerator[Chunk | StreamReset]) -> AsyncGenerator[Any]:
    """Chunks as what was yielded; resets stay what they are."""
    async with contextlib.aclosing(chunks):
        async for one in chunks:
            yield one.value if isinstance(one, Chunk) else one


def _chunk(at: bytes, fields: list[bytes], opened: Callable[[bytes], bytes]) -> Chunk:
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    before = Place.read(told[b"j"].decode()) if b"j" in told else START
    return Chunk(_place(at), opened(told[b"c"]), int(told.get(b"t", 0)), before)


def _place(text: bytes | None) -> ChunkPlace:
    return NOWHERE if text is None else ChunkPlace.read(text.decode())


def _absent(run_id: str) -> RunNotFoundError:
    return RunNotFoundError(f"run {run_id}: there is none of this id (never started, or past its retention)")


def _new_future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Watch:
    """A run whose stream is read: by how many, and what wakes them."""

    readers: int = 0
    told: int = 0
    news: asyncio.Future[None] = field(default_factory=_new_future)
    listening: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self.told += 1
        if not self.news.done():
            self.news.set_result(None)
        self.news = _new_future()


class Streams:
    """All readers of one client's streams: one connection that listens for all of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watched: dict[str, Watch] = {}
        self._ears = Subscriber(store.link.address, self._on_news, self._wake_all)
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    async def chunks(self, run_id: str, start: ChunkPlace) -> AsyncGenerator[Chunk | StreamReset]:
        """Chunks after `start`. Holds no more than a page; reads no further until it is asked to.

        Ends with the run, and raises what it failed with.
        """
        watch = self.watch(run_id)
        try:
            place = start
            while True:
                told = watch.told
                page = await read_chunks(self._store, run_id, place)
                if page.reset is not None:
                    yield page.reset
                for chunk in page.found:
                    yield chunk
                if page.ended and is_end(last := await self._last_entry(run_id)):
                    outcome_of(run_id, last, self._store.sealer)
                    return
                place = page.next
                if not page.found and told == watch.told:
                    await asyncio.wait([watch.news], timeout=LOOK_S)
                if self._closed:
                    raise StoreUnavailableError("the client was closed")
        finally:
            self.leave(run_id, watch)

    async def _last_entry(self, run_id: str) -> bytes:
        entry = await self._store.link.call("LINDEX", keys.log(run_id, self._store.shards), -1)
        if entry is None:
            raise _absent(run_id)
        assert isinstance(entry, bytes)
        return entry

    def watch(self, run_id: str) -> Watch:
        """Begin to listen for one reader more of a run; `leave` ends it."""
        watch = self._watched.setdefault(run_id, Watch())
        watch.readers += 1
        if watch.listening is None:
            watch.listening = asyncio.ensure_future(self._listen(run_id, watch))
        return watch

    def leave(self, run_id: str, watch: Watch) -> None:
        """A reader does not listen any more."""
        watch.readers -= 1
        if watch.readers == 0:
            self._watched.pop(run_id, None)
            if watch.listening is not None:
                watch.listening.cancel()
            self._ears.unsubscribe(*_channels(run_id))

    async def _listen(self, run_id: str, watch: Watch) -> None:
        """Subscribe; what came before that was confirmed is found by a look."""
        with contextlib.suppress(Agnt5Error):  # a reader's own look tells of it
            if self._connecting is None:
                self._connecting = asyncio.ensure_future(self._connect())
            await asyncio.shield(self._connecting)
            await self._ears.subscribe(*_channels(run_id))
            watch.wake()

    async def _connect(self) -> None:
        while True:
            try:
                await self._ears.connect()
            except StoreUnavailableError:
                await asyncio.sleep(RETRY_S)
            else:
                return

    def _on_news(self, channel: bytes, _: bytes) -> None:
        if watch := self._watched.get(channel.decode().split(":", 2)[2]):
            watch.wake()

    def _wake_all(self) -> None:
        for watch in self._watched.values():
            watch.wake()

    async def close(self) -> None:
        """End all reading."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for watch in self._watched.values():
            if watch.listening is not None:
                watch.listening.cancel()
        self._wake_all()
        await self._ears.close()


def _channels(run_id: str) -> tuple[str, str]:
    return keys.out_channel(run_id), keys.done_channel(run_id)

"""Following runs: each journal event as it comes, over generations, until the run has ended."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Self

from agnt5.client.waiting import Waits
from agnt5.contracts.errors import Agnt5Error, InvalidInputError, RunNotFoundError, StoreUnavailableError
from agnt5.contracts.runs import RunStatus
from agnt5.replay import journal
from agnt5.replay.events import Event
from agnt5.store import keys
from agnt5.store.store import Store

LOOK_S = 0.25
"""How often the journals of all followed runs are looked at, together."""

PAGE = 100
"""Entries that a follower holds at a time: each may have a payload of the limit's size."""

_PLACE = re.compile(r"(\d{1,9})\.(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands: its generation, and its position in the journal of that, both from 0. As text `0.17`."""

    generation: int
    position: int

    def __str__(self) -> str:
        return f"{self.generation}.{self.position}"

    @classmethod
    def read(cls, text: str) -> Self:
        """A place from its text. Raises `InvalidInputError`."""
        if found := _PLACE.fullmatch(text):
            return cls(int(found[1]), int(found[2]))
        raise InvalidInputError(f"place {text!r}: '<generation>.<position>' of an event is needed, as '0.17'")

    def on(self, count: int = 1) -> Place:
        """So many positions further."""
        return Place(self.generation, self.position + count)


def following(after: Place | str | None) -> Place | None:
    """Where what comes after a place begins. Raises `InvalidInputError` for a text that is none."""
    place = Place.read(after) if isinstance(after, str) else after
    return None if place is None else place.on()


@dataclass(frozen=True, slots=True)
class Followed:
    """A journal entry and its place."""

    place: Place
    entry: bytes

    @property
    def event(self) -> Event:
        """The entry as an event. Raises `Agnt5Error` for one that a newer release wrote."""
        return journal.decode(self.entry)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a journal. `next` is where the following entry stands or will stand.

    `more`: more may be there already; `ended`: none will follow.
    """

    found: list[Followed]
    next: Place
    more: bool = False
    ended: bool = False


async def read_page(store: Store, run_id: str, start: Place | None, limit: int = PAGE) -> Page:
    """Up to `limit` entries from a place on (None: the beginning of the current generation), in one read.

    What an earlier generation's journal had is left out once it is past retention. After a restore of an older
    store, a place that it does not have counts as its end. Raises `RunNotFoundError`, `SealedPayloadError`.
    """
    call, run, log = store.link.call, keys.run(run_id, store.shards), keys.log(run_id, store.shards)
    while True:
        at = start.position if start else 0
        asked = [  # status before entries: an end that is seen has its entry
            call("HMGET", run, "gen", "status"),
            call("LRANGE", log, at, at + limit - 1),
            call("LLEN", log),
            call("HGET", run, "gen"),
        ]
        (generation, status), entries, length, still = [await reply for reply in asked]
        if status is None:
            raise RunNotFoundError(f"run {run_id}: there is none of this id (never started, or past its retention)")
        if generation != still:
            continue  # it was renewed in between: whose entries these are is not known
        now = int(generation or 0)
        place = start or Place(now, 0)
        if place.generation < now:
            if (page := await _old_page(store, run_id, place, limit)).found:
                return page
            start = Place(await _next_kept(store, run_id, place.generation + 1, now), 0)
            continue
        if place.generation > now or place.position > length:
            place, entries = Place(now, length), []
        found = _placed(store, run_id, place, entries)
        more = len(found) == limit
        return Page(found, place.on(len(found)), more=more, ended=RunStatus(status.decode()).ended and not more)


async def _old_page(store: Store, run_id: str, place: Place, limit: int) -> Page:
    key = keys.old(run_id, place.generation, store.shards)
    entries = await store.link.call("LRANGE", key, place.position, place.position + limit - 1)
    found = _placed(store, run_id, place, entries)
    return Page(found, place.on(len(found)), more=True)


async def _next_kept(store: Store, run_id: str, generation: int, now: int) -> int:
    """The first generation from this one on whose journal is still kept; the current one is."""
    for first in range(generation, now, PAGE):
        some = range(first, min(first + PAGE, now))
        asked = [store.link.call("EXISTS", keys.old(run_id, one, store.shards)) for one in some]
        for one, kept in zip(some, await asyncio.gather(*asked), strict=True):
            if kept:
                return one
    return now


def _placed(store: Store, run_id: str, place: Place, entries: list[bytes]) -> list[Followed]:
    return [Followed(place.on(at), store.sealer.open(entry, run_id)) for at, entry in enumerate(entries)]


@dataclass(slots=True)
class Watch:
    """A run that is followed: how many do, and what the latest look at it saw."""

    followers: int = 0
    looks: int = 0
    next: Place | None = None
    ended: bool = False
    told: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    listening: asyncio.Task[None] | None = None

    def see(self, following: Place | None, *, ended: bool) -> None:
        """Note a look; wake the followers if it saw something new."""
        fresh = (following, ended) != (self.next, self.ended)
        self.looks, self.next, self.ended = self.looks + 1, following, ended
        if fresh and not self.told.done():
            self.told.set_result(None)
            self.told = asyncio.get_running_loop().create_future()

    async def news(self, place: Place | None, since: int) -> None:
        """Wait for a look after look `since` that saw something else than a journal which goes on at `place`."""
        while self.looks == since or (self.next == place and not self.ended):
            await asyncio.shield(self.told)


class Follows:
    """All followers of one client: one look every `LOOK_S` for all of them, and the ends as they are published."""

    def __init__(self, store: Store, waits: Waits) -> None:
        self._store = store
        self._waits = waits
        self._watched: dict[str, Watch] = {}
        self._looking: asyncio.Task[None] | None = None

    async def follow(self, run_id: str, start: Place | None) -> AsyncGenerator[Followed]:
        """Entries from `start` on. Holds no more than a page; reads no further until it is asked to."""
        watch = self.watch(run_id)
        try:
            place = start
            while True:
                since = watch.looks
                page = await read_page(self._store, run_id, place)
                for one in page.found:
                    yield one
                if page.ended:
                    return
                if place == page.next or (place is None and not page.found):
                    await watch.news(page.next, since)
                place = page.next
        finally:
            self.leave(run_id, watch)

    def watch(self, run_id: str) -> Watch:
        """Begin to look for one follower more of a run; `leave` ends it."""
        watch = self._watched.setdefault(run_id, Watch())
        watch.followers += 1
        if watch.listening is None:
            watch.listening = asyncio.ensure_future(self._listen(run_id, watch))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_on())
        return watch

    def leave(self, run_id: str, watch: Watch) -> None:
        """A follower needs no looks any more."""
        watch.followers -= 1
        if watch.followers == 0:
            self._watched.pop(run_id, None)
            if watch.listening:
                watch.listening.cancel()

    async def _listen(self, run_id: str, watch: Watch) -> None:
        with contextlib.suppress(Agnt5Error):  # a follower's own read tells of it
            await self._waits.ended(run_id, None)
            watch.see(watch.next, ended=True)

    async def _look_on(self) -> None:
        while self._watched:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(Agnt5Error):  # the next look may succeed
                await self._look()

    async def _look(self) -> None:
        call, shards = self._store.link.call, self._store.shards
        asked = [
            (watch, call("HMGET", keys.run(run_id, shards), "gen", "status"), call("LLEN", keys.log(run_id, shards)))
            for run_id, watch in self._watched.items()
        ]
        replies = await asyncio.gather(*(reply for _, *two in asked for reply in two))
        for (watch, *_), (generation, status), length in zip(asked, replies[::2], replies[1::2], strict=True):
            gone = status is None
            watch.see(
                None if gone else Place(int(generation or 0), length),
                ended=gone or RunStatus(status.decode()).ended,
            )

    async def close(self) -> None:
        """End all following."""
        if self._looking:
            self._looking.cancel()
        for watch in self._watched.values():
            if watch.listening:
                watch.listening.cancel()
            if not watch.told.done():
                watch.told.set_exception(StoreUnavailableError("the client was closed"))
                watch.told.exception()  # nobody may be waiting
        self._watched.clear()

"""What keeps time and picks up after the dead: due timers, dead hosts, lost messages, old index entries.

Any number of beats may sweep at once: every act is one idempotent script.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from agnt5 import codec
from agnt5.contracts.errors import RunTimeoutError, SealedPayloadError, WorkerLostError, error_data
from agnt5.contracts.settings import Settings
from agnt5.runtime.calls import answer
from agnt5.runtime.dispatch import Dispatcher
from agnt5.store import browse, keys
from agnt5.store.replies import Fired, pairs
from agnt5.store.store import Store
from agnt5.telemetry.figures import current

logger = logging.getLogger("agnt5.beat")

FIRE_LIMIT = 500
REAP_LIMIT = 200
REQUEUE_LIMIT = 500
ANSWER_LIMIT = 500

LOOK_MS = 1000
"""How often a beat looks for dead hosts and lost messages."""

ANSWER_AFTER_MS = 2000
"""So long after its end a call's host has told the caller, or never will."""
TIMEOUT_ERROR = codec.dumps(
    error_data(RunTimeoutError("the run timeout has passed", type="RunTimeoutError")), what="error"
)


def lost_error(host: str, times: int) -> bytes:
    """The error of a run that killed its workers."""
    message = f"the run's worker died {times} times while it ran, the last one was {host}"
    return codec.dumps(error_data(WorkerLostError(message, type="WorkerLostError")), what="error")


async def reap_host(store: Store, dispatcher: Dispatcher, host: str) -> int:
    """Queue all that a dead host owned, then strike it off the list. How many runs those were."""
    total = 0
    for shard in range(store.shards):
        while True:
            reaped, left, out = await store.reap(
                shard, host, limit=REAP_LIMIT, error=lost_error(host, store.max_host_losses)
            )
            dispatcher.send(out)
            total += reaped
            if not left:
                break
    await store.link.call("ZREM", keys.hosts(), host)
    return total


@dataclass(slots=True)
class Swept:
    """What one round did, for logs and tests."""

    fired: int = 0
    lateness_ms: list[int] = field(default_factory=list)
    reaped: int = 0
    resent: int = 0


class Sweeper:
    """One beat's rounds over a store."""

    def __init__(self, store: Store, dispatcher: Dispatcher, settings: Settings) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._watched_since_ms: int | None = None
        self._reconnects = store.link.reconnects
        self._last_look_ms = 0
        self._empty: set[str] = set()

    # ---- timers

    async def fire(self) -> tuple[Swept, int | None]:
        """Deliver what is due in all shards; gives the ms until the next timer, None when there is none."""
        swept = Swept()
        shards = list(range(self._store.shards))
        wait_ms: int | None = None
        while shards:
            pending = [self._store.fire(shard, limit=FIRE_LIMIT, timeout_error=TIMEOUT_ERROR) for shard in shards]
            full: list[int] = []
            for shard, fired in zip(shards, await asyncio.gather(*pending), strict=True):
                self._dispatcher.send(fired.out)
                swept.fired += fired.count
                swept.lateness_ms += fired.lateness_ms
                if fired.count == FIRE_LIMIT:
                    full.append(shard)
                elif (next_ms := _until(fired)) is not None:
                    wait_ms = next_ms if wait_ms is None else min(wait_ms, next_ms)
            shards = full
        current().fired(swept.lateness_ms)
        return swept, wait_ms

    # ---- liveness

    async def look(self) -> Swept:
        """Reap dead hosts and find lost messages: once one whole liveness window was seen without interruption.

        After an outage of Redis or of this beat everybody looks dead and every message late; requeueing all
        would multiply the backlog.
        """
        swept = Swept()
        now_ms = await self._store.now_ms()
        window_ms = self._settings.liveness_timeout_ms
        interrupted = self._store.link.reconnects != self._reconnects or now_ms - self._last_look_ms > max(
            window_ms,
            2 * LOOK_MS,  # a window shorter than the looks' distance would never be seen whole
        )
        self._reconnects, self._last_look_ms = self._store.link.reconnects, now_ms
        if interrupted or self._watched_since_ms is None:
            self._watched_since_ms = now_ms
        if now_ms - self._watched_since_ms >= window_ms:
            swept.reaped = await self._reap(now_ms - window_ms)
            swept.resent = await self._requeue(now_ms)
            current().resent(swept.resent)
        return swept

    async def _reap(self, before_ms: int) -> int:
        total = 0
        for name, beat_ms in pairs(
            await self._store.link.call("ZRANGEBYSCORE", keys.hosts(), "-inf", before_ms, "WITHSCORES")
        ):
            host = name.decode()
            reaped = await reap_host(self._store, self._dispatcher, host)
            current().reaped("silent" if int(float(beat_ms)) else "left", reaped)
            if reaped:
                logger.warning("worker %s is dead: %d runs go on elsewhere", host, reaped)
            else:
                logger.info("worker %s is gone", host)
            total += reaped
        return total

    async def _requeue(self, now_ms: int) -> int:
        """The overtaking rule, for each slot over all shards; and one probe of its oldest run.

        A broker that has nothing for a slot whose oldest run is overdue has lost all of its messages: then nothing
        would overtake, and one probe after another would take a second for each lost run.
        """
        link, shards = self._store.link, range(self._store.shards)
        slot_sets = await asyncio.gather(*(link.call("SMEMBERS", keys.queues(shard)) for shard in shards))
        total = 0
        for slot in {member.decode() for members in slot_sets for member in members}:
            claimed = await asyncio.gather(*(link.call("HGET", keys.claimed(shard), slot) for shard in shards))
            newest_ms = max((int(ms) for ms in claimed if ms), default=0)
            heads = await asyncio.gather(
                *(link.call("ZRANGE", keys.queued(shard, slot), 0, 0, "WITHSCORES") for shard in shards)
            )
            ages = {shard: int(float(head[1])) for shard, head in zip(shards, heads, strict=True) if head}
            if not ages:
                continue
            oldest = min(ages, key=lambda shard: ages[shard])
            probing = now_ms - ages[oldest] > self._settings.probe_after_ms
            if probing and await self._has_lost_all(slot):
                newest_ms = max(newest_ms, now_ms - self._settings.overtake_slack_ms)
            for shard, oldest_ms in ages.items():
                if oldest_ms < newest_ms or (probing and shard == oldest):
                    total += await self._resend(shard, slot, newest_ms, probe=probing and shard == oldest)
        return total

    async def _has_lost_all(self, slot: str) -> bool:
        """Whether the broker had no message of a slot at two looks in a row (one alone may be between two hands)."""
        queue, _, priority = slot.rpartition(":")
        before = slot in self._empty
        if await self._dispatcher.waiting(queue, int(priority)) == 0:
            self._empty.add(slot)
            return before
        self._empty.discard(slot)
        return False

    async def _resend(self, shard: int, slot: str, before_ms: int, *, probe: bool) -> int:
        sent, _, out = await self._store.requeue(
            shard,
            slot,
            before_ms=before_ms,
            slack_ms=self._settings.overtake_slack_ms,
            limit=REQUEUE_LIMIT,
            probe=probe,
        )
        self._dispatcher.send(out)
        return sent

    # ---- calls of entities

    async def answer(self) -> int:
        """Tell callers of ended calls whose host could not; how many there were."""
        store = self._store
        before_ms = await self._store.now_ms() - ANSWER_AFTER_MS
        pages = await asyncio.gather(
            *(
                store.link.call("ZRANGEBYSCORE", keys.answers(shard), "-inf", before_ms, "LIMIT", 0, ANSWER_LIMIT)
                for shard in range(store.shards)
            )
        )
        calls = [call.decode() for page in pages for call in page]
        for call, record in zip(calls, await browse.records(store, calls, opened=_as_is), strict=True):
            if record is None:
                await store.link.call("ZREM", keys.answers(store.shard(call)), call)
            else:
                try:
                    applied = await answer(store, call, record.first, record.last)
                except SealedPayloadError as error:  # another beat may have its key, and this one other things to do
                    logger.error("%s; its caller waits", error)  # noqa: TRY400 - its text says all
                    continue
                self._dispatcher.send(applied.out)
        return len(calls)

    # ---- tidying

    async def trim(self) -> None:
        """Drop index entries of runs past retention."""
        before_ms = await self._store.now_ms() - self._settings.retention_ms
        for shard in range(self._store.shards):
            await self._store.link.call("ZREMRANGEBYSCORE", keys.ended_runs(shard), "-inf", before_ms)


def _as_is(entry: bytes, _: str) -> bytes:
    return entry


def _until(fired: Fired) -> int | None:
    return None if fired.next_due_ms is None else max(0, fired.next_due_ms - fired.now_ms)

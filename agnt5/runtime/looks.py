"""What beat sees when it looks around, as figures: queues, open and refused runs, hosts. Once in a few seconds."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from agnt5.contracts.settings import Settings
from agnt5.store import keys
from agnt5.store.store import Store
from agnt5.telemetry.figures import Queue, current

LOOK_S = 5.0
MOVED_LOOKED_AT = 3
"""Runs at each end of a queue. One whose message was sent again stands further back than its age says."""


class Looks:
    """One beat's. Reads only, and nothing where no figures are asked for."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._due_s = 0.0

    async def turn(self, now_ms: int) -> None:
        """Beat makes a turn at this time of the store: say so, and look around if it is time to."""
        figures = current()
        if not figures.on:
            return
        figures.turned(now_ms / 1000)
        loop = asyncio.get_running_loop()
        if loop.time() < self._due_s:
            return
        self._due_s = loop.time() + LOOK_S
        link, shards = self._store.link, range(self._store.shards)
        since_ms = now_ms - self._settings.liveness_timeout_ms
        queues, open_runs, refused, hosts = await asyncio.gather(
            self._queues(now_ms),
            asyncio.gather(*(link.call("ZCARD", keys.open_runs(shard)) for shard in shards)),
            asyncio.gather(*(link.call("SCARD", keys.refused(shard)) for shard in shards)),
            link.call("ZCOUNT", keys.hosts(), since_ms, "+inf"),
        )
        figures.looked(queues, open_runs=sum(open_runs), refused_runs=sum(refused), live_hosts=hosts)

    async def _queues(self, now_ms: int) -> dict[str, Queue]:
        link, shards = self._store.link, range(self._store.shards)
        slots = await asyncio.gather(*(link.call("SMEMBERS", keys.queues(shard)) for shard in shards))
        places = [(shard, slot.decode()) for shard, found in enumerate(slots) for slot in found]
        lengths = await asyncio.gather(*(link.call("ZCARD", keys.queued(*place)) for place in places))
        ages = await asyncio.gather(*(self._oldest_ms(*place) for place in places))
        total: defaultdict[str, int] = defaultdict(int)
        oldest_ms: dict[str, int] = {}
        for (_, slot), length, queued_ms in zip(places, lengths, ages, strict=True):
            queue = slot.rpartition(":")[0]
            total[queue] += length
            if queued_ms is not None:
                oldest_ms[queue] = min(queued_ms, oldest_ms.get(queue, now_ms))
        return {
            queue: Queue(length, max(0, now_ms - oldest_ms.get(queue, now_ms)) / 1000)
            for queue, length in total.items()
        }

    async def _oldest_ms(self, shard: int, slot: str) -> int | None:
        """When the run was queued that waits longest in a shard, as far as both ends of its queue tell."""
        link, key = self._store.link, keys.queued(shard, slot)
        first, last = await asyncio.gather(
            link.call("ZRANGE", key, 0, MOVED_LOOKED_AT - 1), link.call("ZREVRANGE", key, 0, MOVED_LOOKED_AT - 1)
        )
        runs = [member.decode() for member in {*first, *last}]
        queued = await asyncio.gather(
            *(link.call("HGET", keys.run(run_id, self._store.shards), "queued") for run_id in runs)
        )
        return min((int(ms) for ms in queued if ms), default=None)

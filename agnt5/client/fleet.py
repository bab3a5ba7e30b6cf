"""The workers and the queues, as the store knows them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agnt5.contracts.clock import at_ms
from agnt5.store import keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker process. `alive`: it was heard within the liveness timeout; `runs` are those that it owns now."""

    name: str
    seen_at: datetime
    alive: bool
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Runs that wait for a worker in one queue, all priorities together."""

    name: str
    service: str
    waiting: int
    oldest_at: datetime | None
    by_priority: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What works, and what waits for it, at one moment by the store's clock."""

    at: datetime
    workers: list[Worker]
    queues: list[Queue]


async def read_fleet(store: Store, *, liveness_timeout_ms: int) -> Fleet:
    """Workers by name, and queues that have ever been used, in two reads."""
    call, shards = store.link.call, range(store.shards)
    reading_now, reading_hosts = store.now_ms(), call("ZRANGE", keys.hosts(), 0, -1, "WITHSCORES")
    slots_of = [call("SMEMBERS", keys.queues(shard)) for shard in shards]
    now_ms, hosts = await reading_now, await reading_hosts
    beaten = {name.decode(): int(float(ms)) for name, ms in pairs(hosts)}
    owned = {name: [call("SCARD", keys.owned(shard, name)) for shard in shards] for name in sorted(beaten)}
    waiting = [
        (slot.decode(), call("ZCARD", key), call("ZRANGE", key, 0, 0, "WITHSCORES"))
        for shard, slots in zip(shards, await asyncio.gather(*slots_of), strict=True)
        for slot in slots
        for key in [keys.queued(shard, slot.decode())]
    ]
    workers = [
        Worker(
            name=name,
            seen_at=at_ms(beaten[name]),
            alive=now_ms - beaten[name] <= liveness_timeout_ms,
            runs=sum(await asyncio.gather(*counts)),
        )
        for name, counts in owned.items()
    ]
    depths = [(slot, await count, await oldest) for slot, count, oldest in waiting]
    return Fleet(at=at_ms(now_ms), workers=workers, queues=_queues(depths))


def _queues(depths: Sequence[tuple[str, int, list[Any]]]) -> list[Queue]:
    counts: dict[str, dict[int, int]] = {}
    oldest: dict[str, float] = {}
    for slot, count, first in depths:
        name, _, priority = slot.rpartition(":")
        by_priority = counts.setdefault(name, {})
        by_priority[int(priority)] = by_priority.get(int(priority), 0) + count
        if first:
            oldest[name] = min(oldest.get(name, float("inf")), float(first[1]))
    return [
        Queue(
            name=name,
            service=name.removeprefix("agnt5."),
            waiting=sum(by_priority.values()),
            oldest_at=at_ms(int(oldest[name])) if name in oldest else None,
            by_priority={priority: count for priority, count in sorted(by_priority.items()) if count},
        )
        for name, by_priority in sorted(counts.items())
    ]

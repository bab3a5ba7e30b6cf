"""Workers, queues and beats as they are now, read from the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agnt5.client import AsyncClient
from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import Agnt5Error
from agnt5.store import keys
from agnt5.store.store import Store

MOST_HOSTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A host: when it was last heard, whether that is recent enough, how many runs it owns."""

    host: str
    beaten_at: datetime
    alive: bool
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue: runs that wait to be claimed, since when the oldest waits."""

    name: str
    backlog: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All of them. `beats` is None where the server does not tell; `hidden` workers were too many to list."""

    workers: list[Worker]
    queues: list[Queue]
    beats: int | None
    handlers: list[tuple[str, str]]
    hidden: int = 0


async def fleet_of(client: AsyncClient) -> Fleet:
    """Look at the fleet."""
    store, _ = await client.opened()
    seconds, micros = await store.link.call("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    beating = await store.link.call("ZREVRANGE", keys.hosts(), 0, -1, "WITHSCORES")
    hosts = [(host.decode(), int(float(score))) for host, score in zip(beating[::2], beating[1::2], strict=True)]
    owned = await _owned(store, [host for host, _ in hosts[:MOST_HOSTS]])
    timeout_ms = client.settings.liveness_timeout_ms
    announced = await client.handlers()
    return Fleet(
        workers=[
            Worker(host=host, beaten_at=at_ms(ms), alive=now_ms - ms <= timeout_ms, runs=owned[host])
            for host, ms in sorted(hosts[:MOST_HOSTS])
        ],
        queues=await _queues(store),
        beats=await _beats(store),
        handlers=sorted((name, str(about.get("kind", ""))) for name, about in announced.items()),
        hidden=max(0, len(hosts) - MOST_HOSTS),
    )


async def _owned(store: Store, hosts: Iterable[str]) -> dict[str, int]:
    asked = {
        host: [store.link.call("SCARD", keys.owned(shard, host)) for shard in range(store.shards)] for host in hosts
    }
    return {host: sum([int(await reply) for reply in replies]) for host, replies in asked.items()}


async def _queues(store: Store) -> list[Queue]:
    slots = [store.link.call("SMEMBERS", keys.queues(shard)) for shard in range(store.shards)]
    asked: list[tuple[str, Any, Any]] = []
    for shard, reply in enumerate(slots):
        for slot in sorted(await reply):
            key = keys.queued(shard, slot.decode())
            oldest = store.link.call("ZRANGE", key, 0, 0, "WITHSCORES")
            asked.append((slot.decode().rpartition(":")[0], store.link.call("ZCARD", key), oldest))
    backlog: dict[str, int] = {}
    since: dict[str, int] = {}
    for name, length, first in asked:
        backlog[name] = backlog.get(name, 0) + int(await length)
        if oldest := await first:
            ms = int(float(oldest[1]))
            since[name] = min(since.get(name, ms), ms)
    return [
        Queue(name=name, backlog=length, oldest_at=at_ms(since[name]) if name in since else None)
        for name, length in sorted(backlog.items())
    ]


async def _beats(store: Store) -> int | None:
    try:
        reply = await store.link.call("PUBSUB", "NUMSUB", keys.BEAT_CHANNEL)
    except Agnt5Error:
        return None
    return int(reply[1])

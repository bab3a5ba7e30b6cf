"""All that a server holds, as plain values to compare."""

from __future__ import annotations

from typing import Any

import redis

READERS = {
    b"string": lambda r, key: r.get(key),
    b"hash": lambda r, key: r.hgetall(key),
    b"list": lambda r, key: r.lrange(key, 0, -1),
    b"set": lambda r, key: set(r.smembers(key)),
    b"zset": lambda r, key: r.zrange(key, 0, -1, withscores=True),
    b"stream": lambda r, key: r.xrange(key),
}


def dump(client: redis.Redis) -> dict[str, tuple[Any, bool]]:
    """Key -> (value, whether it has a TTL)."""
    found: dict[str, tuple[Any, bool]] = {}
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        if kind != b"none":
            found[key.decode()] = (READERS[kind](client, key), client.pttl(key) >= 0)
    return found


def keys_of(client: redis.Redis, run_id: str) -> dict[str, bool]:
    """The keys of a run's tree, by name -> whether each has a TTL."""
    found = {}
    for key in client.scan_iter(count=1000):
        if run_id in key.decode().split(":", 2)[-1]:
            found[key.decode()] = client.pttl(key) >= 0
    return found

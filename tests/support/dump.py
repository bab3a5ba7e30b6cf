"""All that a server holds, as plain values to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

READERS: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"string": ("GET %s", lambda value: value),
    b"hash": ("HGETALL %s", lambda value: value),
    b"list": ("LRANGE %s 0 -1", lambda value: value),
    b"set": ("SMEMBERS %s", set),
    b"zset": ("ZRANGE %s 0 -1 WITHSCORES", lambda value: [tuple(pair) for pair in value]),
    b"stream": ("XRANGE %s - +", lambda value: value),
}


def dump(client: redis.Redis) -> dict[str, tuple[Any, bool]]:
    """Key -> (value, whether it has a TTL)."""
    keys = sorted(client.scan_iter(count=1000))
    types = _all(client, [("TYPE", key) for key in keys])
    kept = [(key, kind) for key, kind in zip(keys, types, strict=True) if kind in READERS]
    values = _all(client, [_command(READERS[kind][0], key) for key, kind in kept])
    ttls = _all(client, [("PTTL", key) for key, _ in kept])
    return {
        key.decode(): (READERS[kind][1](value), ttl >= 0)
        for (key, kind), value, ttl in zip(kept, values, ttls, strict=True)
    }


def keys_of(client: redis.Redis, run_id: str) -> dict[str, bool]:
    """The keys of a run's tree, by name -> whether each has a TTL."""
    found = {}
    for key in client.scan_iter(count=1000):
        if run_id in key.decode().split(":", 2)[-1]:
            found[key.decode()] = client.pttl(key) >= 0
    return found


def _command(form: str, key: bytes) -> tuple[Any, ...]:
    return tuple(key if part == "%s" else part for part in form.split())


def _all(client: redis.Redis, commands: list[tuple[Any, ...]]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command, **({"withscores": True} if command[0] == "ZRANGE" else {}))
    return pipeline.execute()

"""Connecting to a store: refuses a server that would lose runs, and agrees on the shard count."""

from __future__ import annotations

import logging
from typing import Any

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.settings import Settings
from agnt5.payload_keys import sealer_of
from agnt5.store import keys
from agnt5.store.link import Link
from agnt5.store.store import Store
from agnt5.store.watching import watch_of
from agnt5.store.wire import Address

logger = logging.getLogger("agnt5.store")

FORMAT = "1"
_REDIS = (7, 0)
_VALKEY = (7, 2)


async def open_store(settings: Settings, *, name: str, patience_s: float | None = None) -> Store:
    """Connect, check the server and open the store.

    Raises `StoreUnavailableError` when nobody answers, and `ConfigurationError` for a server that is too old,
    may evict keys, or holds a store of another shard count or format; or for payload keys that cannot be used.
    """
    sealer = sealer_of(settings)
    link = Link(settings.redis_url, name=name.replace(" ", "_"), patience_s=patience_s)
    link.watch = watch_of()
    await link.connect()
    try:
        await check_server(link)
        await _agree(link, settings)
    except BaseException:
        await link.close()
        raise
    return Store(
        link,
        shards=settings.shards,
        retention_ms=settings.retention_ms,
        journal_limit=settings.journal_limit_events,
        journal_bytes=settings.journal_limit_bytes,
        max_host_losses=settings.max_host_losses,
        stream_limit=settings.stream_limit,
        posts=_is_broker(link, settings),
        sealer=sealer,
    )


def _is_broker(link: Link, settings: Settings) -> bool:
    url = settings.broker_url or settings.redis_url
    return url.partition("://")[0] in {"redis", "rediss"} and Address(url, "").place == link.address.place


async def check_server(link: Link) -> None:
    """Refuse a server that is too old or may evict keys; warn plainly when it keeps nothing on disk."""
    server = _info(await link.call("INFO", "server"))
    valkey = server.get("valkey_version")
    version = tuple(int(part) for part in (valkey or server.get("redis_version", "0")).split(".")[:2])
    if version < (_VALKEY if valkey else _REDIS):
        raise ConfigurationError(
            f"the server at {link.address} is {'Valkey' if valkey else 'Redis'} {'.'.join(map(str, version))};"
            " agnt5 needs Redis >= 7.0 or Valkey >= 7.2"
        )
    memory = _info(await link.call("INFO", "memory"))
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and memory.get("maxmemory", "0") != "0":
        raise ConfigurationError(
            f"the server at {link.address} has maxmemory-policy {policy}: it may evict runs when memory is short;"
            " set maxmemory-policy noeviction, or use a server of its own for agnt5"
        )
    persistence = _info(await link.call("INFO", "persistence"))
    if persistence.get("aof_enabled") == "0":
        logger.warning(
            "the server at %s has AOF off: a crash of it loses runs; set appendonly yes (and appendfsync everysec)",
            link.address,
        )


async def _agree(link: Link, settings: Settings) -> None:
    wanted = {"shards": str(settings.shards), "format": FORMAT}
    for field, value in wanted.items():
        await link.call("HSETNX", keys.meta(), field, value)
        found = (await link.call("HGET", keys.meta(), field)).decode()
        if found != value:
            remedy = f"set AGNT5_SHARDS={found}" if field == "shards" else "use the agnt5 release that wrote it"
            raise ConfigurationError(
                f"the store at {link.address} has {field} {found}, this process is set to {value}; {remedy}"
            )


def _info(text: Any) -> dict[str, str]:
    lines = text.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)

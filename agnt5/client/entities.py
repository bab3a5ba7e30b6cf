"""Entities as a client sees them: their state, who holds them, and their methods to call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agnt5 import codec
from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import EntityNotFoundError, InvalidInputError
from agnt5.contracts.ids import entity_name
from agnt5.sdk.entities import type_name
from agnt5.store import keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store

if TYPE_CHECKING:
    from agnt5.client.aio import AsyncClient

R = TypeVar("R")

RECENT = 20
"""Ended writes that an entity's state names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityState:
    """An entity as it stood when it was read.

    `state` has a value for each state key. `writes` counts the calls that changed it, `updated_at` is the latest of
    them. `holder` is the run that has its lock now, `waiting` those that wait for it, in order, and `recent` the
    latest ended writes, newest first.
    """

    type: str
    key: str
    state: dict[str, Any]
    updated_at: datetime | None
    writes: int
    holder: str | None
    waiting: list[str]
    recent: list[str]


class EntityCaller(Generic[R]):
    """An entity to call: `client.entity("Counter", "c-1").add(5)` gives the method's result."""

    def __init__(self, name: str, invoke: Callable[[str, tuple[Any, ...], dict[str, Any]], R]) -> None:
        self._name = name
        self._invoke = invoke

    def __getattr__(self, method: str) -> Callable[..., R]:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> R:
            return self._invoke(method, args, kwargs)

        return call

    def __repr__(self) -> str:
        return f"<entity {self._name}>"


def caller(
    client: AsyncClient, entity_type: Any, key: str, timeout: float | timedelta | None
) -> EntityCaller[Awaitable[Any]]:
    """An entity to call with `client`."""
    sort = type_name(entity_type)
    name = entity_name(sort, key)

    async def invoke(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        handler = f"{sort}.{method}"
        run = await client.start(handler, await client.catalog.arguments(handler, args, kwargs), key=key)
        return await run.result(timeout)

    return EntityCaller(name, invoke)


async def read(store: Store, name: str) -> EntityState | None:
    """One entity; None where it has no state and nobody calls it. Raises `SealedPayloadError`."""
    return (await read_many(store, [name], store.sealer.open_state))[0]


async def read_many(
    store: Store, names: list[str], opened: Callable[[bytes, str, str], bytes]
) -> list[EntityState | None]:
    """Many in one write. `opened` opens values of their state."""
    call, shards = store.link.call, store.shards
    pending = [
        (
            name,
            call("HGETALL", keys.entity(name, shards)),
            call("HGETALL", keys.lock(name, shards)),
            call("LRANGE", keys.line(name, shards), 0, -1),
            call("LRANGE", keys.recent(name, shards), 0, RECENT - 1),
        )
        for name in names
    ]
    return [
        _state(opened, name, await state, await lock, await line, await recent)
        for name, state, lock, line, recent in pending
    ]


def _state(
    opened: Callable[[bytes, str, str], bytes],
    name: str,
    flat: list[bytes],
    lock: list[bytes],
    line: list[bytes],
    recent: list[bytes],
) -> EntityState | None:
    if not flat and not lock:
        return None
    stored = {key.decode(): value for key, value in pairs(flat)}
    state = {key: codec.loads(opened(value, name, key)) for key, value in stored.items()}
    facts = {key.decode(): value.decode() for key, value in pairs(lock)}
    sort, _, key = name.partition("/")
    return EntityState(
        type=sort,
        key=key,
        state=dict(sorted(state.items())),
        updated_at=at_ms(int(facts["updated"])) if "updated" in facts else None,
        writes=int(facts.get("writes", "0")),
        holder=facts.get("run") or None,
        waiting=[one.decode() for one in line],
        recent=[one.decode() for one in recent],
    )


async def newest(store: Store, entity_type: str | None, limit: int) -> list[EntityState]:
    """Entities by their latest change."""
    if limit < 1:
        raise InvalidInputError(f"limit: a whole number from 1 is needed, found {limit!r}")
    shards = range(store.shards)
    if entity_type is None:
        found = await asyncio.gather(*(store.link.call("SMEMBERS", keys.entity_types(shard)) for shard in shards))
        sorts = sorted({sort.decode() for sorts in found for sort in sorts})
    else:
        sorts = [entity_type]
    pages = await asyncio.gather(
        *(
            store.link.call("ZREVRANGE", keys.entities(shard, sort), 0, limit - 1, "WITHSCORES")
            for shard in shards
            for sort in sorts
        )
    )
    ranked = sorted(
        ((float(score), name.decode()) for page in pages for name, score in pairs(page)),
        reverse=True,
    )
    states = await read_many(store, [name for _, name in ranked[:limit]], store.sealer.shown_state)
    return [state for state in states if state is not None]


async def one(store: Store, entity_type: Any, key: str) -> EntityState:
    """One entity. Raises `EntityNotFoundError`."""
    name = entity_name(type_name(entity_type), key)
    if (state := await read(store, name)) is None:
        raise EntityNotFoundError(f"entity {name}: it has no state, and no call of it is open")
    return state

"""What a call of an entity finds when it begins."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from agnt5.contracts.ids import entity_of
from agnt5.store import keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An entity as a call finds it: a JSON value a state key, and the run that holds its lock.

    Values are as they are stored, maybe sealed; `opened`: they come from the call before, which has stored them.
    """

    state: dict[str, bytes]
    holder: str
    opened: bool = False


def look_at_entity(store: Store, run_id: str) -> Awaitable[Snapshot]:
    """The entity that a run is a call of. The reads are on the wire when this returns."""
    entity = entity_of(run_id)
    assert entity is not None
    state = store.link.call("HGETALL", keys.entity(entity, store.shards))
    holder = store.link.call("HGET", keys.lock(entity, store.shards), "run")
    return _snapshot(state, holder)


async def _snapshot(state: Awaitable[list[bytes]], holder: Awaitable[bytes | None]) -> Snapshot:
    flat = await state
    return Snapshot({key.decode(): value for key, value in pairs(flat)}, (await holder or b"").decode())

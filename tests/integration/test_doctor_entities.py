"""The doctor on entities: silent on a sound store, and told by each way in which a lock or a call can be unsound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support import runs

from agnt5.client.doctor import examine, repair
from agnt5.contracts.ids import call_id
from agnt5.runtime.dispatch import RedisDispatcher
from agnt5.store import keys
from agnt5.store.replies import NewCall
from agnt5.store.store import Batch, Store

NAME, IDLE = "Counter/busy", "Counter/idle"
HANDLER, QUEUE = "Counter.add", "agnt5.Counter"


async def call(store: Store, entity: str, operation: str, mode: str = "write", caller: str = "") -> str:
    body = runs.body("RunStarted", handler=HANDLER)
    await store.call(NewCall(call_id(entity, operation), HANDLER, mode, QUEUE, 5, body, caller=caller))
    return call_id(entity, operation)


async def own(store: Store, run_id: str) -> Any:
    return await runs.claim(store, run_id, kind="entity")


async def everything(store: Store) -> None:
    """An entity that is held, with a line; one that rests; a caller that waits for each of them."""
    held = await own(store, await call(store, NAME, "a"))
    await store.retry(held, attempt=0, error=b"{}", delay_ms=60_000)
    for operation in "bc":
        await call(store, NAME, operation, caller="waits-for-b" if operation == "b" else "")
    done = await own(store, await call(store, IDLE, "x", caller="waits-for-x"))
    await store.commit(done, "completed", b"1", sets={"n": b"1"}, deletes=[])
    await own(store, await call(store, IDLE, "r", "read"))
    for run_id, target in (("waits-for-b", call_id(NAME, "b")), ("waits-for-x", call_id(IDLE, "x"))):
        task = runs.body("TaskScheduled", seq=1, handler=HANDLER, id=target)
        await runs.parked(store, run_id, Batch(bodies=[task]))


async def errors(store: Store) -> list[str]:
    return [found.found for found in await examine(store, processes=False)]


async def mended(store: Store) -> int:
    return await repair(store, RedisDispatcher(store.link), await examine(store, processes=False))


def do(*command: Any) -> Callable[[Store], Awaitable[Any]]:
    return lambda store: store.link.call(*command)


LOCK, LINE = keys.lock(NAME, 16), keys.line(NAME, 16)
ANSWERS = keys.answers(int(LOCK.partition("{s")[2].partition("}")[0]))

FAULTS: dict[str, tuple[Callable[[Store], Awaitable[Any]], str]] = {
    "a lock of a run that is gone": (do("HSET", LOCK, "run", "Counter/busy~@ghost"), "does not hold it"),
    "a lock of a run that waits": (do("HSET", LOCK, "run", call_id(NAME, "b")), "does not hold it"),
    "a line before a free lock": (do("HSET", LOCK, "run", ""), "which nobody holds"),
    "a call that fell out of the line": (do("LREM", LINE, 0, call_id(NAME, "c")), "is not in its line"),
    "a stranger in the line": (do("RPUSH", LINE, call_id(NAME, "ghost")), "which does not wait"),
    "a caller of a call that was never made": (
        do("DEL", keys.run(call_id(IDLE, "x"), 16), keys.log(call_id(IDLE, "x"), 16)), "does not exist",
    ),
    "a caller that will not be told": (
        lambda store: store.link.call("DEL", keys.answers(store.shard(IDLE))), "will not be told",
    ),
    "an answer of no run": (
        lambda store: store.link.call("ZADD", keys.answers(store.shard(NAME)), 1, call_id(NAME, "ghost")),
        "no such run",
    ),
    "an answer of a call that has not ended": (
        lambda store: store.link.call("ZADD", keys.answers(store.shard(NAME)), 1, call_id(NAME, "b")), "waiting",
    ),
    "an entity that is not listed": (
        lambda store: store.link.call("DEL", keys.entities(store.shard(IDLE), "Counter")), "is not listed",
    ),
}  # fmt: skip


async def test_a_sound_store_has_no_errors(store):
    await everything(store)
    assert await errors(store) == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_found_told_and_mended(store, fault):
    corrupt, says = FAULTS[fault]
    await everything(store)
    await corrupt(store)
    found = await errors(store)
    assert any(says in text for text in found), found
    if "not listed" in says:
        return  # its next write puts it right
    for _ in range(2):  # what was hidden behind a fault shows when that is mended
        await mended(store)
    assert await errors(store) == []


async def test_mending_a_sound_store_breaks_nothing(store):
    await everything(store)
    before = await store.link.call("LRANGE", LINE, 0, -1)
    for operation in "abc":
        await store.mend(call_id(NAME, operation))
    await store.mend(call_id(IDLE, "x"))
    assert await store.link.call("LRANGE", LINE, 0, -1) == before
    assert await runs.status(store, call_id(NAME, "b")) == "waiting"
    assert await errors(store) == []

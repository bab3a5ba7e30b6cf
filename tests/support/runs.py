"""Short words for what store tests do with runs."""

from __future__ import annotations

import json
from typing import Any

from agnt5.contracts.errors import StaleEpochError
from agnt5.store import keys
from agnt5.store.replies import Claimed, NewAsk, NewChild, NotClaimed
from agnt5.store.store import Batch, Ownership, Store

HANDLER = "orders.fulfil"
QUEUE = "agnt5.orders"
LOST = b'{"type":"WorkerLostError","message":"lost"}'
LATE = b'{"type":"RunTimeoutError","message":"late"}'


def body(name: str, /, **fields: Any) -> bytes:
    """A journal body as the codec writes it."""
    return json.dumps({"e": name, **fields}, separators=(",", ":")).encode()


def child(run_id: str, seq: int, **options: Any) -> NewChild:
    """A child to create."""
    return NewChild(run_id, seq, HANDLER, QUEUE, 5, body("RunStarted", handler=HANDLER), **options)


def ask(seq: int = 1, **options: Any) -> NewAsk:
    """A question to people."""
    return NewAsk(seq, body("ApprovalRequested", seq=seq, name="deploy"), **options)


def asking(seq: int = 1, **options: Any) -> Batch:
    """An append that asks people."""
    new = ask(seq, **options)
    return Batch(bodies=[new.body], asks=[new])


def decide(store: Store, run_id: str = "r", ref: str = "0.1", **changed: Any) -> Any:
    """A person decides; Ann approves, unless it is said otherwise."""
    given: dict[str, Any] = {"operation": "1", "approver": "ann", "roles": [], "decision": "approved"} | changed
    who = json.dumps({"approver": given["approver"], "decision": given["decision"]}, separators=(",", ":"))
    return store.decide(run_id, ref, who=f",{who[1:-1]}".encode(), more=b',"comment":"c"', **given)


async def create(store: Store, run_id: str, kind: str = "workflow", **options: Any) -> Any:
    """Start a root run."""
    options = {"queue": QUEUE, "priority": 5, "digest": "d", "body": body("RunStarted", handler=HANDLER), **options}
    return await store.create(run_id, handler=HANDLER, kind=kind, **options)


async def claim(store: Store, run_id: str, host: str = "h1", nonce: str = "n", kind: str = "workflow") -> Ownership:
    """Own a queued run."""
    claimed = await store.claim(run_id, host=host, nonce=nonce, kind=kind)
    assert isinstance(claimed, Claimed), claimed
    return Ownership(run_id, host, claimed.epoch)


async def claim_woken(store: Store, run_id: str = "r") -> Ownership:
    """Own a parked run: a signal wakes it."""
    await store.deliver(run_id, operation="wake", body=body("SignalReceived", name="wake"))
    return await claim(store, run_id, nonce="woken")


async def not_claimed(store: Store, run_id: str) -> NotClaimed:
    """Try to own a run that gives itself to nobody."""
    claimed = await store.claim(run_id, host="other", nonce="other", kind="workflow")
    assert isinstance(claimed, NotClaimed), claimed
    return claimed


async def owned(store: Store, run_id: str = "r", kind: str = "workflow", **options: Any) -> Ownership:
    """Start a run and own it."""
    await create(store, run_id, kind, **options)
    return await claim(store, run_id, kind=kind)


async def parked(store: Store, run_id: str = "r", batch: Batch | None = None, kind: str = "workflow") -> None:
    """Start a run that waits without an owner."""
    own = await owned(store, run_id, kind)
    if batch:
        await store.append(own, batch)
    seen = await length(store, run_id)
    assert await store.park(own, seen=seen) == []


async def length(store: Store, run_id: str) -> int:
    """How long a journal is."""
    return int(await store.link.call("LLEN", keys.log(run_id, store.shards)))


async def field(store: Store, run_id: str, name: str) -> str | None:
    """One field of a run's record."""
    value = await store.link.call("HGET", keys.run(run_id, store.shards), name)
    return None if value is None else value.decode()


async def status(store: Store, run_id: str) -> str | None:
    """A run's status."""
    return await field(store, run_id, "status")


async def names(store: Store, run_id: str) -> list[str]:
    """The event names of a journal."""
    return [event["e"] for event in await events(store, run_id)]


async def events(store: Store, run_id: str) -> list[dict[str, Any]]:
    """A journal, parsed."""
    return [json.loads(entry) for entry in await store.entries(run_id, 0)]


async def is_stale(pending: Any) -> bool:
    """Whether a verb is refused because another owner has the run."""
    try:
        await pending
    except StaleEpochError:
        return True
    return False

"""Reads of asks for people: those of one run, and the open ones of all runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from agnt5.sealing import Opened
from agnt5.store import browse, keys
from agnt5.store.store import Store

Place = tuple[str, str]
"""A run's id, and the ask's ref."""


@dataclass(frozen=True, slots=True)
class AskRecord:
    """An ask as the store has it. `request` is the journal entry that asked, `votes` the entries of its votes."""

    run_id: str
    ref: str
    handler: str
    status: str
    by: str
    asked_ms: int
    closed_ms: int | None
    request: bytes
    votes: list[bytes]


async def of_run(store: Store, run_id: str, *, opened: Opened | None = None) -> list[AskRecord]:
    """The asks of a run's current generation, oldest first. `opened` as for `records`."""
    refs = await store.link.call("SMEMBERS", keys.asks(run_id, store.shards))
    found = await records(store, [(run_id, ref.decode()) for ref in refs], opened=opened)
    return sorted(found, key=lambda ask: int(ask.ref.rpartition(".")[2]))


async def records(store: Store, places: Sequence[Place], *, opened: Opened | None = None) -> list[AskRecord]:
    """Many asks in one write; those that are gone are left out.

    `opened` opens sealed entries; by default what cannot be opened is told as text that says so.
    """
    opened = opened or store.sealer.shown
    pending = [
        (
            run_id,
            ref,
            store.link.call("HMGET", keys.ask(run_id, ref, store.shards), *_FIELDS),
            store.link.call("HGET", keys.run(run_id, store.shards), "handler"),
        )
        for run_id, ref in places
    ]
    found = []
    for run_id, ref, fields, handler in pending:
        values, address = await fields, await handler
        if values[0] is not None and address is not None:
            found.append(_record(run_id, ref, address.decode(), values, opened))
    return found


_FIELDS = ("status", "by", "asked", "closed", "request", "votes")


def _record(run_id: str, ref: str, handler: str, values: list[Any], opened: Opened) -> AskRecord:
    status, by, asked, closed, request, votes = values
    return AskRecord(
        run_id=run_id,
        ref=ref,
        handler=handler,
        status=status.decode(),
        by=by.decode(),
        asked_ms=int(asked),
        closed_ms=int(closed) if closed else None,
        request=opened(request, run_id),
        votes=[opened(vote, run_id) for vote in votes.split(b"\n")[:-1]],
    )


async def inbox(store: Store) -> AsyncIterator[AskRecord]:
    """All open asks, oldest first."""
    async for members in browse.merged(store, keys.inbox, newest_first=False):
        places: list[Place] = [(run_id, ref) for run_id, _, ref in (member.rpartition("|") for member in members)]
        for ask in await records(store, places):
            if ask.status == "open":
                yield ask

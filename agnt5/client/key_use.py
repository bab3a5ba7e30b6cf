"""Which keys seal what a store holds, so that an old one can be retired; and entities' state sealed anew."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agnt5 import codec
from agnt5.client.findings import Finding
from agnt5.client.survey import Shard, names, pages
from agnt5.contracts.clock import at_ms
from agnt5.contracts.runs import RunStatus
from agnt5.sealing import in_clear, key_ids
from agnt5.store import keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store

if TYPE_CHECKING:
    from agnt5.client.aio import AsyncClient

CHUNKS = 500
PLAIN = ""
"""Stands for no key: what is stored in clear."""


@dataclass(slots=True)
class KeyUse:
    """What a key has sealed. `key_id` "" is what nothing has sealed; `seals`: it is the one that seals now.

    `known`: this process has it. `open_runs` and `entities` need it to go on, `ended_runs` to be read until their
    retention. A run or entity whose values were sealed with several keys counts for each, and a run that was started
    in clear counts as that, whatever a worker sealed of it. `first_ms` and `last_ms`: when the first and the last of
    these runs was started, `last_run` its id.
    """

    key_id: str
    known: bool = False
    seals: bool = False
    open_runs: int = 0
    ended_runs: int = 0
    entities: int = 0
    first_ms: int = 0
    last_ms: int = 0
    last_run: str = ""

    def started(self, run_id: str, ms: int) -> None:
        """A run was started with an input that this has sealed."""
        self.first_ms = min(self.first_ms or ms, ms)
        if ms >= self.last_ms:
            self.last_ms, self.last_run = ms, run_id


async def key_uses(client: AsyncClient) -> list[KeyUse]:
    """All keys that this process has or that sealed anything, by id. Reads the whole store, in pages."""
    store, _ = await client.opened()
    seals = store.sealer.codec
    uses: dict[str, KeyUse] = defaultdict(lambda: KeyUse(""))
    known = [] if seals is None else [one.partition(":")[0] for one in seals.digests(b"")]
    for key_id in known:
        uses[key_id].known = True
    if seals is not None:
        uses[seals.key_id].seals = True
    for shard in await names(store):
        await _count_runs(store, shard, uses)
        await _count_entities(store, shard, uses)
    for key_id, use in uses.items():
        use.key_id = key_id
    return [uses[key_id] for key_id in sorted(uses)]


def started_in_clear(uses: Iterable[KeyUse]) -> list[Finding]:
    """What a doctor says where a process without keys starts runs beside others that seal."""
    plain = next((use for use in uses if use.key_id == PLAIN), KeyUse(PLAIN))
    began_ms = min((use.first_ms for use in uses if use.key_id and use.first_ms), default=0)
    if not began_ms or plain.last_ms <= began_ms:
        return []
    return [
        Finding(
            code="started-in-clear", severity="warning", about="server",
            found=f"runs are started in clear, although others are sealed: the last was {plain.last_run}, at"
            f" {at_ms(plain.last_ms):%Y-%m-%d %H:%M:%S} UTC",
            remedy="give AGNT5_PAYLOAD_KEYS to all that starts runs: clients, web servers, and the beats of cron"
            " workflows",
        )
    ]  # fmt: skip


def unknown_keys(uses: Iterable[KeyUse]) -> list[Finding]:
    """What a doctor says of keys that this process does not have."""
    return [
        Finding(
            code="payload-key-missing", severity="warning", about="server",
            found=f"{use.open_runs} open runs, {use.entities} entities and {use.ended_runs} ended runs are sealed with"
            f" key {use.key_id!r}, which is not known here",
            remedy="workers park such runs: add it to AGNT5_PAYLOAD_KEYS, behind the first one, and start a worker",
        )
        for use in uses
        if use.key_id and not use.known
    ]  # fmt: skip


async def reseal(client: AsyncClient) -> int:
    """Seal the state of all entities with the key that seals now, where an older one or none did; how many values.

    Calls go on meanwhile: what one of them changes in between stays as it wrote it. Safe to repeat. Raises
    `SealedPayloadError` for what cannot be opened; what was done before it stays done.
    """
    store, _ = await client.opened()
    replaced = 0
    for shard in await names(store):
        for entity in sorted(shard.named("ent:")):
            found = {key.decode(): value for key, value in pairs(await _state(store, entity))}
            stale = {key: value for key, value in found.items() if store.sealer.is_stale(value)}
            if stale:
                replaced += await store.reseal(entity, stale)
    return replaced


def _state(store: Store, entity: str) -> asyncio.Future[list[bytes]]:
    return store.link.call("HGETALL", keys.entity(entity, store.shards))


async def _count_entities(store: Store, shard: Shard, uses: dict[str, KeyUse]) -> None:
    for page in pages(shard.named("ent:")):
        for flat in await asyncio.gather(*(_state(store, entity) for entity in page)):
            for key_id in {one for value in flat[1::2] for one in key_ids(value) or {PLAIN}}:
                uses[key_id].entities += 1


async def _count_runs(store: Store, shard: Shard, uses: dict[str, KeyUse]) -> None:
    for page in pages(shard.named("run:")):
        asked = [store.link.call("HGET", keys.run(run_id, store.shards), "status") for run_id in page]
        for run_id, status in zip(page, await asyncio.gather(*asked), strict=True):
            if status is None:
                continue  # past its retention since its name was read
            ended = RunStatus(status.decode()).ended
            entries = await store.entries(run_id, 0)
            first = entries[0] if entries else b"{}"
            plain = {PLAIN} if in_clear(first) else set()
            for key_id in plain or key_ids(first):
                uses[key_id].started(run_id, int(codec.loads(first)["at"]))
            for key_id in plain | _all_ids(entries) | await _others_of(store, shard, run_id) or {PLAIN}:
                uses[key_id].ended_runs += ended
                uses[key_id].open_runs += not ended


async def _others_of(store: Store, shard: Shard, run_id: str) -> set[str]:
    """The keys that sealed anything of a run beside its journal: log lines, what it asks of people, what it yielded."""
    found = _all_ids(await store.link.call("ZRANGE", keys.logs(run_id, store.shards), 0, -1))
    for ref in await store.link.call("SMEMBERS", keys.asks(run_id, store.shards)):
        found |= _all_ids(await store.link.call("HVALS", keys.ask(run_id, ref.decode(), store.shards)))
    start = "-"
    while f"out:{run_id}" in shard.names:
        page = await store.link.call("XRANGE", keys.out(run_id, store.shards), start, "+", "COUNT", CHUNKS)
        found |= _all_ids(value for _, fields in page for value in fields)
        if len(page) < CHUNKS:
            break
        start = f"({page[-1][0].decode()}"
    return found


def _all_ids(values: Iterable[bytes]) -> set[str]:
    return {key_id for value in values for key_id in key_ids(value)}

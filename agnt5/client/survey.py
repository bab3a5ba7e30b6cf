"""Reads a whole store into memory, in pages, without changing it: what the doctor judges."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from agnt5 import codec
from agnt5.contracts.errors import Agnt5Error, InvalidInputError
from agnt5.store import config, keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store

SCAN_COUNT = 1000
_HEAD = 200
"""Bytes of a journal's last entry that are kept: its name is among them."""
PAGE = 200

_KEY = re.compile(r"agnt5:\{s(\d+)\}:(.*)", re.DOTALL)
_ENDED = frozenset({"completed", "failed", "cancelled"})

T = TypeVar("T")


@dataclass(slots=True)
class Seen:
    """A run as it was read: its record, the keys' time to live in ms (-1: for ever), its journal's length."""

    id: str
    fields: dict[str, str]
    ttl_ms: dict[str, int] = field(default_factory=dict)
    length: int = 0
    last: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.fields.get("status", "")

    @property
    def ended(self) -> bool:
        return self.status in _ENDED

    @property
    def host(self) -> str:
        return self.fields.get("host", "")

    @property
    def parked(self) -> bool:
        """Waits without an owner."""
        return self.status == "waiting" and not self.host

    def number(self, name: str) -> int | None:
        """An integer field, None where it is not set."""
        text = self.fields.get(name)
        return int(float(text)) if text else None


@dataclass(slots=True)
class SeenAsk:
    """An ask as it was read; `due_ms` None: it has no due time."""

    status: str
    due_ms: int | None
    ttl_ms: int


@dataclass(slots=True)
class Shard:
    """One shard: its runs, and its indexes by their own part of the name."""

    number: int
    names: set[str] = field(default_factory=set)
    runs: dict[str, Seen] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    kids: dict[str, dict[str, str]] = field(default_factory=dict)
    locks: dict[str, dict[str, str]] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    asks: dict[str, SeenAsk] = field(default_factory=dict)
    stray_ttl_ms: dict[str, int] = field(default_factory=dict)

    def named(self, start: str) -> Iterator[str]:
        """Names that begin so: their rest."""
        return (name[len(start) :] for name in self.names if name.startswith(start))


@dataclass(slots=True)
class Survey:
    """All shards, and what is known of the processes around them."""

    shards: list[Shard]
    now_ms: int
    hosts_ms: dict[str, int]
    beats: int | None
    server: dict[str, str]
    broken_config: dict[str, str] = field(default_factory=dict)


async def survey(store: Store) -> Survey:
    """Read everything. Runs move meanwhile, so that two readings are needed to be sure of a fault."""
    shards = await names(store)
    for shard in shards:
        await _indexes(store, shard)
        await _runs(store, shard)
        await _asks(store, shard)
        await _journals(store, shard)
        await _strays(store, shard)
    now_ms = await store.now_ms()
    beating = await store.link.call("ZRANGE", keys.hosts(), 0, -1, "WITHSCORES")
    return Survey(
        shards=shards,
        now_ms=now_ms,
        hosts_ms={host: int(score) for host, score in _scored(beating).items()},
        beats=await _beats(store),
        server={**await _info(store, "persistence"), **await _info(store, "memory")},
        broken_config=await _broken_config(store),
    )


async def names(store: Store) -> list[Shard]:
    """The names of all keys, by shard."""
    shards = [Shard(number) for number in range(store.shards)]
    cursor = b"0"
    while True:
        cursor, page = await store.link.call("SCAN", cursor, "MATCH", "agnt5:{s*}:*", "COUNT", SCAN_COUNT)
        for key in page:
            found = _KEY.fullmatch(key.decode())
            if found and int(found[1]) < store.shards:
                shards[int(found[1])].names.add(found[2])
        if cursor == b"0":
            return shards


async def _indexes(store: Store, shard: Shard) -> None:
    prefix = keys.prefix(shard.number)
    sorted_sets = ["timers", "inbox", "open", "ended", "answers"]
    sorted_sets += [name for name in shard.names if name.startswith(("queued:", "ents:"))]
    sets = ["refused", "queues", *(name for name in shard.names if name.startswith(("owned:", "alarms:")))]
    for name in sorted_sets:
        shard.scores[name] = await _zset(store, prefix + name)
    for page in pages(sets):
        replies = await asyncio.gather(*(store.link.call("SMEMBERS", prefix + name) for name in page))
        shard.members |= {name: {one.decode() for one in reply} for name, reply in zip(page, replies, strict=True)}
    for page in pages(list(shard.named("kids:"))):
        replies = await asyncio.gather(*(store.link.call("HGETALL", f"{prefix}kids:{name}") for name in page))
        shard.kids |= {name: _flat(reply) for name, reply in zip(page, replies, strict=True)}
    for page in pages(list(shard.named("lock:"))):
        replies = await asyncio.gather(*(store.link.call("HGETALL", f"{prefix}lock:{name}") for name in page))
        shard.locks |= {name: _flat(reply) for name, reply in zip(page, replies, strict=True)}
    for page in pages(list(shard.named("line:"))):
        replies = await asyncio.gather(*(store.link.call("LRANGE", f"{prefix}line:{name}", 0, -1) for name in page))
        shard.lines |= {name: [one.decode() for one in reply] for name, reply in zip(page, replies, strict=True)}


async def _zset(store: Store, key: str) -> dict[str, float]:
    found: dict[str, float] = {}
    cursor = b"0"
    while True:
        cursor, page = await store.link.call("ZSCAN", key, cursor, "COUNT", SCAN_COUNT)
        found |= _scored(page)
        if cursor == b"0":
            return found


async def _runs(store: Store, shard: Shard) -> None:
    prefix, call = keys.prefix(shard.number), store.link.call
    for page in pages(list(shard.named("run:"))):
        asked: list[tuple[str, list[str], list[asyncio.Future[Any]]]] = []
        for run_id in page:
            log = f"{prefix}log:{run_id}"
            kinds = [kind for kind in ("run", "log", "ops", "asks", "out", "logs") if f"{kind}:{run_id}" in shard.names]
            replies = [call("HGETALL", f"{prefix}run:{run_id}"), call("LLEN", log), call("LINDEX", log, -1)]
            replies += [call("PTTL", f"{prefix}{kind}:{run_id}") for kind in kinds]
            asked.append((run_id, kinds, replies))
        for run_id, kinds, replies in asked:  # all are on the wire: one after the other costs no time
            record, length, last, *ttls = [await reply for reply in replies]
            if record:
                ttl = dict(zip(kinds, ttls, strict=True))
                fields = _slim(_flat(record))
                if "trouble" in fields:
                    fields["trouble"] = store.sealer.shown_text(fields["trouble"], run_id)
                shard.runs[run_id] = Seen(run_id, fields, ttl, length, (last or b"")[:_HEAD])


async def _asks(store: Store, shard: Shard) -> None:
    prefix, call = keys.prefix(shard.number), store.link.call
    for page in pages(list(shard.named("ask:"))):
        asked = [
            (name, call("HMGET", f"{prefix}ask:{name}", "status", "due"), call("PTTL", f"{prefix}ask:{name}"))
            for name in page
        ]
        for name, fields, ttl in asked:
            status, due = await fields
            if status:
                shard.asks[name] = SeenAsk(status.decode(), int(due) if due else None, await ttl)


async def _journals(store: Store, shard: Shard) -> None:
    """Of parked runs only: what they wait for stands nowhere else. As plain data, so that any release's is read."""
    for page in pages([run for run in shard.runs.values() if run.parked]):
        for run, entries in zip(page, await asyncio.gather(*(store.entries(one.id, 0) for one in page)), strict=True):
            run.events = [codec.loads(entry) for entry in entries]


async def _strays(store: Store, shard: Shard) -> None:
    """Keys of runs that have no record."""
    prefix = keys.prefix(shard.number)
    strays = [
        name
        for name in shard.names
        if name.startswith(("log:", "ops:", "kids:", "alarms:", "ask:", "asks:", "out:", "logs:"))
        and name.partition(":")[2].partition("|")[0] not in shard.runs
    ]
    for page in pages(strays):
        replies = await asyncio.gather(*(store.link.call("PTTL", prefix + name) for name in page))
        shard.stray_ttl_ms |= dict(zip(page, replies, strict=True))


async def _broken_config(store: Store) -> dict[str, str]:
    """Keys of config whose rule no host can read, and why."""
    found: dict[str, str] = {}
    try:
        _, texts = await config.rules(store.link)
    except Agnt5Error as error:
        return {"(all)": str(error)}
    for key, text in texts.items():
        try:
            config.read(key, text)
        except InvalidInputError as error:
            found[key] = str(error)
    return found


async def _beats(store: Store) -> int | None:
    """Beats that listen, None where the server does not tell."""
    try:
        reply = await store.link.call("PUBSUB", "NUMSUB", keys.BEAT_CHANNEL)
    except Agnt5Error:
        return None
    return int(reply[1])


async def _info(store: Store, section: str) -> dict[str, str]:
    try:
        text = (await store.link.call("INFO", section)).decode()
    except Agnt5Error:
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def pages(items: Sequence[T] | Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of at most PAGE."""
    rest = iter(items)
    while page := list(islice(rest, PAGE)):
        yield page


def _slim(fields: dict[str, str]) -> dict[str, str]:
    """Of an ended run only what is judged: there may be millions."""
    if fields.get("status") not in _ENDED:
        return fields
    return {name: fields[name] for name in ("status", "ended", "host", "epoch", "parent", "caller") if name in fields}


def _flat(reply: list[Any]) -> dict[str, str]:
    text = [part.decode(errors="replace") for part in reply]
    return dict(pairs(text))


def _scored(reply: list[Any]) -> dict[str, float]:
    return {member.decode(): float(score) for member, score in pairs(reply)}

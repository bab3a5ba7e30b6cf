"""Checks a whole store: every run is owned, queued or waiting for something, and no index points at nothing (R6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import redis
from support.dump import dump

ENDED = {"completed", "failed", "cancelled"}
LAST = {"completed": b'"e":"RunCompleted"', "failed": b'"e":"RunFailed"', "cancelled": b'"e":"RunCancelled"'}


class Shard:
    """One shard's keys, by their own part of the name."""

    def __init__(self, keys: dict[str, tuple[Any, bool]]) -> None:
        self.ttl = {name for name, (_, ttl) in keys.items() if ttl}
        self.keys = {name: value for name, (value, _) in keys.items()}
        self.runs = {
            name[4:]: {key.decode(): value.decode() for key, value in fields.items()}
            for name, fields in self.keys.items()
            if name.startswith("run:")
        }
        self.timers = {member.decode() for member, _ in self.keys.get("timers", [])}
        self.open = {member.decode() for member, _ in self.keys.get("open", [])}

    def members(self, name: str) -> set[str]:
        """A set, sorted set or the fields of a hash, as text."""
        value = self.keys.get(name, ())
        return {(member[0] if isinstance(member, tuple) else member).decode() for member in value}

    def named(self, start: str) -> Iterable[tuple[str, set[str]]]:
        """Keys that start so: their rest, and their members."""
        return [(name[len(start) :], self.members(name)) for name in self.keys if name.startswith(start)]

    def named_hashes(self, start: str) -> Iterable[tuple[str, dict[bytes, bytes]]]:
        """Hashes that start so: their rest, and their fields."""
        return [(name[len(start) :], value) for name, value in self.keys.items() if name.startswith(start)]


def examine(client: redis.Redis, *, hosts: set[str] | None = None) -> list[str]:
    """What is wrong with the store, in sentences. `hosts`: those that live (None: whoever owns something)."""
    return examine_dump(dump(client), hosts=hosts)


def examine_dump(found: dict[str, tuple[Any, bool]], *, hosts: set[str] | None = None) -> list[str]:
    """`examine` for a dump that was taken already."""
    shards: dict[str, dict[str, tuple[Any, bool]]] = {}
    for key, value in found.items():
        if part := re.match(r"agnt5:\{(s\d+)\}:(.*)$", key, re.DOTALL):
            shards.setdefault(part[1], {})[part[2]] = value
    return [wrong for keys in shards.values() for wrong in _examine(Shard(keys), hosts)]


def _examine(shard: Shard, hosts: set[str] | None) -> Iterable[str]:
    for run_id, record in shard.runs.items():
        yield from _ended(shard, run_id, record) if record["status"] in ENDED else _alive(shard, run_id, record, hosts)
    yield from _indexes(shard)


def _ended(shard: Shard, run_id: str, record: dict[str, str]) -> Iterable[str]:
    log = shard.keys.get(f"log:{run_id}") or [b""]
    if LAST[record["status"]] not in log[-1]:
        yield f"{run_id} is {record['status']}, its journal ends with {log[-1]!r}"
    if record.get("host") or record.get("epoch"):
        yield f"{run_id} has ended and an owner"
    asks = [name for name in shard.keys if name.startswith(f"ask:{run_id}|")]
    for name in (
        f"run:{run_id}",
        f"log:{run_id}",
        f"ops:{run_id}",
        f"asks:{run_id}",
        f"out:{run_id}",
        f"logs:{run_id}",
        *asks,
    ):
        if name in shard.keys and name not in shard.ttl:
            yield f"{name} has ended and no TTL"
    for name in (f"kids:{run_id}", f"alarms:{run_id}"):
        if name in shard.keys:
            yield f"{name} outlived its run"
    if run_id in shard.open or any(timer.split("|")[1] == run_id for timer in shard.timers):
        yield f"{run_id} has ended and is open or has a timer"


def _alive(shard: Shard, run_id: str, record: dict[str, str], hosts: set[str] | None) -> Iterable[str]:
    status, host = record["status"], record.get("host", "")
    parent = record.get("parent")
    for name in (f"run:{run_id}", f"log:{run_id}", f"out:{run_id}", f"logs:{run_id}"):
        if name in shard.ttl:
            yield f"{name} will expire under a live run"
    if parent is None and "~@" not in run_id and run_id not in shard.open:
        yield f"{run_id} is open and not listed"
    if parent is not None and (above := shard.runs.get(parent)) is not None:
        reopened = any(b'"RunReopened"' in entry for entry in shard.keys.get(f"log:{parent}", []))  # asks again first
        listens = above["status"] not in ENDED and above["gen"] == record["pgen"] and not reopened
        if listens and run_id not in shard.members(f"kids:{parent}"):
            yield f"{run_id}: its parent {parent} would not hear of its end"
    passed = any(b'"deadline":true' in entry for entry in shard.keys.get(f"log:{run_id}", []))  # its owner is to act
    if "deadline" in record and status == "queued" and f"d|{run_id}" not in shard.timers and not passed:
        yield f"{run_id} has a deadline and no timer for it"
    if host:
        if run_id not in shard.members(f"owned:{host}"):
            yield f"{run_id} would not be reaped with its host {host}"
        if hosts is not None and host not in hosts:
            yield f"{run_id} is owned by {host}, which is dead"
    elif status == "queued":
        if run_id not in shard.members(f"queued:{record['queue']}:{record['priority']}"):
            yield f"{run_id} is queued in no queue"
    elif status == "running":
        yield f"{run_id} runs nowhere"
    elif "retry" in record and f"r|{run_id}" not in shard.timers:
        yield f"{run_id} waits for an attempt that no timer brings"


def _indexes(shard: Shard) -> Iterable[str]:
    for host, members in shard.named("owned:"):
        for run_id in members:
            if shard.runs.get(run_id, {}).get("host") != host:
                yield f"owned:{host} holds {run_id}, which is not its"
    for slot, members in shard.named("queued:"):
        for run_id in members:
            record = shard.runs.get(run_id, {})
            if record.get("status") != "queued" or slot != f"{record['queue']}:{record['priority']}":
                yield f"queued:{slot} holds {run_id}, which is {record.get('status')}"
        if slot not in shard.members("queues"):
            yield f"queues does not name {slot}"
    for parent, members in shard.named("kids:"):
        for kid in members:
            if shard.runs.get(kid, {}).get("status") in ENDED | {None}:
                yield f"{parent} waits for {kid}, which is {shard.runs.get(kid, {}).get('status')}"
    inbox = shard.members("inbox")
    open_asks = {name for name, fields in shard.named_hashes("ask:") if fields[b"status"] == b"open"}
    if inbox != open_asks:
        yield f"the inbox holds {inbox}, and {open_asks} are open"
    for name in open_asks:
        if shard.runs.get(name.partition("|")[0], {}).get("status") in ENDED | {None}:
            yield f"{name} is open, and its run has ended"
    alarms = set().union(*(members for _, members in shard.named("alarms:")))
    if alarms != {timer for timer in shard.timers if timer.startswith(("t|", "a|"))}:
        yield f"alarms {alarms} and timers {shard.timers} differ"

"""Entities in a store that was read: each lock has a live holder, each call in line a place, each caller its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agnt5.client.findings import Finding, Mend
from agnt5.client.survey import Seen, Shard
from agnt5.contracts.ids import entity_of

_MEND = "agnt5 doctor --fix makes the store look at it again"


def calls_of(shards: list[Shard]) -> dict[str, Seen]:
    """All calls of entities, whose callers are in other shards."""
    return {run.id: run for shard in shards for run in shard.runs.values() if entity_of(run.id)}


def check_entities(shard: Shard) -> Iterator[Finding]:
    """What is wrong with a shard's locks, lines and index; first what the calls say, which is mended first."""
    for run in shard.runs.values():
        if not run.ended and (entity := entity_of(run.id)):
            yield from _call(shard, entity, run)
    for name, lock in shard.locks.items():
        holder = lock.get("run", "")
        if holder and not _holds(shard.runs.get(holder)):
            yield _wrong("lock-of-nobody", holder, f"entity {name} is held by {holder}, which does not hold it",
                         f"lock:{name}", holder)  # fmt: skip
        elif not holder and shard.lines.get(name):
            first = shard.lines[name][0]
            yield _wrong("line-without-lock", first, f"call {first} waits for entity {name}, which nobody holds",
                         f"lock:{name}", "")  # fmt: skip
    for name, line in shard.lines.items():
        for call in line:
            one = shard.runs.get(call)
            if one is None or one.status != "waiting" or one.fields.get("lock") != "line":
                yield _wrong("dangling", call, f"the line of entity {name} holds {call}, which does not wait",
                             f"line:{name}", call)  # fmt: skip
    yield from _index(shard)


def check_call(run: Seen, call_id: str, calls: Mapping[str, Seen], answers: Mapping[str, float]) -> Iterator[Finding]:
    """A parked run's call of an entity: it is on its way, or its answer is."""
    call = calls.get(call_id)
    if call is None:
        yield _wrong("call-lost", run.id, f"run {run.id} waits for its call {call_id}, which does not exist")
    elif call.ended and call_id not in answers:
        found = f"run {run.id} waits for its call {call_id}, which is {call.status}, and will not be told"
        yield _wrong("call-untold", call_id, found)


def _holds(run: Seen | None) -> bool:
    return run is not None and not run.ended and run.fields.get("lock") == "held"


def _call(shard: Shard, entity: str, run: Seen) -> Iterator[Finding]:
    place = run.fields.get("lock")
    if place == "line" and run.id not in shard.lines.get(entity, []):
        yield _wrong("not-in-line", run.id, f"call {run.id} waits for the lock of {entity}, and is not in its line")
    if place == "held" and shard.locks.get(entity, {}).get("run") != run.id:
        yield _wrong("lock-lost", run.id, f"call {run.id} has the lock of {entity}, and the lock does not say so")


def _index(shard: Shard) -> Iterator[Finding]:
    listed = {name for key in shard.scores if key.startswith("ents:") for name in shard.scores[key]}
    for name in listed ^ set(shard.named("ent:")):
        what = "is listed and has no state" if name in listed else "has state and is not listed"
        yield Finding(
            code="entity-index", severity="warning", about="index", run=None, found=f"entity {name} {what}",
            remedy="its next write puts it right",
        )  # fmt: skip


def _wrong(code: str, run: str, found: str, entry: str = "", member: str = "") -> Finding:
    return Finding(
        code=code, severity="error", about="index" if entry else "run", run=run, found=found, remedy=_MEND,
        repair=Mend(run, entry, member),
    )  # fmt: skip

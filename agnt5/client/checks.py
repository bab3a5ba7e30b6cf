"""Rule R6 over a store that was read: what is stuck, what index points at nothing, what outlives its run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agnt5.client.entity_checks import check_call, check_entities
from agnt5.client.findings import Expire, Finding, Mend, Reap
from agnt5.client.moments import span
from agnt5.client.runs import lacks_key
from agnt5.client.survey import Seen, SeenAsk, Shard
from agnt5.contracts.ids import entity_of
from agnt5.replay import journal
from agnt5.store import keys

_LAST = {"completed": b'"e":"RunCompleted"', "failed": b'"e":"RunFailed"', "cancelled": b'"e":"RunCancelled"'}
_ABOUT_MS = 2000
"""So near to the end of its retention a run may be gone from one place and not yet from another."""

_KNOWN = frozenset(journal.KINDS)
_ANSWERS = frozenset(
    {
        "TaskCompleted",
        "TaskFailed",
        "TimerFired",
        "StepCompleted",
        "StepFailed",
        "SignalDelivered",
        "SignalRefused",
        "ApprovalDecided",
    }
)

_MEND = "agnt5 doctor --fix makes the store look at it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known beside one shard. `hosts_ms` None: take every host for alive.

    `calls` are the calls of entities in all shards, `answers` those whose callers are still to be told.
    """

    now_ms: int
    hosts_ms: dict[str, int] | None
    liveness_ms: int
    retention_ms: int
    calls: Mapping[str, Seen] = field(default_factory=dict)
    answers: Mapping[str, float] = field(default_factory=dict)


def check_shard(shard: Shard, facts: Facts) -> Iterator[Finding]:
    """Everything that is wrong within a shard."""
    for run in shard.runs.values():
        if run.ended:
            yield from _ended(shard, run)
            yield from _listed_end(shard, run, facts)
        else:
            yield from _alive(shard, run, facts)
            yield from _indexed(shard, run, facts)
    yield from check_entities(shard)
    yield from _ended_asks(shard)
    yield from _dangling(shard, facts)
    yield from _strays(shard)


# ---- runs


def _finding(code: str, run: Seen, found: str) -> Finding:
    return Finding(
        code=code, severity="error", about="run", run=run.id, found=f"run {run.id} {found}", remedy=_MEND,
        repair=Mend(run.id), mark=_mark(run),
    )  # fmt: skip


def _mark(run: Seen) -> tuple[str | int | None, ...]:
    return (run.status, run.fields.get("claims"), run.fields.get("op"), run.fields.get("queued"), run.length)


def _alive(shard: Shard, run: Seen, facts: Facts) -> Iterator[Finding]:
    """Owned by a live host, or queued, or waiting for what will come."""
    if run.length == 0:
        found = f"run {run.id} is {run.status} and has no journal"
        remedy = "restore it from a backup, or cancel it: agnt5 runs cancel"
        yield Finding(
            code="no-journal", severity="error", about="run", run=run.id, found=found, remedy=remedy, mark=_mark(run)
        )
        return
    if run.host:
        yield from _hosted(shard, run, facts)
        return
    slot = f"queued:{run.fields.get('queue')}:{run.fields.get('priority')}"
    match run.status:
        case "queued":
            if run.id not in shard.scores.get(slot, {}):
                yield _finding("queued-nowhere", run, f"is queued, and {slot} does not hold it: no worker will find it")
        case "running":
            yield _finding("running-nowhere", run, "is running, on no host")
        case "waiting":
            yield from _waiting(shard, run, facts)
        case status:
            yield _finding("unknown-status", run, f"has the status {status!r}, which does not exist")


def _hosted(shard: Shard, run: Seen, facts: Facts) -> Iterator[Finding]:
    if run.id not in shard.members.get(f"owned:{run.host}", set()):
        yield _finding("not-owned", run, f"is owned by {run.host}, which does not list it: it would not be taken over")
    if facts.hosts_ms is None:
        return
    beaten_ms = facts.hosts_ms.get(run.host)
    if beaten_ms is None or facts.now_ms - beaten_ms > facts.liveness_ms:
        since = "is not listed" if beaten_ms is None else f"was silent for {span(facts.now_ms - beaten_ms)}"
        yield Finding(
            code="dead-owner", severity="error", about="run", run=run.id,
            mark=(run.fields.get("epoch"),), repair=Reap(run.host),
            found=f"run {run.id} is owned by the worker {run.host}, which {since}",
            remedy="beat queues it again; start one (celery -A ... beat), or agnt5 doctor --fix",
        )  # fmt: skip


def _waiting(shard: Shard, run: Seen, facts: Facts) -> Iterator[Finding]:
    if run.fields.get("lock") == "line":
        return  # `check_entities` looks at what it waits for
    if run.fields.get("retry"):
        if f"r|{run.id}" not in shard.scores["timers"]:
            yield _finding("retry-without-timer", run, "waits for its next attempt, and no timer will bring it")
    elif trouble := run.fields.get("trouble"):
        if run.id not in shard.members["refused"]:
            yield _finding(
                "refused-for-ever", run, "was refused by a worker, and no starting worker would try it again"
            )
        sealed = lacks_key(trouble)
        yield Finding(
            code="refused", severity="warning", about="run", run=run.id,
            found=f"run {run.id} waits for {'a worker with its key' if sealed else 'code that fits it'}: {trouble}",
            remedy="start a worker that has the key" if sealed
            else "deploy code that fits its journal (gate a change with ctx.patched), or agnt5 runs cancel",
        )  # fmt: skip
    elif run.length > (run.number("seen") or 0):
        yield _finding(
            "unread-events", run, f"waits with {run.length - (run.number('seen') or 0)} events that nobody has read"
        )
    else:
        yield from _expecting(shard, run, facts)


def _expecting(shard: Shard, run: Seen, facts: Facts) -> Iterator[Finding]:
    """A parked run: each child that it waits for is on its way, and anything at all will come."""
    coming = any(timer in shard.scores["timers"] for timer in shard.members.get(f"alarms:{run.id}", set()))
    answered = {event["seq"] for event in run.events if event["e"] in _ANSWERS}
    awaited: Counter[str] = Counter()
    for event in run.events:
        match event["e"]:
            case "TaskScheduled" if event["seq"] not in answered:
                coming = True
                if entity_of(event["id"]):
                    yield from check_call(run, event["id"], facts.calls, facts.answers)
                else:
                    yield from _child(shard, run, event["id"])
            case "ApprovalRequested" if event["seq"] not in answered:
                place = f"{run.id}|{run.number('gen') or 0}.{event['seq']}"
                coming = coming or (place in shard.asks and shard.asks[place].status == "open")
                yield from _ask(shard, run, event["name"], place)
            case "SignalAwaited":
                awaited[event["name"]] += 1
            case "SignalReceived":
                awaited[event["name"]] -= 1
            case name if name not in _KNOWN and event.get("seq") not in {None, *answered}:
                coming = True  # another release's command: not ours to judge
    if not coming and not any(count > 0 for count in awaited.values()):
        yield _finding("nothing-comes", run, "waits, and nothing that would wake it is on its way")


def _child(shard: Shard, run: Seen, child_id: str) -> Iterator[Finding]:
    child = shard.runs.get(child_id)
    if child is None:
        yield _finding("child-lost", run, f"waits for its child {child_id}, which does not exist")
    elif child.ended:
        yield _finding(
            "child-untold", run, f"waits for its child {child_id}, which is {child.status}, and was not told"
        )
    elif child_id not in shard.kids.get(run.id, {}):
        yield _finding("child-unheard", run, f"would not hear of the end of its child {child_id}")


def _ask(shard: Shard, run: Seen, name: str, place: str) -> Iterator[Finding]:
    """An approval that a parked run waits for, or has taken back."""
    ask = shard.asks.get(place)
    if ask is None:
        yield _finding("approval-lost", run, f"waits for approval {name!r}, whose record is gone: nobody can decide it")
    elif ask.status == "open" and place not in shard.scores["inbox"]:
        yield _finding("approval-unlisted", run, f"waits for approval {name!r}, which the inbox does not show")
    elif ask.status == "open" and ask.due_ms is not None and f"a|{place}" not in shard.scores["timers"]:
        yield _finding("approval-without-timer", run, f"waits for approval {name!r}, which would never time out")
    elif ask.status not in {"open", "withdrawn"}:
        yield _finding("approval-untold", run, f"waits for approval {name!r}, which is {ask.status}, and was not told")


def _indexed(shard: Shard, run: Seen, facts: Facts) -> Iterator[Finding]:
    """What else must be true of a run that has not ended."""
    if _is_root(run) and run.id not in shard.scores["open"]:
        yield _finding("open-unlisted", run, "has not ended, and the list of open runs lacks it")
    for kind in ("run", "log", "out", "logs"):
        if run.ttl_ms.get(kind, -1) >= 0:
            yield _finding("live-expires", run, f"has not ended, and its key {kind}:{run.id} will expire")
    deadline = run.number("deadline")
    if deadline is not None and deadline > facts.now_ms and f"d|{run.id}" not in shard.scores["timers"]:
        yield _finding("deadline-without-timer", run, "has a run timeout, and no timer for it")


def _ended(shard: Shard, run: Seen) -> Iterator[Finding]:
    if _LAST[run.status] not in run.last and run.length:
        found = f"run {run.id} is {run.status}, and its journal ends otherwise"
        yield Finding(
            code="wrong-end",
            severity="error",
            about="run",
            run=run.id,
            found=found,
            remedy="report it, with the journal",
        )
    if run.host or run.fields.get("epoch"):
        yield _finding("ended-owned", run, f"is {run.status}, and {run.host or 'somebody'} owns it")
    for kind, ttl_ms in run.ttl_ms.items():
        if ttl_ms == -1:
            yield _finding("ended-kept", run, f"is {run.status}, and its key {kind}:{run.id} would stay for ever")
    for kind in ("kids", "alarms"):
        if f"{kind}:{run.id}" in shard.names:
            yield _finding("ended-leftover", run, f"is {run.status}, and its key {kind}:{run.id} is still there")


def _ended_asks(shard: Shard) -> Iterator[Finding]:
    for place, ask in shard.asks.items():
        run = shard.runs.get(place.partition("|")[0])
        if run is not None and run.ended and (ask.ttl_ms == -1 or ask.status == "open"):
            found = f"is {run.status}, and its approval ask:{place} is {ask.status}, and would stay so"
            yield _finding("ended-asking", run, found)


def _listed_end(shard: Shard, run: Seen, facts: Facts) -> Iterator[Finding]:
    ended_ms = run.number("ended") or 0
    trimmed = facts.now_ms - ended_ms > facts.retention_ms - _ABOUT_MS
    if _is_root(run) and run.id not in shard.scores["ended"] and not trimmed:
        yield _finding("ended-unlisted", run, f"is {run.status}, and the list of ended runs lacks it")


def _is_root(run: Seen) -> bool:
    return "parent" not in run.fields and entity_of(run.id) is None


# ---- indexes


def _dangling(shard: Shard, facts: Facts) -> Iterator[Finding]:
    """Entries of indexes that point at no run, or at one that does not agree."""
    for name, run_id, member in _entries(shard):
        run = shard.runs.get(run_id)
        if (why := _disagrees(shard, name, member, run)) is None:
            continue
        if (
            name == "ended"
            and run is None
            and facts.now_ms - shard.scores["ended"][member] > facts.retention_ms - _ABOUT_MS
        ):
            continue  # past retention: beat strikes it off within a minute
        yield Finding(
            code="dangling", severity="warning" if name == "ended" else "error", about="index", run=run_id,
            found=f"{keys.prefix(shard.number)}{name} holds {member}, {why}",
            remedy="agnt5 doctor --fix strikes it off",
            repair=Mend(run_id, name, member), mark=() if run is None else _mark(run),
        )  # fmt: skip


def _entries(shard: Shard) -> Iterator[tuple[str, str, str]]:
    """Index, run id, and the member that stands for the run there."""
    for name, scores in shard.scores.items():
        if name.startswith("ents:"):
            continue
        for member in scores:
            yield name, member.split("|")[name == "timers"], member
    for name, members in shard.members.items():
        if name.startswith("owned:") or name == "refused":
            yield from ((name, member, member) for member in members)
    for parent, kids in shard.kids.items():
        yield from ((f"kids:{parent}", kid, kid) for kid in kids)


def _disagrees(shard: Shard, name: str, member: str, run: Seen | None) -> str | None:
    """Why an entry is wrong, or None."""
    if run is None:
        return "and there is no such run"
    sort, _, rest = name.partition(":")
    status = f"which is {run.status}"
    match sort:
        case "owned":
            return None if run.host == rest else f"which {run.host or 'nobody'} owns"
        case "queued":
            slot = f"{run.fields.get('queue')}:{run.fields.get('priority')}"
            return None if run.status == "queued" and slot == rest else status
        case "ended" | "answers":
            return None if run.ended else status
        case "timers":
            wrong = run.ended or (member.startswith("r|") and not run.fields.get("retry"))
            return status if wrong else None
        case _:
            shut = _not_open(shard.asks.get(member)) if sort == "inbox" else None
            return status if run.ended else shut


def _not_open(ask: SeenAsk | None) -> str | None:
    if ask is None:
        return "which is gone"
    return None if ask.status == "open" else f"which is {ask.status}"


def _strays(shard: Shard) -> Iterator[Finding]:
    for name, ttl_ms in shard.stray_ttl_ms.items():
        if ttl_ms == -1:
            key = keys.prefix(shard.number) + name
            yield Finding(
                code="stray-key", severity="error", about="key", run=name.partition(":")[2], repair=Expire(key),
                found=f"{key} belongs to no run and would stay for ever", remedy="agnt5 doctor --fix lets it expire",
            )  # fmt: skip

"""Rule R3: a call whose reply was lost is sent again, and that changes nothing. A proxy loses replies for real."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import runs
from support.dump import dump
from support.faults import PLACES, CrashError, FaultyLink

from agnt5.contracts.budgets import Scope, ScopedBudget
from agnt5.contracts.ids import shard_of
from agnt5.store import keys
from agnt5.store.link import Link
from agnt5.store.replies import More, NotClaimed
from agnt5.store.store import Batch, Store

SHARD = shard_of("r", 16)
FAR = 9_000_000_000_000
MARKER = b"EVALSHA"


@pytest.fixture
async def far_store(proxy) -> AsyncIterator[Store]:
    """A store behind the proxy."""
    link = Link(proxy.url)
    await link.connect()
    yield Store(link, shards=16, retention_ms=60_000)
    await link.close()


def timeless(found: Any) -> Any:
    """A dump without its times, and without the order of what happened in one ms."""
    if isinstance(found, dict):
        return {timeless(key): timeless(value) for key, value in found.items()}
    if isinstance(found, set):
        return sorted(map(timeless, found))
    if isinstance(found, list | tuple):
        parts = [timeless(part) for part in found]
        return sorted(parts) if parts and isinstance(found[0], tuple) else parts
    return re.sub(r"\b1\d{12}(\.0)?\b", "T", found.decode() if isinstance(found, bytes) else str(found))


async def nothing(store: Store) -> None:
    pass


async def queued(store: Store) -> None:
    await runs.create(store, "r")


async def own(store: Store) -> Any:
    return await runs.owned(store, "r")


async def owned_with_signal(store: Store) -> Any:
    owner = await runs.owned(store, "r")
    await store.deliver("r", operation="0", body=runs.body("SignalReceived", name="s"))
    return owner


async def child_of_parked(store: Store) -> Any:
    parent = await runs.owned(store, "r")
    await store.append(parent, Batch(children=[runs.child("r~1", 1)]))
    await store.park(parent, seen=1)
    return await runs.claim(store, "r~1", kind="function")


async def failed(store: Store) -> None:
    await store.finish(await runs.owned(store, "r"), "failed", b"{}")


async def due(store: Store) -> None:
    await runs.parked(store, "r", Batch(timers=[(1, 1), (2, FAR)]))


async def refused(store: Store) -> None:
    await store.refuse(await runs.owned(store, "r"), seen=1, trouble="t")


async def asking(store: Store) -> Any:
    owner = await runs.owned(store, "r")
    await store.append(owner, runs.asking(roles=["admin"], due_ms=FAR))
    return owner


async def asked_and_parked(store: Store) -> None:
    await store.park(await asking(store), seen=2)


async def asked_of_two(store: Store) -> None:
    owner = await runs.owned(store, "r")
    await store.append(owner, runs.asking(quorum=2))
    await store.park(owner, seen=2)


async def asked_too_long_ago(store: Store) -> None:
    await runs.parked(store, "r", runs.asking(due_ms=1))


async def ended_asking(store: Store) -> None:
    await store.finish(await asking(store), "failed", b"{}")


BUDGET = ScopedBudget(scope=Scope("key", "acme"), requests=2, tokens=100)
OF_TREE = ScopedBudget(scope=Scope("tree", "r"), requests=2)


def reserve(budget: ScopedBudget = BUDGET, *, operation: str = "1", nonce: str = "a", tokens: int = 60) -> Any:
    """A verb: a call of a model holds its estimate."""
    return lambda store, _: store.reserve(budget, operation=operation, nonce=nonce, estimate=(1, tokens, 5))


async def holding(store: Store) -> Any:
    await reserve()(store, None)


async def tree_holding(store: Store) -> Any:
    owner = await own(store)
    await reserve(OF_TREE)(store, None)
    return owner


def decide(**changed: Any) -> Any:
    """A verb: a person decides."""
    return lambda store, _: runs.decide(store, **changed)


BIG = Batch(
    bodies=[runs.body("TaskScheduled", seq=1)], children=[runs.child("r~1", 1)], timers=[(2, FAR)], untimers=[2]
)
SIGNAL = runs.body("SignalReceived", name="s")
CASES: dict[str, tuple[Any, Any]] = {
    "create": (nothing, lambda s, o: runs.create(s, "r")),
    "claim": (queued, lambda s, o: s.claim("r", host="h1", nonce="n", kind="workflow")),
    "append": (own, lambda s, o: s.append(o, BIG, status="waiting")),
    "finish": (child_of_parked, lambda s, o: s.finish(o, "completed", b"1")),
    "finish, cancelled": (own, lambda s, o: s.finish(o, "cancelled", b'"x"')),
    "retry": (own, lambda s, o: s.retry(o, attempt=0, error=b"{}", delay_ms=60_000)),
    "retry at once": (own, lambda s, o: s.retry(o, attempt=0, error=b"{}", delay_ms=0)),
    "park": (own, lambda s, o: s.park(o, seen=1)),
    "park, refused": (owned_with_signal, lambda s, o: s.park(o, seen=1)),
    "hand back": (own, lambda s, o: s.hand_back(o, seen=1)),
    "refuse": (own, lambda s, o: s.refuse(o, seen=1, trouble="t")),
    "wake": (refused, lambda s, o: s.wake("r")),
    "renew": (own, lambda s, o: s.renew(o, seen=1, body=b'{"e":"RunStarted"}', carried=[])),
    "renew, refused": (owned_with_signal, lambda s, o: s.renew(o, seen=1, body=b'{"e":"RunStarted"}', carried=[])),
    "reopen": (failed, lambda s, o: s.reopen("r")),
    "deliver": (own, lambda s, o: s.deliver("r", operation="1", body=SIGNAL)),
    "append, asking": (own, lambda s, o: s.append(o, runs.asking(roles=["a", "b"], due_ms=FAR))),
    "append, withdrawing": (asking, lambda s, o: s.append(o, Batch(unasks=[1]))),
    "finish, asking": (asking, lambda s, o: s.finish(o, "completed", b"1")),
    "renew, asking": (asking, lambda s, o: s.renew(o, seen=2, body=b'{"e":"RunStarted"}', carried=[])),
    "reopen, asking": (ended_asking, lambda s, o: s.reopen("r")),
    "decide": (asked_and_parked, decide(roles=["admin"])),
    "decide, owned": (asking, decide(roles=["admin"])),
    "decide, one of two": (asked_of_two, decide()),
    "decide, refused": (asked_and_parked, decide(roles=["intern"])),
    "decide, too late": (asked_too_long_ago, decide()),
    "fire, asking": (asked_too_long_ago, lambda s, o: s.fire(SHARD, limit=10, timeout_error=runs.LATE)),
    "cancel, queued": (queued, lambda s, o: s.cancel("r", reason=b'"x"', operation="1")),
    "cancel, owned": (own, lambda s, o: s.cancel("r", reason=b'"x"', operation="1")),
    "fire": (due, lambda s, o: s.fire(SHARD, limit=10, timeout_error=runs.LATE)),
    "reap": (own, lambda s, o: s.reap(SHARD, "h1", limit=10, error=runs.LOST)),
    "reserve": (nothing, reserve()),
    "reserve, of a tree": (own, reserve(OF_TREE)),
    "reserve, after a crash": (holding, reserve(nonce="b", tokens=70)),
    "reserve, refused": (holding, reserve(operation="2", nonce="b")),
    "settle": (holding, lambda s, o: s.settle(BUDGET.scope, nonce="a", spent=(1, 50, 4))),
    "reset": (holding, lambda s, o: s.reset(BUDGET.scope)),
    "finish, with a budget": (tree_holding, lambda s, o: s.finish(o, "completed", b"1")),
    "heart": (nothing, lambda s, o: s.heart("h1")),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_call_whose_reply_was_lost_takes_effect_once(store, far_store, proxy, admin, case):
    prepare, verb = CASES[case]
    owner = await prepare(store)
    before = timeless(dump(admin))
    await verb(store, owner)
    wanted = timeless(dump(admin))
    admin.flushall()
    owner = await prepare(store)
    assert timeless(dump(admin)) == before
    proxy.lose_replies_to(MARKER, times=3)
    await verb(far_store, owner)
    assert proxy.lost == 3
    assert timeless(dump(admin)) == wanted


async def test_answers_that_decide_are_the_same_after_a_lost_reply(store, far_store, proxy):
    owner = await owned_with_signal(store)
    proxy.lose_replies_to(MARKER)
    assert await far_store.park(owner, seen=1) == More(2)
    proxy.lose_replies_to(MARKER)
    assert await far_store.park(owner, seen=2) == []
    proxy.lose_replies_to(MARKER)
    assert await far_store.claim("r", host="h", nonce="z", kind="workflow") == NotClaimed("waiting")
    assert proxy.lost == 3


async def test_a_decision_whose_reply_was_lost_is_not_told_that_it_came_too_late(store, far_store, proxy):
    await asked_and_parked(store)
    proxy.lose_replies_to(MARKER)
    refused = await runs.decide(far_store, operation="1", roles=["intern"])
    proxy.lose_replies_to(MARKER, times=2)
    taken = await runs.decide(far_store, operation="2", roles=["admin"])
    proxy.lose_replies_to(MARKER)
    late = await runs.decide(far_store, operation="3", approver="bob", roles=["admin"])
    assert proxy.lost == 4
    assert (refused.word, taken.word, late.word) == ("role", "ok", "closed")
    assert (taken.status, taken.by, late.by) == ("approved", "ann", "ann")
    assert (await runs.names(store, "r"))[2:] == ["DecisionRefused", "ApprovalDecided", "DecisionRefused"]
    # repeated by hand, long after: each has its own answer still, also when the run has ended
    await store.finish(await runs.claim(store, "r"), "completed", b"1")
    assert (await runs.decide(store, operation="2", roles=["admin"])).word == "ok"
    assert (await runs.decide(store, operation="1", roles=["intern"])).word == "role"


async def test_a_budget_gives_the_same_answer_after_a_lost_reply(store, far_store, proxy):
    proxy.lose_replies_to(MARKER, times=2)
    assert (await reserve()(far_store, None)).refusal is None
    proxy.lose_replies_to(MARKER, times=2)
    refusal = (await reserve(operation="2", nonce="b")(far_store, None)).refusal
    assert proxy.lost == 4
    assert (refusal.what, refusal.used, refusal.held) == ("tokens", 0, 60)


async def test_five_hundred_appends_with_a_third_of_the_replies_lost_are_five_hundred_entries(store, far_store, proxy):
    owner = await runs.owned(store, "r")
    seen = 0

    def every_third(data: bytes) -> bool:
        nonlocal seen
        seen += 1
        return MARKER in data and seen % 3 == 0

    proxy.lose_replies_to(every_third, times=1000)
    for n in range(1, 51):
        await far_store.append(owner, Batch(bodies=[runs.body("PatchMarked", seq=n)]))
    for start in range(51, 501, 30):
        batches = [Batch(bodies=[runs.body("PatchMarked", seq=n)]) for n in range(start, start + 30)]
        await asyncio.gather(*(far_store.append(owner, batch) for batch in batches))
    assert proxy.lost > 10
    assert [event["seq"] for event in (await runs.events(store, "r"))[1:]] == list(range(1, 501))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("at", range(1, 7))
async def test_a_run_whose_worker_died_at_any_call_is_brought_to_its_end(store, admin, at, place):
    """The worker dies before, after, or in the middle of its n-th call; beat reaps it; another goes on."""

    async def work(own_store: Store, host: str) -> None:
        claimed = await own_store.claim("r", host=host, nonce=host, kind="workflow")
        if isinstance(claimed, NotClaimed):
            return
        owner = runs.Ownership("r", host, claimed.epoch)
        have = [json.loads(entry)["e"] for entry in claimed.entries]
        if "TaskScheduled" not in have:
            await own_store.append(owner, BIG)
        else:
            await own_store.append(owner, Batch(children=BIG.children))  # rule R4
        kid = await own_store.claim("r~1", host=host, nonce=host, kind="function")
        if not isinstance(kid, NotClaimed):
            await own_store.finish(runs.Ownership("r~1", host, kid.epoch), "completed", b"1")
        await own_store.append(owner, Batch(bodies=[runs.body("PatchMarked", seq=3)]))
        await own_store.finish(owner, "completed", b"1")

    await runs.create(store, "r")
    dying = Store(FaultyLink(store.link, at, place), shards=16, retention_ms=60_000)  # type: ignore[arg-type]
    with pytest.raises(CrashError):
        await work(dying, "h1")
    await store.link.call("PING")  # what had left before the crash has arrived
    await store.reap(SHARD, "h1", limit=10, error=runs.LOST)
    await work(store, "h2")
    names = await runs.names(store, "r")
    assert names[-1] == "RunCompleted"
    assert names.count("TaskCompleted") == names.count("TaskScheduled") == names.count("RunCompleted") == 1
    assert await runs.status(store, "r~1") == "completed"
    assert admin.zcard(keys.ended_runs(SHARD)) == 1

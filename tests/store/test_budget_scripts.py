"""reserve, settle, reset: what is counted is exact, whatever is repeated, lost or late; and it expires in time."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import Any

import pytest
from support import runs
from support.dump import dump
from support.waiting import until

from agnt5.contracts.budgets import Scope, ScopedBudget, Spent
from agnt5.contracts.ids import call_id
from agnt5.store import keys
from agnt5.store.budgets import HOLD_MS
from agnt5.store.link import Link
from agnt5.store.replies import Called, NewCall
from agnt5.store.store import Batch, Store

ACME = Scope("key", "acme")
TREE = Scope("tree", "r")
NONCES = count(1)
LOTS = 10**15


def limit(scope: Scope = ACME, **limits: Any) -> ScopedBudget:
    """A budget; requests are limited unless something is."""
    return ScopedBudget(scope=scope, **(limits or {"requests": 100}))


async def reserve(
    store: Store, budget: ScopedBudget, operation: str = "", *, nonce: str = "", tokens: int = 0, cost: float = 0.0
) -> str | None:
    """Hold an estimate; the nonce, or None where it was refused."""
    nonce = nonce or f"n{next(NONCES)}"
    estimate = Spent(tokens=tokens, cost=cost).amounts()
    answer = await store.reserve(budget, operation=operation or nonce, nonce=nonce, estimate=estimate)
    return None if answer.refusal else nonce


async def settle(store: Store, nonce: str | None, scope: Scope = ACME, **spent: Any) -> bool:
    assert nonce is not None
    return await store.settle(scope, nonce=nonce, spent=Spent(**spent).amounts())


def facts(admin: Any, scope: Scope = ACME) -> dict[str, int]:
    """A budget's counters, without those that are 0 and the time of its latest use."""
    found = admin.hgetall(keys.budget(scope, 16))
    return {name.decode(): int(value) for name, value in found.items() if name != b"at" and int(value)}


def other(scope: Scope, sort: str) -> str:
    """`tries` or `dues` of a scope."""
    return keys.budget(scope, 16).replace("}:budget:", f"}}:{sort}:")


def budget_keys(admin: Any) -> set[str]:
    """The names of all keys of budgets."""
    names = {key.rpartition("}:")[2] for key in dump(admin)}
    return {name for name in names if name.startswith(("budget", "tries", "dues"))}


# ---- limits


@pytest.mark.parametrize(
    ("limits", "granted", "what"),
    [
        ({"requests": 3}, 3, "requests"),
        ({"tokens": 1000}, 2, "tokens"),
        ({"tokens": 800}, 2, "tokens"),
        ({"tokens": 799}, 1, "tokens"),
        ({"cost": 0.5}, 5, "cost"),
        ({"cost": 0.3}, 3, "cost"),
        ({"requests": 9, "tokens": 4000, "cost": 0.4}, 4, "cost"),
        ({"requests": 0}, 0, "requests"),
    ],
)
async def test_a_budget_grants_as_much_as_fits_and_no_more(store, admin, limits, granted, what):
    answers = [
        await store.reserve(limit(**limits), operation=f"{n}", nonce=f"{n}", estimate=(1, 400, 100_000_000))
        for n in range(granted)
    ]
    assert not any(answer.refusal for answer in answers)
    refusal = (await store.reserve(limit(**limits), operation="x", nonce="x", estimate=(1, 400, 100_000_000))).refusal
    assert refusal is not None
    assert (refusal.what, refusal.used, refusal.until_ms) == (what, 0, None)
    assert refusal.held == granted * {"requests": 1, "tokens": 400, "cost": 100_000_000}[what]
    assert facts(admin).get("held_requests", 0) == granted


async def test_money_is_counted_in_whole_nano_dollars(store, admin):
    for cents in (0.1, 0.2):
        await settle(store, await reserve(store, limit(cost=0.3), cost=cents), cost=cents)
    assert facts(admin) == {"requests": 2, "cost": 300_000_000}
    assert await reserve(store, limit(cost=0.3), cost=0.000_000_001) is None
    for _ in range(200):
        await settle(store, await reserve(store, limit(requests=LOTS), cost=0.000_001), cost=0.000_001)
    assert facts(admin)["cost"] == 300_200_000


async def test_counters_stay_exact_near_the_highest_limit(store):
    first = await store.reserve(limit(tokens=LOTS), operation="1", nonce="1", estimate=(1, LOTS - 1, 0))
    second = await store.reserve(limit(tokens=LOTS), operation="2", nonce="2", estimate=(1, 2, 0))
    third = await store.reserve(limit(tokens=LOTS), operation="3", nonce="3", estimate=(1, 1, 0))
    assert [bool(answer.refusal) for answer in (first, second, third)] == [False, True, False]


async def test_what_was_spent_takes_the_place_of_what_was_held(store, admin):
    first = await reserve(store, limit(tokens=1000), tokens=600)
    assert await reserve(store, limit(tokens=1000), tokens=600) is None
    assert await settle(store, first, tokens=100, cost=0.01)
    assert facts(admin) == {"requests": 1, "tokens": 100, "cost": 10_000_000}
    assert await settle(store, await reserve(store, limit(tokens=1000), tokens=600), tokens=5000)
    assert facts(admin) == {"requests": 2, "tokens": 5100, "cost": 10_000_000}
    assert await reserve(store, limit(tokens=1000), tokens=1) is None


async def test_each_caller_is_checked_against_its_own_limits(store, admin):
    for _ in range(5):
        assert await reserve(store, limit(requests=5))
    assert await reserve(store, limit(requests=5)) is None
    assert await reserve(store, limit(tokens=10), tokens=10)
    assert await reserve(store, limit(requests=7), tokens=3)
    assert await reserve(store, limit(requests=6)) is None
    assert facts(admin) == {"held_requests": 7, "held_tokens": 13}


async def test_scopes_count_apart(store, admin):
    for scope in (ACME, Scope("key", "r"), TREE, Scope("key", "acme", 3600), Scope("key", "acme", 60)):
        assert await reserve(store, limit(scope, requests=1))
        assert facts(admin, scope)["held_requests"] == 1


# ---- repeated, crashed, late


async def test_the_same_try_again_is_the_same(store, admin):
    assert await reserve(store, limit(requests=1), "op", nonce="a") == "a"
    assert await reserve(store, limit(requests=1), "op", nonce="a") == "a"
    assert facts(admin) == {"held_requests": 1}
    assert await settle(store, "a", tokens=7)
    assert not await settle(store, "a", tokens=7)
    assert facts(admin) == {"requests": 1, "tokens": 7}


async def test_a_step_that_runs_again_after_a_crash_holds_its_estimate_once(store, admin):
    await reserve(store, limit(tokens=100), "op", tokens=80)
    second = await reserve(store, limit(tokens=100), "op", tokens=90)
    assert second is not None
    assert facts(admin) == {"held_requests": 1, "held_tokens": 90}
    await settle(store, second, tokens=50)
    assert facts(admin) == {"requests": 1, "tokens": 50}


async def test_a_step_whose_answer_was_lost_after_it_was_paid_counts_again(store, admin):
    await settle(store, await reserve(store, limit(), "op"), tokens=50)
    await settle(store, await reserve(store, limit(), "op"), tokens=50)
    assert facts(admin) == {"requests": 2, "tokens": 100}


async def test_a_worker_that_only_seemed_dead_counts_what_it_spent_once(store, admin):
    slow = await reserve(store, limit(), "op", tokens=10)
    second = await reserve(store, limit(), "op", tokens=10)
    assert await settle(store, slow, tokens=11)
    assert not await settle(store, slow, tokens=11)
    assert facts(admin) == {"held_requests": 1, "held_tokens": 10, "requests": 1, "tokens": 11}
    assert await settle(store, second, tokens=12)
    assert facts(admin) == {"requests": 2, "tokens": 23}
    assert admin.hlen(other(ACME, "tries")) == admin.zcard(other(ACME, "dues")) == 0


async def test_a_refused_step_gives_back_what_its_crashed_try_held(store, admin):
    await reserve(store, limit(tokens=100), "op", tokens=60)
    await reserve(store, limit(tokens=100), "other", tokens=40)
    assert await reserve(store, limit(tokens=100), "op", tokens=70) is None
    assert facts(admin) == {"held_requests": 1, "held_tokens": 40}


async def test_what_a_dead_worker_holds_counts_for_an_hour_and_no_longer(store, admin):
    lost = await reserve(store, limit(requests=1))
    due = admin.zscore(other(ACME, "dues"), lost)
    assert due == pytest.approx(await store.now_ms() + HOLD_MS, abs=5000)
    assert await reserve(store, limit(requests=1)) is None
    admin.zadd(other(ACME, "dues"), {lost: 1})
    fresh = await reserve(store, limit(requests=1))
    assert fresh is not None
    assert await settle(store, lost, tokens=9)  # it was alive after all
    await settle(store, fresh)
    assert facts(admin) == {"requests": 2, "tokens": 9}


async def test_a_try_that_was_let_go_is_forgotten_in_the_end(store, admin):
    lost = await reserve(store, limit())
    for _ in range(2):
        admin.zadd(other(ACME, "dues"), {lost: 1})
        await settle(store, await reserve(store, limit()))
    assert not await settle(store, lost)
    assert admin.hlen(other(ACME, "tries")) == admin.zcard(other(ACME, "dues")) == 0


# ---- windows


async def test_each_window_counts_from_zero(store, admin):
    day = Scope("key", "acme", 86_400)
    late = await reserve(store, limit(day, requests=1))
    refusal = (await store.reserve(limit(day, requests=1), operation="2", nonce="2", estimate=(1, 0, 0))).refusal
    assert refusal is not None
    assert refusal.until_ms is not None
    assert refusal.until_ms % 86_400_000 == 0
    assert 0 < admin.pttl(keys.budget(day, 16)) <= 86_400_000
    admin.hincrby(keys.budget(day, 16), "window", -1)  # as if a day had passed
    fresh = await reserve(store, limit(day, requests=1))
    assert fresh is not None
    assert not await settle(store, late, day, tokens=5)  # it began in a window that nobody asks about any more
    assert await settle(store, fresh, day, tokens=6)
    assert {name: facts(admin, day)[name] for name in ("requests", "tokens")} == {"requests": 1, "tokens": 6}


async def test_nothing_of_a_window_stays_behind_it(store, admin):
    second = Scope("key", "acme", 1)
    while await store.now_ms() % 1000 > 700:  # so that all of this is in one window
        await asyncio.sleep(0.01)
    await settle(store, await reserve(store, limit(second)), second)
    await reserve(store, limit(second))
    assert budget_keys(admin) == {"budget:key:acme~1s", "tries:key:acme~1s", "dues:key:acme~1s", "budgets"}
    await until(lambda: not budget_keys(admin))


# ---- how long they are kept


async def test_a_trees_budget_stays_while_its_root_is_open_and_goes_with_it(link, admin):
    store = Store(link, shards=16, retention_ms=80)
    own = await runs.owned(store, "r")
    await settle(store, await reserve(store, limit(TREE)), TREE)
    await reserve(store, limit(TREE))
    await store.append(own, Batch(children=[runs.child("r~1", 1)]))
    await store.finish(await runs.claim(store, "r~1"), "completed", b"1")
    assert [admin.pttl(key) for key in (keys.budget(TREE, 16), other(TREE, "tries"), other(TREE, "dues"))] == [-1] * 3
    await store.finish(own, "failed", b"{}")
    assert 0 < admin.pttl(keys.budget(TREE, 16)) <= 80
    await store.reopen("r")
    assert admin.pttl(keys.budget(TREE, 16)) == admin.pttl(keys.budgets(store.shard("r"))) == -1
    await store.finish(await runs.claim(store, "r"), "completed", b"1")
    # a child that outlives its root still counts, and nothing of it stays either
    await settle(store, await reserve(store, limit(TREE)), TREE)
    assert facts(admin, TREE)["requests"] == 2
    await until(lambda: not budget_keys(admin))


@pytest.mark.parametrize("mode", ["read", "write"])
async def test_the_budget_of_a_call_that_is_itself_a_root_goes_with_it(link, admin, mode):
    store = Store(link, shards=16, retention_ms=80)
    run_id = call_id("Counter/c", "1")
    body = runs.body("RunStarted", handler="Counter.add")
    called = await store.call(NewCall(run_id, "Counter.add", mode, "agnt5.Counter", 5, body, "d"))
    assert isinstance(called, Called)
    own = await runs.claim(store, run_id, kind="entity")
    scope = Scope("tree", run_id)
    await reserve(store, limit(scope))
    assert admin.pttl(keys.budget(scope, 16)) == -1
    if mode == "write":
        await store.commit(own, "completed", b"1", sets={}, deletes=[])
    else:
        await store.finish(own, "completed", b"1")
    assert 0 < admin.pttl(keys.budget(scope, 16)) <= 80
    await until(lambda: not budget_keys(admin))


async def test_a_key_without_a_window_is_kept_until_it_is_reset(store, admin):
    lost = await reserve(store, limit())
    await settle(store, await reserve(store, limit()), tokens=5)
    assert admin.pttl(keys.budget(ACME, 16)) == admin.pttl(keys.budgets(store.shard("acme"))) == -1
    assert await store.reset(ACME)
    assert not await store.reset(ACME)
    assert budget_keys(admin) == set()
    assert not await settle(store, lost)
    assert await reserve(store, limit(requests=1))


async def test_the_list_of_budgets_names_what_there_is(store, admin):
    shard = store.shard("acme")
    day = Scope("key", "acme", 86_400)
    await reserve(store, limit(day))
    assert 0 < admin.pttl(keys.budgets(shard)) <= 86_400_000
    await reserve(store, limit())
    assert admin.pttl(keys.budgets(shard)) == -1
    assert set(admin.zrange(keys.budgets(shard), 0, -1)) == {b"key:acme", b"key:acme~86400s"}
    admin.zadd(keys.budgets(shard), {"key:acme~86400s": 1})  # expired
    await reserve(store, limit())
    assert admin.zrange(keys.budgets(shard), 0, -1) == [b"key:acme"]


# ---- together


async def test_a_hundred_requests_are_a_hundred_for_twenty_clients_at_once(store, redis_url, admin):
    """Each client calls from its own connection; some die between reserve and settle, and do it again."""
    chance, taken = random.Random(7), count()
    budget = limit(requests=100, tokens=LOTS)

    async def client(number: int) -> int:
        link = Link(redis_url)
        await link.connect()
        own, spent = Store(link, shards=16, retention_ms=60_000), 0
        for n in range(12):
            operation = f"{number}.{n}"
            nonce = await reserve(own, budget, operation, tokens=10)
            if nonce is None:
                continue
            if chance.random() < 0.3:
                nonce = await reserve(own, budget, operation, tokens=20)
                if nonce is None:  # what its first try held went to another
                    continue
            next(taken)
            spent += await settle(own, nonce, tokens=7) * 7
        await link.close()
        return spent

    spent = await asyncio.gather(*(client(number) for number in range(20)))
    assert next(taken) == 100
    assert facts(admin) == {"requests": 100, "tokens": 700}
    assert sum(spent) == 700

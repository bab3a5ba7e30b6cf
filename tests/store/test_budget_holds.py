"""The host's part of budgets: several give or none does, also where the caller is gone; refusals say why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest
from support.waiting import until

from agnt5.contracts.budgets import Scope, ScopedBudget, Spent
from agnt5.contracts.errors import BudgetExceededError, NonRetryableError
from agnt5.runtime.effects import HostEffects
from agnt5.store import keys
from agnt5.store.store import Store

ACME = ScopedBudget(scope=Scope("key", "acme"), requests=10)
TREE = ScopedBudget(scope=Scope("tree", "order-17"), tokens=1000)
DAY = ScopedBudget(scope=Scope("key", "acme", 86_400), cost=0.5)


class Process:
    """What the effects need of a host: its store, and a place for tasks."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tasks: list[asyncio.Task[Any]] = []

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.get_running_loop().create_task(coro))
        return self.tasks[-1]


@pytest.fixture
def process(store: Store) -> Process:
    return Process(store)


@pytest.fixture
def effects(process: Process) -> HostEffects:
    return HostEffects(process)  # type: ignore[arg-type]


def counted(admin: Any, budget: ScopedBudget) -> dict[str, int]:
    found = admin.hgetall(keys.budget(budget.scope, 16))
    return {name.decode(): int(value) for name, value in found.items() if name not in {b"at", b"window"} and int(value)}


async def test_without_budgets_nothing_is_asked_of_the_store(effects, store):
    before = store.link.calls
    await effects.settle(await effects.reserve([], "op", Spent(tokens=5)), Spent(tokens=5))
    assert store.link.calls == before


async def test_a_call_counts_in_each_of_its_budgets(effects, admin):
    held = await effects.reserve([TREE, ACME, DAY], "op", Spent(tokens=100, cost=0.1))
    for budget in (TREE, ACME, DAY):
        assert counted(admin, budget) == {"held_requests": 1, "held_tokens": 100, "held_cost": 100_000_000}
    for _ in range(2):  # once, however often it is told
        await effects.settle(held, Spent(requests=2, tokens=80, cost=0.07))
    for budget in (TREE, ACME, DAY):
        assert counted(admin, budget) == {"requests": 2, "tokens": 80, "cost": 70_000_000}


async def test_all_budgets_give_or_none_does(effects, admin):
    await effects.reserve([ACME], "other", Spent(requests=10))
    with pytest.raises(BudgetExceededError) as caught:
        await effects.reserve([TREE, DAY, ACME], "op", Spent(tokens=100, cost=0.1))
    assert caught.value.scope == "key:acme"
    assert counted(admin, TREE) == counted(admin, DAY) == {}
    assert counted(admin, ACME) == {"held_requests": 10}


async def test_a_call_that_was_not_made_gives_all_back(effects, admin):
    await effects.settle(await effects.reserve([TREE, ACME], "op", Spent(tokens=9)), Spent(requests=0))
    assert counted(admin, TREE) == counted(admin, ACME) == {}


async def test_a_refusal_says_what_is_in_the_way_and_what_to_do(effects):
    await effects.settle(await effects.reserve([DAY], "1", Spent(cost=0.3)), Spent(cost=0.3))
    await effects.reserve([DAY], "2", Spent(cost=0.15))
    with pytest.raises(BudgetExceededError) as caught:
        await effects.reserve([DAY], "3", Spent(cost=0.1))
    error = caught.value
    assert isinstance(error, NonRetryableError)
    assert (error.scope, error.what) == ("key:acme~86400s", "cost")
    assert (error.limit, error.used, error.reserved, error.asked) == (0.5, 0.3, 0.15, 0.1)
    assert "limit of cost $0.5, used $0.3, held by calls on their way $0.15, asked for $0.1" in str(error)
    assert "its window ends at 20" in str(error)
    with pytest.raises(
        BudgetExceededError, match=r"tree:order-17.*tokens 1000, used 0, .*asked for 1001; .*reset tree"
    ):
        await effects.reserve([TREE], "4", Spent(tokens=1001))


@pytest.mark.parametrize("ticks", range(8))
async def test_a_caller_that_is_cancelled_meanwhile_holds_nothing(effects, process, admin, ticks):
    calling = asyncio.get_running_loop().create_task(effects.reserve([TREE, ACME, DAY], "op", Spent(tokens=5)))
    for _ in range(ticks):
        await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await until(lambda: all(task.done() for task in process.tasks))
    assert all(counted(admin, budget) == {} for budget in (TREE, ACME, DAY))


async def test_a_caller_that_is_cancelled_as_it_settles_has_settled(effects, process, admin):
    held = await effects.reserve([TREE, ACME], "op", Spent(tokens=5))
    settling = asyncio.get_running_loop().create_task(effects.settle(held, Spent(tokens=4)))
    await asyncio.sleep(0)
    settling.cancel()
    await asyncio.gather(*process.tasks)
    assert counted(admin, TREE) == counted(admin, ACME) == {"requests": 1, "tokens": 4}


async def test_a_model_without_a_price_is_told_of_once(effects, admin, caplog):
    caplog.set_level(logging.WARNING, "agnt5.runtime")
    for n in range(3):
        held = await effects.reserve([DAY, ACME], str(n), Spent(tokens=5, cost=None, model="home/llama"))
        await effects.settle(held, Spent(tokens=5, cost=None, model="home/llama"))
    held = await effects.reserve([ACME], "4", Spent(cost=None, model="home/other"))
    await effects.settle(held, Spent(cost=None, model="home/other"))
    assert [record.message for record in caplog.records] == [
        "model home/llama has no known price: its calls count as 0 in budgets with a limit on cost"
    ]
    assert counted(admin, DAY) == {"requests": 3, "tokens": 15}

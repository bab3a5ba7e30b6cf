"""Budgets as values: which are refused, how they travel, and which apply to a call."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnt5 import Budget, InvalidInputError
from agnt5.client.budgets import scope
from agnt5.client.catalog import Catalog
from agnt5.contracts.budgets import (
    BUDGET_HEADER,
    MOST,
    Scope,
    ScopedBudget,
    Spent,
    applicable,
    budget_header,
    budgets_of,
    scope_of,
)
from agnt5.contracts.errors import ConfigurationError
from agnt5.sdk.port import RunInfo
from agnt5.web.wiring import checked_headers

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "at least one limit"),
        ({"key": "acme"}, "at least one limit"),
        ({"requests": -1}, "requests=-1"),
        ({"requests": 1.5}, r"requests=1\.5"),
        ({"requests": True}, "requests=True"),
        ({"tokens": "many"}, "tokens='many'"),
        ({"tokens": MOST + 1}, "tokens="),
        ({"cost": -0.01}, "cost=-0.01"),
        ({"cost": math.nan}, "cost=nan"),
        ({"cost": math.inf}, "cost=inf"),
        ({"cost": 1_000_001}, "US dollars from 0 to 1000000"),
        ({"cost": "1"}, "cost='1'"),
        ({"requests": 1, "key": "a b"}, "budget key 'a b'"),
        ({"requests": 1, "key": "a~b"}, "budget key"),
        ({"requests": 1, "key": "x" * 201}, "201 characters"),
        ({"requests": 1, "key": None}, "budget key"),
        ({"requests": 1, "per": timedelta(0)}, "whole seconds"),
        ({"requests": 1, "per": timedelta(seconds=-5)}, "whole seconds"),
        ({"requests": 1, "per": timedelta(seconds=1.5)}, "whole seconds"),
        ({"requests": 1, "per": timedelta(days=4000)}, "3660 days"),
        ({"requests": 1, "per": 60}, "per=60"),
    ],
)
def test_a_budget_that_says_nothing_clear_is_refused(fields: dict[str, Any], said: str):
    with pytest.raises(InvalidInputError, match=said):
        Budget(**fields)


budgets = st.builds(
    Budget,
    key=st.sampled_from(["", "acme", "team:a/b"]),
    requests=st.integers(0, MOST),
    tokens=st.none() | st.integers(0, MOST),
    cost=st.none() | st.floats(0, 1_000_000),
    per=st.none() | st.integers(1, 3_660 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
)


@given(st.lists(budgets, max_size=5))
def test_budgets_travel_in_a_header_unchanged(given_budgets: list[Budget]):
    headers = budget_header(given_budgets)
    assert bool(headers) == bool(given_budgets)
    assert budgets_of({"tenant": "x", **headers}) == tuple(given_budgets)


@given(budgets, st.sampled_from(["order-17", "Counter/c~@60s", "cron:shop.nightly:17"]))
def test_a_scope_is_read_as_it_was_written(budget: Budget, root: str):
    of = scope_of(budget, root)
    assert Scope.read(str(of)) == of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("acme", Scope("key", "acme")),
        ("key:acme~60s", Scope("key", "acme", 60)),
        ("team:a", Scope("key", "team:a")),
        ("tree:order-17~86400s", Scope("tree", "order-17", 86_400)),
        ("tree:Counter/c~@9s", Scope("tree", "Counter/c~@9s")),
    ],
)
def test_scopes_as_people_type_them(text: str, found: Scope):
    assert Scope.read(text) == found


@pytest.mark.parametrize("text", ["", "key:", "tree:", "tree:order-17~3", "a b", "key:acme~0s", "tree:C/c~@1~2"])
def test_what_is_no_scope_is_refused(text: str):
    with pytest.raises(InvalidInputError):
        Scope.read(text)


def test_all_budgets_that_apply_to_a_call_are_found_and_the_lowest_limits_count():
    headers = budget_header([Budget(requests=10, cost=2.0), Budget(key="acme", cost=50, per=DAY)])
    given_with_it = [
        Budget(tokens=500, requests=3),
        Budget(key="acme", cost=60, per=DAY),
        Budget(key="acme", requests=1),
    ]
    assert applicable("order-17", headers, given_with_it) == (
        ScopedBudget(scope=Scope("tree", "order-17"), requests=3, tokens=500, cost=2.0),
        ScopedBudget(scope=Scope("key", "acme", 86_400), cost=50),
        ScopedBudget(scope=Scope("key", "acme"), requests=1),
    )
    assert applicable("order-17", {}, Budget(tokens=1)) == (ScopedBudget(scope=Scope("tree", "order-17"), tokens=1),)
    assert applicable("order-17", {}) == applicable("order-17", {}, ()) == ()


def test_what_is_no_budget_is_refused_where_it_is_given():
    with pytest.raises(InvalidInputError, match="found 5"):
        applicable("order-17", {}, [5])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="at most 16"):
        budget_header([Budget(requests=1)] * 17)


@pytest.mark.parametrize("text", ["", "x", "5", "[5]", '[{"limit":1}]', '["a"]'])
def test_a_header_that_lists_no_budgets_is_told(text: str):
    with pytest.raises(InvalidInputError, match=BUDGET_HEADER):
        budgets_of({BUDGET_HEADER: text})


def test_the_tree_of_a_run_is_its_roots_wherever_it_is():
    assert RunInfo(run_id="order-17~3~1", handler="a.b", kind="function").tree == "order-17"
    assert RunInfo(run_id="Counter/c~@op~1", handler="a.b", kind="function").tree == "Counter/c~@op"
    assert RunInfo(run_id="Counter/c~@op", handler="a.b", kind="entity", root="order-17").tree == "order-17"


def test_what_was_spent_becomes_whole_numbers_whatever_a_provider_says():
    assert Spent(tokens=7, cost=0.1 + 0.2).amounts() == (1, 7, 300_000_000)
    assert Spent(requests=3, tokens=-5, cost=None).amounts() == (3, 0, 0)
    assert Spent(tokens=10**30, cost=math.nan).amounts() == (1, MOST, 0)


def test_nobody_sets_the_header_by_hand():
    async def closed() -> Any:
        raise AssertionError

    catalog = Catalog(closed)
    with pytest.raises(InvalidInputError, match="budget=Budget"):
        catalog.request("shop.order", None, headers={"AGNT5-Budget": "[]"})
    with pytest.raises(ConfigurationError, match="agnt5-budget"):
        checked_headers(["X-Tenant", "Agnt5-Budget"])
    assert BUDGET_HEADER in catalog.request("shop.order", None, budget=Budget(requests=1)).headers


def test_a_client_names_one_budget():
    assert scope("acme", "", DAY) == Scope("key", "acme", 86_400)
    assert scope("", "order-17", None) == Scope("tree", "order-17")
    for key, run in (("", ""), ("acme", "order-17")):
        with pytest.raises(InvalidInputError, match="a key or the id of a root run"):
            scope(key, run, None)
    with pytest.raises(InvalidInputError, match="of the root run"):
        scope("", "order-17~1", None)

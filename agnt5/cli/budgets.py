"""`agnt5 budgets`: what calls of language models have spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from agnt5.cli.output import Cell, columns, hint, line, print_json
from agnt5.cli.place import chosen_url
from agnt5.client import AsyncClient, BudgetState, Client
from agnt5.client.budgets import one
from agnt5.client.moments import span
from agnt5.contracts.budgets import Scope


def list_budgets(url: str | None, *, limit: int, json: bool) -> None:
    """`agnt5 budgets list`."""
    with Client(chosen_url(url)) as client:
        found = client.budgets(limit=limit)
    if json:
        for state in found:
            print_json(_data(state), indent=None)
    elif not found:
        line("no budgets")
    else:
        _table(found)


def show_budget(url: str | None, scope: str, *, json: bool) -> None:
    """`agnt5 budgets show`."""
    with Client(chosen_url(url)) as client:
        state = client.call(_one, Scope.read(scope))
    if json:
        print_json(_data(state))
        return
    rows: list[list[str | Cell]] = [
        [("budget", "bold"), state.scope],
        [("requests", "bold"), _count(state.requests, state.reserved_requests)],
        [("tokens", "bold"), _count(state.tokens, state.reserved_tokens)],
        [("cost", "bold"), _cost(state)],
        [("used", "bold"), _ago(state.used_at)],
    ]
    if state.window_ends_at is not None:
        rows.append([("window", "bold"), _ends(state)])
    columns(rows)


def reset_budget(url: str | None, scope: str) -> None:
    """`agnt5 budgets reset`."""
    of = Scope.read(scope)
    with Client(chosen_url(url)) as client:
        was = client.call(_reset, of)
    line(("reset" if was else "nothing to reset", "ok" if was else "note"))
    hint("calls on their way are no longer counted in it" if was else "agnt5 budgets list")


async def _one(client: AsyncClient, scope: Scope) -> BudgetState:
    store, _ = await client.opened()
    return await one(store, scope)


async def _reset(client: AsyncClient, scope: Scope) -> bool:
    store, _ = await client.opened()
    return await store.reset(scope)


def _table(states: Sequence[BudgetState]) -> None:
    titles = ["BUDGET", "REQUESTS", "TOKENS", "COST", "USED", "WINDOW"]
    rows: list[list[str | Cell]] = [[(title, "bold") for title in titles]]
    rows += [
        [
            state.scope,
            _count(state.requests, state.reserved_requests),
            _count(state.tokens, state.reserved_tokens),
            _cost(state),
            _ago(state.used_at),
            _ends(state),
        ]
        for state in states
    ]
    columns(rows)


def _data(state: BudgetState) -> dict[str, object]:
    """As JSON: `per` in seconds."""
    return {**asdict(state), "per": None if state.per is None else state.per.total_seconds()}


def _count(used: int, held: int) -> str:
    return f"{used} (+{held} held)" if held else str(used)


def _cost(state: BudgetState) -> str:
    used = f"${state.cost:.6g}"
    return f"{used} (+${state.reserved_cost:.6g} held)" if state.reserved_cost else used


def _ago(at: datetime | None) -> str:
    return "never" if at is None else f"{_between(at, datetime.now(UTC))} ago"


def _ends(state: BudgetState) -> str:
    return "" if state.window_ends_at is None else f"ends in {_between(datetime.now(UTC), state.window_ends_at)}"


def _between(start: datetime, end: datetime) -> str:
    return span(max(0.0, (end - start).total_seconds() * 1000))

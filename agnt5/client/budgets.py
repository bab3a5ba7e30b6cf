"""Budgets as a client sees them: what was spent of each, and what calls on their way hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agnt5.contracts.budgets import Scope, check_key, dollars, seconds_of, tree_scope
from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import InvalidInputError
from agnt5.store import keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store

PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A budget as it stood when it was read. Limits are not part of it: each call brings its own.

    `scope` names it as the command line does: `key:acme`, `key:acme~86400s`, `tree:order-17`. `key` or `run` is set,
    the other is "". `requests`, `tokens` and `cost` (US dollars) were spent, the `reserved_` ones are held by calls
    on their way. With `per` all of it is of the window that ends at `window_ends_at`.
    """

    scope: str
    key: str
    run: str
    per: timedelta | None
    requests: int
    tokens: int
    cost: float
    reserved_requests: int
    reserved_tokens: int
    reserved_cost: float
    used_at: datetime | None
    window_ends_at: datetime | None


def scope(key: str, run: str, per: timedelta | None) -> Scope:
    """The scope that these arguments mean. Raises `InvalidInputError`."""
    if bool(key) == bool(run):
        raise InvalidInputError(f"budget: a key or the id of a root run is needed, found key={key!r}, run={run!r}")
    return tree_scope(run, seconds_of(per)) if run else Scope("key", check_key(key), seconds_of(per))


async def one(store: Store, of: Scope) -> BudgetState:
    """One budget."""
    return _state(of, _facts(await store.link.call("HGETALL", keys.budget(of, store.shards))))


async def newest(store: Store, limit: int) -> list[BudgetState]:
    """Budgets by their latest use."""
    if limit < 1:
        raise InvalidInputError(f"limit: a whole number from 1 is needed, found {limit!r}")
    found = await asyncio.gather(*(_scopes(store, shard) for shard in range(store.shards)))
    states: list[BudgetState] = []
    names = [name for names in found for name in names]
    for start in range(0, len(names), PAGE):
        states += await _read(store, names[start : start + PAGE])
        states.sort(key=lambda state: (state.used_at is not None and state.used_at.timestamp()) or 0.0, reverse=True)
        del states[limit:]
    return states


async def _scopes(store: Store, shard: int) -> list[Scope]:
    """All of a shard that have not expired."""
    now_ms, found = await store.now_ms(), list[Scope]()
    while True:
        page = await store.link.call(
            "ZRANGEBYSCORE", keys.budgets(shard), f"({now_ms}", "+inf", "LIMIT", len(found), PAGE
        )
        found += [Scope.read(name.decode()) for name in page]
        if len(page) < PAGE:
            return found


async def _read(store: Store, scopes: Sequence[Scope]) -> list[BudgetState]:
    replies = [store.link.call("HGETALL", keys.budget(of, store.shards)) for of in scopes]
    read = [(of, _facts(await reply)) for of, reply in zip(scopes, replies, strict=True)]
    return [_state(of, facts) for of, facts in read if facts]


def _facts(flat: list[bytes]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in pairs(flat)}


def _state(of: Scope, facts: dict[str, int]) -> BudgetState:
    ends = None
    if of.per_s is not None and "window" in facts:
        ends = at_ms((facts["window"] + 1) * of.per_s * 1000)
    return BudgetState(
        scope=str(of),
        key=of.name if of.kind == "key" else "",
        run=of.name if of.kind == "tree" else "",
        per=None if of.per_s is None else timedelta(seconds=of.per_s),
        requests=facts.get("requests", 0),
        tokens=facts.get("tokens", 0),
        cost=dollars(facts.get("cost", 0)),
        reserved_requests=facts.get("held_requests", 0),
        reserved_tokens=facts.get("held_tokens", 0),
        reserved_cost=dollars(facts.get("held_cost", 0)),
        used_at=at_ms(facts["at"]) if "at" in facts else None,
        window_ends_at=ends,
    )

"""Budgets: what calls of language models may spend, as every layer knows them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import CALL, CHILD, ID_LIMIT, check_id

BUDGET_HEADER = "agnt5-budget"
"""The header by which the budgets of a run tree travel. Set by `client.start(budget=...)` only."""

NANOS = 1_000_000_000
"""Money is counted in whole nano-dollars, so that sums do not drift."""

MOST = 10**15
"""The highest limit: requests, tokens, or nano-dollars. Scripts count in doubles, which are exact up to 9 * 10**15."""

MOST_BUDGETS = 16
"""That one start, or one call, may be given."""

LONGEST = timedelta(days=3660)
"""The longest window."""

_PER = re.compile(r"~(\d{1,9})s$")

Sort = Literal["requests", "tokens", "cost"]
SORTS: tuple[Sort, ...] = ("requests", "tokens", "cost")

Amounts = tuple[int, int, int]
"""Requests, tokens and nano-dollars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits on the calls of language models that are counted together; None: no limit.

    `key` names who shares it: everything that gives the same key, whichever run it is in. Without a key it is shared
    by the run tree: the root run and all that descends from it. `per` counts anew in each window of that length
    (windows begin at multiples of it since 1970, UTC); None: for as long as the tree is kept, or for good.
    `cost` is in US dollars.

    Raises `InvalidInputError` for a budget without a limit, a key that is none, or a `per` that is not whole seconds.
    """

    key: str = ""
    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    per: timedelta | None = None

    def __post_init__(self) -> None:
        if self.key != "":
            check_key(self.key)
        _check_count(self.requests, "requests")
        _check_count(self.tokens, "tokens")
        _check_cost(self.cost)
        seconds_of(self.per)
        if self.requests is None and self.tokens is None and self.cost is None:
            raise InvalidInputError("budget: at least one limit is needed: requests, tokens or cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one call took, or will probably take. `cost` is in US dollars; None: the price of `model` is not known."""

    requests: int = 1
    tokens: int = 0
    cost: float | None = 0.0
    model: str = ""

    def amounts(self) -> Amounts:
        """As whole numbers that can be added up. What is unknown counts as 0, what is not possible is left out."""
        return _whole(self.requests), _whole(self.tokens), _whole((self.cost or 0.0) * NANOS)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is counted together: a run tree, by its root's id, or a key; with `per_s` in windows of so many seconds."""

    kind: Literal["tree", "key"]
    name: str
    per_s: int | None = None

    def __str__(self) -> str:
        window = "" if self.per_s is None else f"{CHILD}{self.per_s}s"
        return f"{self.kind}:{self.name}{window}"

    @staticmethod
    def read(text: str) -> Scope:
        """`tree:order-17`, `key:acme`, `key:acme~86400s`; without a kind it is a key. Raises `InvalidInputError`."""
        kind, colon, name = text.partition(":")
        if not colon or kind not in {"tree", "key"}:
            kind, name = "key", text
        per_s = None
        if found := _PER.search(name):
            name, per_s = name[: found.start()], seconds_of(timedelta(seconds=int(found[1])))
        return tree_scope(name, per_s) if kind == "tree" else Scope("key", check_key(name), per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedBudget:
    """The limits of one scope for one call: the lowest of all that were given for it."""

    scope: Scope
    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None

    def limits(self) -> tuple[int | None, int | None, int | None]:
        """In the order of `SORTS`, the cost in nano-dollars."""
        return self.requests, self.tokens, None if self.cost is None else round(self.cost * NANOS)


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a call holds of its budgets until it is settled. `nonce` tells it from earlier tries of its operation."""

    budgets: tuple[ScopedBudget, ...] = ()
    nonce: str = ""


# ---- where budgets come from


def listed(given: Budget | Iterable[Budget] | None) -> tuple[Budget, ...]:
    """One budget, several or none. Raises `InvalidInputError` for anything else, and for too many."""
    if given is None:
        return ()
    found = (given,) if isinstance(given, Budget) else tuple(given)
    for one in found:
        if not isinstance(one, Budget):
            raise InvalidInputError(f"budget: an agnt5.Budget or several are needed, found {one!r}")
    if len(found) > MOST_BUDGETS:
        raise InvalidInputError(f"budget: {len(found)} budgets, at most {MOST_BUDGETS} are allowed")
    return found


def budget_header(given: Budget | Iterable[Budget] | None) -> dict[str, str]:
    """The header that limits a run tree; none where nothing is given."""
    found = [_data(one) for one in listed(given)]
    return {BUDGET_HEADER: json.dumps(found, separators=(",", ":"))} if found else {}


def budgets_of(headers: Mapping[str, str]) -> tuple[Budget, ...]:
    """The budgets of the tree that a run with these headers belongs to. Raises `InvalidInputError`."""
    if (text := headers.get(BUDGET_HEADER)) is None:
        return ()
    try:
        return tuple(_budget(one) for one in json.loads(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"header {BUDGET_HEADER}: {text[:80]!r} lists no budgets ({error})") from None


def refuse_reserved(headers: Iterable[str]) -> None:
    """Raise `InvalidInputError` where somebody sets the header of budgets by hand."""
    if BUDGET_HEADER in headers:
        raise InvalidInputError(
            f"header {BUDGET_HEADER!r} is reserved; limit a run with start(..., budget=Budget(...))"
        )


def applicable(
    root: str, headers: Mapping[str, str], given: Budget | Iterable[Budget] | None = None
) -> tuple[ScopedBudget, ...]:
    """All budgets that a call of a model keeps to: its tree's, from the headers of its run, and those given with it.

    `root` is the id of the tree's root run. Budgets of one scope become one, with the lowest of each limit.
    """
    found: dict[Scope, ScopedBudget] = {}
    for budget in (*budgets_of(headers), *listed(given)):
        scope = scope_of(budget, root)
        before = found.get(scope, ScopedBudget(scope=scope))
        found[scope] = replace(
            before,
            requests=_lower(before.requests, budget.requests),
            tokens=_lower(before.tokens, budget.tokens),
            cost=_lower(before.cost, budget.cost),
        )
    return tuple(found.values())


def scope_of(budget: Budget, root: str) -> Scope:
    """What a budget counts together, in the tree of `root`."""
    per_s = seconds_of(budget.per)
    return Scope("key", budget.key, per_s) if budget.key else tree_scope(root, per_s)


def check_key(key: object) -> str:
    """A key of a budget. Raises `InvalidInputError`."""
    return check_id(key, "budget key")


def tree_scope(root: str, per_s: int | None = None) -> Scope:
    """The scope of a run tree. Raises `InvalidInputError` where `root` is no id of a root run."""
    entity, call, operation = root.partition(CALL)
    if not entity or CHILD in entity or CHILD in operation or (call and not operation) or len(root) > 3 * ID_LIMIT:
        raise InvalidInputError(f"budget of run {root!r}: the id of the root run is needed, not of one of its children")
    return Scope("tree", root, per_s)


def seconds_of(per: timedelta | None) -> int | None:
    """A window in seconds. Raises `InvalidInputError`."""
    if per is None:
        return None
    given: Any = per
    if not isinstance(given, timedelta) or per.microseconds or not timedelta(seconds=1) <= per <= LONGEST:
        raise InvalidInputError(f"budget per={per!r}: a timedelta of whole seconds, from 1 s to 3660 days, is needed")
    return round(per.total_seconds())


def dollars(nanos: int) -> float:
    """Nano-dollars as dollars."""
    return nanos / NANOS


def _check_count(value: Any, what: str) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST):
        raise InvalidInputError(f"budget {what}={value!r}: a whole number from 0 to {MOST} is needed")


def _check_cost(value: Any) -> None:
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not 0 <= value * NANOS <= MOST:
        raise InvalidInputError(f"budget cost={value!r}: US dollars from 0 to {MOST // NANOS} are needed")


def _whole(value: float) -> int:
    return min(MOST, max(0, round(value))) if math.isfinite(value) else 0


def _lower(first: Any, second: Any) -> Any:
    return second if first is None else first if second is None else min(first, second)


def _data(budget: Budget) -> dict[str, Any]:
    fields = {
        "key": budget.key or None, "requests": budget.requests, "tokens": budget.tokens, "cost": budget.cost,
        "per": seconds_of(budget.per),
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value is not None}


def _budget(data: dict[str, Any]) -> Budget:
    per = data.get("per")
    return Budget(**{**data, "per": None if per is None else timedelta(seconds=per)})

"""The scripts of budgets against a plain model: calls that begin, end, crash, come late or twice, in any order.

After every step the counters must be as the model has them: nothing is counted twice, nothing is forgotten.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from support.machines import ScriptMachine, run_machine

from agnt5.contracts.budgets import Amounts, Scope, ScopedBudget
from agnt5.store import keys

EXAMPLES = int(os.environ.get("AGNT5_TEST_EXAMPLES", "15"))
SCOPES = (Scope("key", "acme"), Scope("tree", "nobody"), Scope("key", "acme", 86_400))
NOTHING: Amounts = (0, 0, 0)

amounts = st.tuples(st.integers(0, 2), st.integers(0, 50), st.integers(0, 9))
limits = st.tuples(*(st.none() | st.integers(0, most) for most in (12, 300, 60)))


def total(parts: list[Amounts]) -> list[int]:
    return [sum(column) for column in zip(NOTHING, *parts, strict=True)]


@dataclass
class Try:
    """A call as the model has it."""

    scope: Scope
    operation: str
    nonce: str
    held: Amounts
    settled: bool = False


@dataclass
class Counted:
    """A scope as the model has it."""

    spent: list[Amounts] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)

    def held(self) -> list[int]:
        return total([one.held for one in self.tries if not one.settled])


class BudgetMachine(ScriptMachine):
    def __init__(self) -> None:
        super().__init__()
        self.admin.flushall()
        self.scopes = {scope: Counted() for scope in SCOPES}
        self.made = 0

    @rule(scope=st.sampled_from(SCOPES), operation=st.sampled_from("abcd"), estimate=amounts, limits=limits)
    def reserve(self, scope: Scope, operation: str, estimate: Amounts, limits: tuple[int | None, ...]) -> None:
        self.made += 1
        nonce, counted = f"n{self.made}", self.scopes[scope]
        requests, tokens, nanos = limits
        budget = ScopedBudget(
            scope=scope, requests=requests, tokens=tokens, cost=None if nanos is None else nanos / 1_000_000_000
        )
        answer = self.do(lambda: self.store.reserve(budget, operation=operation, nonce=nonce, estimate=estimate))
        for before in counted.tries:
            if before.operation == operation:
                before.held = NOTHING
        used, held = total(counted.spent), counted.held()
        too_much = [
            limit is not None and one + two + asked > limit
            for limit, one, two, asked in zip(limits, used, held, estimate, strict=True)
        ]
        assert (answer.refusal is not None) == any(too_much)
        if answer.refusal is None:
            counted.tries.append(Try(scope, operation, nonce, estimate))
        else:
            at = too_much.index(True)
            assert (answer.refusal.used, answer.refusal.held) == (used[at], held[at])

    @rule(scope=st.sampled_from(SCOPES), which=st.integers(0, 9), spent=amounts)
    def settle(self, scope: Scope, which: int, spent: Amounts) -> None:
        """Of any try: the latest, one that another took the place of, one that was settled before."""
        counted = self.scopes[scope]
        if counted.tries:
            one = counted.tries[which % len(counted.tries)]
            assert self.do(lambda: self.store.settle(scope, nonce=one.nonce, spent=spent)) is not one.settled
            if not one.settled:
                one.settled = True
                counted.spent.append(spent)

    @rule(scope=st.sampled_from(SCOPES), which=st.integers(0, 9))
    def reserve_again(self, scope: Scope, which: int) -> None:
        """The reply was lost: the very call is made once more."""
        counted = self.scopes[scope]
        if found := [one for one in counted.tries if not one.settled]:
            one = found[which % len(found)]
            again = ScopedBudget(scope=scope, requests=0, tokens=0)
            answer = self.do(
                lambda: self.store.reserve(again, operation=one.operation, nonce=one.nonce, estimate=(9, 9, 9))
            )
            assert answer.refusal is None

    @rule(scope=st.sampled_from(SCOPES))
    def reset(self, scope: Scope) -> None:
        counted = self.scopes[scope]
        known = bool(counted.tries)
        assert self.do(lambda: self.store.reset(scope)) is known
        self.scopes[scope] = Counted()

    @invariant()
    def counters_are_as_the_model_has_them(self) -> None:
        for scope, counted in self.scopes.items():
            flat = self.admin.hgetall(keys.budget(scope, 1))
            found = {name.decode(): int(value) for name, value in flat.items()}
            sorts = ("requests", "tokens", "cost")
            assert [found.get(sort, 0) for sort in sorts] == total(counted.spent)
            assert [found.get(f"held_{sort}", 0) for sort in sorts] == counted.held()


def test_budgets_do_what_the_model_does(server):
    run_machine(BudgetMachine, server, examples=EXAMPLES)

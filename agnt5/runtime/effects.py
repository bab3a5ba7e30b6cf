"""What the host does for handlers beside their journals."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from agnt5.contracts.budgets import SORTS, Amounts, Reserved, ScopedBudget, Spent, dollars
from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import BudgetExceededError
from agnt5.sdk.port import FlagPort, ModelCall
from agnt5.secrets.reader import SecretReader
from agnt5.store.budgets import Refusal

if TYPE_CHECKING:
    from agnt5.runtime.host import Host

NOTHING: Amounts = (0, 0, 0)

logger = logging.getLogger("agnt5.runtime")


class HostEffects:
    """The `HostPort` of contexts."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unpriced: set[str] = set()

    @property
    def flags(self) -> FlagPort:
        """Config values. See `HostPort`."""
        return self._host.flags

    @property
    def secrets(self) -> SecretReader:
        """Reads secrets. See `HostPort`."""
        return self._host.secrets

    async def reserve(self, budgets: Sequence[ScopedBudget], operation: str, estimate: Spent) -> Reserved:
        """Hold an estimate in budgets before it is spent. See `HostPort`."""
        if not budgets:
            return Reserved()
        reserved, amounts = Reserved(tuple(budgets), uuid.uuid4().hex[:16]), estimate.amounts()
        holding = self._host.spawn(self._hold(reserved, operation, amounts))
        try:
            refused = await asyncio.shield(holding)
        except asyncio.CancelledError:
            self._host.spawn(self._take_back(holding, reserved))
            raise
        if refused is not None:
            budget, refusal = refused
            raise _exceeded(budget, refusal, amounts)
        return reserved

    async def settle(self, reserved: Reserved, spent: Spent) -> None:
        """Put what was really spent in the place of the estimate. Goes on where the caller is cancelled meanwhile."""
        if spent.cost is None and any(budget.cost is not None for budget in reserved.budgets):
            self._warn_once(spent.model)
        if reserved.budgets:
            await asyncio.shield(self._host.spawn(self._settle(reserved.budgets, reserved.nonce, spent.amounts())))

    def asks(self, call: ModelCall) -> AbstractContextManager[None]:
        """Around a call of a language model that really happens. See `HostPort`."""
        return self._host.observer.asks(call)

    async def _hold(self, reserved: Reserved, operation: str, estimate: Amounts) -> tuple[ScopedBudget, Refusal] | None:
        """One budget after the other, each in its own shard; those before one that refuses get back what they gave."""
        digest = hashlib.blake2b(operation.encode(), digest_size=8).hexdigest()
        for at, budget in enumerate(reserved.budgets):
            answer = await self._host.store.reserve(budget, operation=digest, nonce=reserved.nonce, estimate=estimate)
            if answer.refusal is not None:
                await self._settle(reserved.budgets[:at], reserved.nonce, NOTHING)
                return budget, answer.refusal
        return None

    async def _take_back(self, holding: asyncio.Task[object], reserved: Reserved) -> None:
        """Nobody waits any more for what is being held."""
        if await holding is None:
            await self._settle(reserved.budgets, reserved.nonce, NOTHING)

    async def _settle(self, budgets: Sequence[ScopedBudget], nonce: str, spent: Amounts) -> None:
        settling = [self._host.store.settle(budget.scope, nonce=nonce, spent=spent) for budget in budgets]
        await asyncio.gather(*settling)

    def _warn_once(self, model: str) -> None:
        if model not in self._unpriced:
            self._unpriced.add(model)
            logger.warning("model %s has no known price: its calls count as 0 in budgets with a limit on cost", model)


def _exceeded(budget: ScopedBudget, refusal: Refusal, estimate: Amounts) -> BudgetExceededError:
    at = SORTS.index(refusal.what)
    limit, asked = budget.limits()[at] or 0, estimate[at]
    if refusal.until_ms is None:
        remedy = f"raise its limit, or begin anew with `agnt5 budgets reset {budget.scope}`"
    else:
        remedy = f"its window ends at {at_ms(refusal.until_ms):%Y-%m-%d %H:%M:%S} UTC: wait for it, or raise the limit"
    money = refusal.what == "cost"
    show, value = (_money, dollars) if money else (str, int)
    return BudgetExceededError(
        f"budget {budget.scope}: a call of a model was not made; limit of {refusal.what} {show(limit)}, used"
        f" {show(refusal.used)}, held by calls on their way {show(refusal.held)}, asked for {show(asked)}; {remedy}",
        scope=str(budget.scope),
        what=refusal.what,
        limit=value(limit),
        used=value(refusal.used),
        reserved=value(refusal.held),
        asked=value(asked),
    )


def _money(nanos: int) -> str:
    return f"${f'{dollars(nanos):.9f}'.rstrip('0').rstrip('.')}"

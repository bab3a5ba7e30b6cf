"""What the host does for handlers beside their journals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agnt5.contracts.budgets import Budget, Spent

if TYPE_CHECKING:
    from agnt5.runtime.host import Host


class HostEffects:
    """The `HostPort` of contexts."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def reserve(self, budgets: Sequence[Budget], operation: str, estimate: Spent) -> None:
        """Take an estimate from budgets before it is spent."""
        if budgets:
            raise NotImplementedError

    async def settle(self, budgets: Sequence[Budget], operation: str, spent: Spent) -> None:
        """Put what was really spent in the place of the estimate."""
        if budgets:
            raise NotImplementedError

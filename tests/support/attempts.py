"""The attempts of one function, in memory: for what stands between handlers and their context."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from agnt5 import codec
from agnt5.sdk.contexts import FunctionContext
from agnt5.sdk.port import RunInfo

T0 = 1_790_000_000_000


class Attempts:
    """Steps over attempts: found again by name, key and occurrence, as JSON. `ran`: what this attempt did itself."""

    replaying = False

    def __init__(self) -> None:
        self.recorded: dict[tuple[str, str, int], bytes] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.ran: list[str] = []

    def ctx(self) -> FunctionContext:
        """The context of the next attempt."""
        self.counts, self.ran = Counter(), []
        return FunctionContext(RunInfo(run_id="r-1", handler="shop.ask", kind="function"), self, None)  # type: ignore[arg-type]

    def waits_for(self, ref: Any) -> None:
        raise AssertionError

    def now_ms(self) -> int:
        return T0

    def step(self, name: str, fn: Any, key: str = "") -> asyncio.Future[Any]:
        """Run it, unless an attempt has."""
        self.counts[name, key] += 1
        place = (name, key, self.counts[name, key])

        async def run() -> Any:
            if place not in self.recorded:
                self.ran.append(name)
                self.recorded[place] = codec.dumps(await fn(), what=name)
            return codec.loads(self.recorded[place])

        return asyncio.ensure_future(run())

"""Steps with a key, for code that stands between handlers and their context."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agnt5.sdk.context import Context
from agnt5.sdk.properties import STEP


def keyed_step(ctx: Context, name: str, key: str, fn: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
    """Run `fn` once as the step `name` of `ctx`'s run, as `ctx.step` does; `key` tells steps of one name apart.

    Functions find a recorded step by name, key and occurrence, so that concurrent calls may come in another order in
    a later attempt. Workflows go by the order of their commands and ignore the key.
    """

    async def run() -> Any:
        token = STEP.set(name)
        try:
            return await fn()
        finally:
            STEP.reset(token)

    return ctx._commands("step").step(name, run, key)  # noqa: SLF001 - `ctx.step` has no key on purpose

"""Steps with a key, for code that stands between handlers and their context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agnt5.sdk.context import Context
from agnt5.sdk.orchestration import start_step


def keyed_step(ctx: Context, name: str, key: str, fn: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    """Run `fn`, an async function, once as the step `name` of `ctx`'s run, as `ctx.step` does.

    `key` tells steps of one name apart: functions find a recorded step by name, key and occurrence, so that concurrent
    calls may come in another order in a later attempt. Workflows go by the order of their commands and ignore it.
    """
    return start_step(ctx._commands("step"), name, fn, (), {}, key=key)  # noqa: SLF001 - `ctx.step` has no key

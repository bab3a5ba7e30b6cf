"""A function's context for one of several tool calls that run side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from agnt5.sdk import mapping
from agnt5.sdk.context import Context
from agnt5.sdk.port import FunctionPort, TaskRef


class ScopedPort:
    """A function's port, under the name of one tool call.

    A function's steps, children and calls are found again by the order of those of one name, and what runs side by
    side may come in another order in a later attempt. Under its own name each tool call finds its own.
    A child that was given a key keeps it: that names one child of the run. Signals go by their order all the same.
    """

    def __init__(self, port: FunctionPort, scope: str) -> None:
        self.scope = scope
        self._port = port
        self._children = 0

    def step(self, name: str, fn: Callable[[], Any], key: str = "") -> asyncio.Future[Any]:
        """As the port's."""
        return self._port.step(name, fn, f"{self.scope}{f'/{key}' if key else ''}")

    def start_task(
        self,
        handler: str,
        input: Any,  # noqa: A002 - one word for one thing
        *,
        key: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> TaskRef:
        """As the port's."""
        if key is None:
            self._children += 1
            key = f"{self.scope}.{self._children}"
        return self._port.start_task(handler, input, key=key, options=options)

    def call_entity(
        self,
        handler: str,
        entity: str,
        input: Any,  # noqa: A002
        *,
        key: str = "",
        options: dict[str, Any] | None = None,
    ) -> TaskRef:
        """As the port's."""
        return self._port.call_entity(handler, entity, input, key=f"{self.scope}{key}", options=options)

    def start_timer(self, due_ms: int, name: str = "") -> asyncio.Future[Any]:
        """As the port's."""
        return self._port.start_timer(due_ms, f"{name}@{self.scope}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


def scope_of(ctx: Context) -> str:
    """The name of the tool call that a context is for, or of the item of a map that runs; empty for a run's own."""
    return mapping.place_in(ctx._place).name  # noqa: SLF001


def scoped(ctx: Context, scope: str) -> Context:
    """The context of the same run under the name of a tool call."""
    port = ScopedPort(cast("FunctionPort", ctx._port), scope)  # noqa: SLF001
    return type(ctx)(ctx._info, cast("FunctionPort", port), ctx._host)  # noqa: SLF001

"""`ctx.tools`: what models may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agnt5.llm.tools import Tool


class Tools:
    """`ctx.tools`. Made by the context."""

    def register(
        self, name: str, handler: Any, description: str | None = None, schema: dict[str, Any] | None = None,
        *, approval: bool = False,
    ) -> Tool:  # fmt: skip
        """Register a tool for this run."""
        raise NotImplementedError

    def handler(self, name: str) -> Callable[..., Awaitable[Any]]:
        """The handler of a registered tool: always awaitable, and checks its arguments."""
        raise NotImplementedError

"""`ctx.llm`: language models, whose answers are recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from pydantic import BaseModel

from agnt5.contracts.budgets import Budget
from agnt5.llm.responses import LLMChunk, LLMResponse
from agnt5.llm.tools import Tool
from agnt5.sdk.port import CommandPort, HostPort, RunInfo

Prompt = Any
"""Text, a `SecretStr`, or a list of messages in OpenAI's form."""


class LLMStream(Awaitable["LLMStream"], AsyncIterator[LLMChunk]):
    """An answer as it comes. `async for chunk in await ctx.llm.stream(...)`; the `await` may be left out."""


class LLM:
    """`ctx.llm`. Made by the context."""

    def __init__(self, info: RunInfo, port: CommandPort, host: HostPort) -> None:
        self._info = info
        self._port = port
        self._host = host

    async def generate(
        self,
        prompt: Prompt,
        model: str | Sequence[str],
        *,
        schema: dict[str, Any] | type[BaseModel] | None = None,
        tools: Sequence[Tool | dict[str, Any]] = (),
        system: str | None = None,
        key: str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        budget: Budget | Sequence[Budget] = (),
        **params: Any,
    ) -> LLMResponse:
        """Ask a model and record its answer."""
        raise NotImplementedError

    def stream(self, prompt: Prompt, model: str | Sequence[str], **options: Any) -> LLMStream:
        """Ask a model and get its answer as it comes."""
        raise NotImplementedError

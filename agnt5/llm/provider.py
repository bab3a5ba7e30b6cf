"""Asks a language model through LiteLLM: retries, fallbacks, answers in our form, errors without secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agnt5.llm.requests import Request
from agnt5.llm.responses import LLMChunk, LLMResponse


async def ask(request: Request) -> LLMResponse:
    """The answer. Raises `LLMError`, `LLMRequestError`."""
    raise NotImplementedError


def stream(request: Request) -> AsyncIterator[LLMChunk]:
    """The answer as it comes; the last chunk has the whole `response`. Raises as `ask` does."""
    raise NotImplementedError

"""Models that answer from a script: for tests, demos and examples without a key or network."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agnt5.llm.requests import Request
from agnt5.llm.responses import LLMChunk, LLMResponse

PREFIX = "scripted/"
"""How the names of scripted models begin."""


async def answer(request: Request, model: str) -> LLMResponse:
    """What the script of `model` says to a request."""
    raise NotImplementedError


def stream(request: Request, model: str) -> AsyncIterator[LLMChunk]:
    """The same, word by word."""
    raise NotImplementedError

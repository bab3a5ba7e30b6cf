"""What a language model is asked: checked, in one form for all providers, and with a digest that identifies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agnt5.llm.tools import Tool

DEFAULT_TIMEOUT_S = 120.0
DEFAULT_RETRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question. `models` are asked in turn until one answers; `messages` are in OpenAI's form.

    `params` go to LiteLLM as they are (temperature, max_tokens, tool_choice, seed, api_base, api_key...).
    Secrets (pydantic's SecretStr) in messages and params are opened by the provider only.
    """

    models: tuple[str, ...]
    messages: list[dict[str, Any]]
    tools: tuple[Tool, ...] = ()
    schema: dict[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = DEFAULT_TIMEOUT_S
    retries: int = DEFAULT_RETRIES

    def digest(self) -> str:
        """A short text that two requests share only if they ask the same; keys and timeouts do not count."""
        raise NotImplementedError

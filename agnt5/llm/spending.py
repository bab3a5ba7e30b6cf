"""What a request will probably take, and what an answer took, in tokens and US dollars."""

from __future__ import annotations

import contextlib
from typing import Any

from agnt5.contracts.budgets import Spent
from agnt5.llm import loading, scripted
from agnt5.llm.messages import characters
from agnt5.llm.requests import Request
from agnt5.llm.responses import LLMResponse, Usage

DEFAULT_ANSWER_TOKENS = 1_024
"""Tokens that an answer without a limit will probably have."""

_CHARACTERS_A_TOKEN = 4
_A_MESSAGE = 4


async def estimate(request: Request) -> Spent:
    """Before a request: its tokens by the length of its text, and the price of the dearest model that may answer."""
    prompt = characters(request.messages) // _CHARACTERS_A_TOKEN + _A_MESSAGE * len(request.messages)
    prompt += characters(request.specs()) // _CHARACTERS_A_TOKEN
    if request.schema is not None:
        prompt += characters(request.schema) // _CHARACTERS_A_TOKEN
    limits = [request.params.get(name) for name in ("max_completion_tokens", "max_tokens")]
    answer = next((limit for limit in limits if isinstance(limit, int) and limit > 0), DEFAULT_ANSWER_TOKENS)
    real = [model for model in request.models if not model.startswith(scripted.PREFIX)]
    cost: float | None = 0.0
    if real:
        litellm, usage = await loading.litellm(), Usage(prompt_tokens=prompt, completion_tokens=answer)
        prices = [price(litellm, model, usage) for model in real]
        cost = None if None in prices else max(one for one in prices if one is not None)
    return Spent(requests=1, tokens=prompt + answer, cost=cost, model=request.models[0])


def spent(response: LLMResponse) -> Spent:
    """What an answer took."""
    return Spent(requests=1, tokens=response.usage.total_tokens, cost=response.cost, model=response.model)


def price(litellm: Any, model: str, usage: Usage) -> float | None:
    """What tokens cost at a model, in US dollars; None where LiteLLM knows no price."""
    with contextlib.suppress(Exception):  # it raises for models without a price, in many ways
        both = litellm.cost_per_token(
            model=model,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cache_read_input_tokens=usage.cached_tokens,
        )
        return float(sum(both))
    return None

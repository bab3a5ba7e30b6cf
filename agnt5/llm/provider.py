"""Asks a language model through LiteLLM: retries, fallbacks, answers in our form, errors without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agnt5.contracts.errors import Agnt5Error, LLMError
from agnt5.llm import loading, scripted, shortcut, spending, structured, thinking
from agnt5.llm.answers import Collected, response_of
from agnt5.llm.failures import UnprocessableError, failure_of, summed
from agnt5.llm.messages import opened
from agnt5.llm.requests import Request
from agnt5.llm.responses import LLMChunk, LLMResponse
from agnt5.llm.retrying import wait_s

_CLOSING_S = 5.0
_LATER_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What is not the same twice: random numbers from 0 to 1, and waiting."""

    number: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep


async def ask(request: Request, chance: Chance = Chance()) -> LLMResponse:
    """The answer. Models are asked in turn, each again after what may pass.

    Raises `LLMError` when none of them answers, `LLMRequestError` when all refuse the request as it is,
    `ConfigurationError` where LiteLLM is not installed.
    """
    turns = _Turns(request, chance)
    while (model := await turns.next()) is not None:
        try:
            return await _answer(request, model)
        except Exception as error:  # noqa: BLE001 - turned into ours, without what it holds of the request
            turns.failed(_failure(error, request, model))
    raise turns.error()


async def stream(request: Request, chance: Chance = Chance()) -> AsyncGenerator[LLMChunk, None]:
    """The answer as it comes; the last chunk has the whole `response`. Raises as `ask` does.

    What fails before the first chunk is tried again, with this model or the next. What fails later is not: somebody
    may have read the beginning.
    """
    turns = _Turns(request, chance)
    while (model := await turns.next()) is not None:
        begun, parts = False, _parts(request, model)
        try:
            async for chunk in parts:
                begun = True
                yield chunk
        except Exception as error:  # noqa: BLE001 - as above
            failure = _failure(error, request, model)
        else:
            return
        finally:
            await parts.aclose()
        if begun:
            raise failure
        turns.failed(failure)
    raise turns.error()


class _Turns:
    """Which model is asked next: the first, again after what may pass, then the one behind it."""

    def __init__(self, request: Request, chance: Chance) -> None:
        self._request = request
        self._chance = chance
        self._models = iter(request.models)
        self._model: str | None = None
        self._tries = 0
        self._failure: LLMError | None = None
        self._failures: list[LLMError] = []

    async def next(self) -> str | None:
        """The model to ask, or None: no other is left. Waits before one is asked again."""
        if self._failure is not None:
            asked = self._request
            wait = wait_s(self._failure, self._tries, asked.retries, self._chance.number(), asked.patience_s)
            if wait is not None:
                await self._chance.sleep(wait)
                self._tries += 1
                return self._model
            self._failures.append(self._failure)
            self._failure = None
        self._model, self._tries = next(self._models, None), 1
        return self._model

    def failed(self, failure: LLMError) -> None:
        """Note what came of asking the model."""
        self._failure = failure

    def error(self) -> LLMError:
        """The error of all models together."""
        return summed(self._failures, self._request.models)


# ---- one try


async def _answer(request: Request, model: str) -> LLMResponse:
    if model.startswith(scripted.PREFIX):
        return await scripted.answer(request, model)
    litellm = await loading.litellm()
    async with asyncio.timeout(request.timeout_s):
        answer = await _call(litellm, _arguments(litellm, request, model))
    response = response_of(answer, request, model, None)
    return _thought(request, response.model_copy(update={"cost": _cost(litellm, answer, response)}))


async def _parts(request: Request, model: str) -> AsyncGenerator[LLMChunk, None]:
    if model.startswith(scripted.PREFIX):
        async for chunk in scripted.stream(request, model):
            yield chunk
        return
    litellm, collected = await loading.litellm(), Collected()
    async with asyncio.timeout(request.timeout_s):
        answer = await _open(litellm, _arguments(litellm, request, model))
    try:
        coming = aiter(answer)
        while True:
            async with asyncio.timeout(request.timeout_s):
                part = await anext(coming, None)
            if part is None:
                break
            if text := collected.add(part):
                yield LLMChunk(text=text)
    finally:
        await _close(answer)
    response = collected.response(request, model, spending.price(litellm, model, collected.usage))
    yield LLMChunk(response=_thought(request, response))


def _thought(request: Request, response: LLMResponse) -> LLMResponse:
    """An answer whose thinking says whose it is."""
    if not response.thinking:
        return response
    owned = thinking.by(provider_of(request, response.model), response.thinking)
    return response.model_copy(update={thinking.FIELD: owned})


# ---- LiteLLM: the two calls of it


async def _call(litellm: Any, arguments: dict[str, Any]) -> Any:
    """One plain call."""
    return _given(await shortcut.call(litellm, arguments))


async def _open(litellm: Any, arguments: dict[str, Any]) -> Any:
    """One streamed call: what it gives is iterated, then closed."""
    return _given(await litellm.acompletion(**arguments, stream=True, stream_options={"include_usage": True}))


def _given(answer: Any) -> Any:
    if answer is None:
        raise UnprocessableError("the provider does not take the request as it is")
    return answer


async def _close(answer: Any) -> None:
    """Close the connection of a stream, whatever state it is in."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_CLOSING_S):
            await answer.aclose()


def _arguments(litellm: Any, request: Request, model: str) -> dict[str, Any]:
    messages = opened(request.messages)
    if any(thinking.FIELD in one for one in messages):
        messages = thinking.given_back(messages, provider_of(request, model))
    arguments = {name: opened(value) for name, value in request.params.items()}
    if request.schema is not None and "response_format" not in arguments:
        mode = structured.mode_of(litellm, model, request.schema)
        if mode != "schema":
            messages = structured.instructed(messages, request.schema)
        if (form := structured.response_format(request.schema, mode)) is not None:
            arguments["response_format"] = form
    if specs := request.specs():
        arguments["tools"] = specs
    # ours comes first, counts the whole answer, and ends the connection
    return {
        **arguments, "model": model, "messages": messages, "timeout": request.timeout_s + _LATER_S, "max_retries": 0,
        "num_retries": 0,
    }  # fmt: skip


def _cost(litellm: Any, answer: Any, response: LLMResponse) -> float | None:
    """What LiteLLM says that an answer cost, with all that a provider counts; else by its tokens."""
    hidden = getattr(answer, "_hidden_params", None)
    cost = hidden.get("response_cost") if isinstance(hidden, dict) else None
    with contextlib.suppress(Exception):  # it raises for models without a price, in many ways
        cost = litellm.completion_cost(completion_response=answer, model=response.model) if cost is None else cost
    return float(cost) if cost is not None else spending.price(litellm, response.model, response.usage)


def _failure(error: Exception, request: Request, model: str) -> LLMError:
    if isinstance(error, Agnt5Error) and not isinstance(error, LLMError):
        raise error  # LiteLLM is missing: no other model would do better
    provider = provider_of(request, model)
    return failure_of(error, model, timeout_s=request.timeout_s, secrets=request.secrets(), provider=provider)


def provider_of(request: Request, model: str) -> str:
    """LiteLLM's name of who answers for a model; "" where it is not known."""
    if model.startswith(scripted.PREFIX):
        return scripted.PREFIX.rstrip("/")
    litellm = loading.loaded()
    with contextlib.suppress(Exception):  # it raises for models that it cannot place
        return str(litellm.get_llm_provider(model, request.params.get("custom_llm_provider"))[1])
    return ""

"""What a language model is asked: checked, in one form for all providers, and with a digest that identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from agnt5.contracts.clock import to_ms
from agnt5.contracts.errors import InvalidInputError
from agnt5.llm.messages import Message, sealed, secrets_in
from agnt5.llm.retrying import LONGEST_WAIT_S
from agnt5.llm.tools import Tool

DEFAULT_TIMEOUT_S = 120.0
DEFAULT_RETRIES = 3

_MOST_RETRIES = 100
_KEY_LIMIT = 200

_INSTEAD = {
    "stream": "use ctx.llm.stream(...)",
    "messages": "give them as prompt",
    "n": "one answer is recorded; ask several times, each with a key= of its own",
    "num_retries": "give retries=",
    "max_retries": "give retries=",
    "request_timeout": "give timeout=",
    "fallbacks": "give a list of models",
}
"""Parameters of LiteLLM that have another name here -> what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question. `models` are asked in turn until one answers; `messages` are in OpenAI's form.

    `params` go to LiteLLM as they are (temperature, max_tokens, tool_choice, seed, api_base, api_key...).
    `builtins` are tools of the provider itself, as it takes them. Secrets (pydantic's SecretStr) in messages and
    params are opened by the provider only. `timeout_s` is for each try; of a stream, until its next part. A provider
    that asks to wait for more than `patience_s` is not asked again.
    """

    models: tuple[str, ...]
    messages: list[Message]
    tools: tuple[Tool, ...] = ()
    builtins: tuple[dict[str, Any], ...] = ()
    schema: dict[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = DEFAULT_TIMEOUT_S
    retries: int = DEFAULT_RETRIES
    patience_s: float = LONGEST_WAIT_S

    def digest(self) -> str:
        """A short text that two requests share only if they ask the same; keys and timeouts do not count."""
        told = {
            "models": self.models,
            "messages": self.messages,
            "tools": self.specs(),
            "schema": self.schema,
            "params": {name: value for name, value in self.params.items() if not is_credential(name)},
        }
        data = json.dumps(sealed(told), sort_keys=True, separators=(",", ":"), default=_by_type)
        return hashlib.blake2b(data.encode(errors="surrogatepass"), digest_size=12).hexdigest()

    def specs(self) -> list[dict[str, Any]]:
        """All tools as LiteLLM takes them."""
        return [*(tool.spec() for tool in self.tools), *self.builtins]

    def secrets(self) -> Iterator[str]:
        """What must not be told: secrets in messages and parameters, and credentials."""
        yield from secrets_in(self.messages)
        yield from secrets_in(self.params)
        for name, value in self.params.items():
            if is_credential(name) and isinstance(value, str):
                yield value

    def __repr__(self) -> str:
        return f"<Request to {', '.join(self.models)}: {len(self.messages)} messages>"  # no prompt, no key


@dataclass(frozen=True, kw_only=True, eq=False)
class DescribedTool(Tool):
    """A tool that came as a description in OpenAI's form, and goes to the provider as it came."""

    given: dict[str, Any]

    def spec(self) -> dict[str, Any]:
        """The description."""
        return self.given


def described(given: Mapping[str, Any], where: str) -> Tool | dict[str, Any]:
    """The tool of a description; what is no function (a provider's own tool) stays as it is."""
    if given.get("type") != "function":
        if isinstance(given.get("type"), str):
            return dict(given)
        raise InvalidInputError(f'{where}: expected {{"type": "function", "function": {{...}}}}, found no type')
    function = given.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidInputError(f"{where}: expected a function with a name, found {function!r}")
    return DescribedTool(
        name=function["name"],
        description=function.get("description") or "",
        schema=function.get("parameters") or {"type": "object", "properties": {}},
        given=dict(given),
    )


def checked_models(model: Any, where: str) -> tuple[str, ...]:
    """One model or several. Raises `InvalidInputError`."""
    models = (model,) if isinstance(model, str) else tuple(model) if isinstance(model, Sequence) else ()
    if not models or not all(isinstance(one, str) and one.strip() for one in models):
        raise InvalidInputError(
            f"{where}: model: expected the name of a model, as 'gpt-4o-mini' or 'anthropic/claude-sonnet-4-5', or "
            f"a list of names, found {model!r}"
        )
    return models


def checked_params(params: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Parameters for LiteLLM. Raises `InvalidInputError` for those that have another name here."""
    for name in params:
        if name in _INSTEAD and not (name == "n" and params[name] == 1):
            raise InvalidInputError(f"{where}: {name}= is not taken: {_INSTEAD[name]}")
    return dict(params)


def checked_timeout(timeout: timedelta | float | None, where: str) -> float:
    """Seconds for one try. Raises `InvalidInputError`."""
    ms = to_ms(timeout, f"{where}: timeout")
    if ms == 0:
        raise InvalidInputError(f"{where}: timeout: more than 0 s are needed, found {timeout!r}")
    return DEFAULT_TIMEOUT_S if ms is None else ms / 1000


def checked_retries(retries: Any, where: str) -> int:
    """How often a model is asked again. Raises `InvalidInputError`."""
    if retries is None:
        return DEFAULT_RETRIES
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= _MOST_RETRIES:
        raise InvalidInputError(f"{where}: retries: a number from 0 to {_MOST_RETRIES} is needed, found {retries!r}")
    return retries


def checked_key(key: Any, where: str) -> str | None:
    """What a caller calls an answer. Raises `InvalidInputError`."""
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= _KEY_LIMIT):
        raise InvalidInputError(f"{where}: key: text of 1 to {_KEY_LIMIT} characters is needed, found {key!r}")
    return key


def is_credential(name: str) -> bool:
    """Whether a parameter of this name holds a key."""
    low = name.lower()
    return low.endswith(("key", "token", "secret", "password", "credentials", "key_id")) or low == "extra_headers"


def _by_type(value: Any) -> str:
    """What has no JSON form counts by its type: its text may have an address of memory."""
    return f"{type(value).__module__}.{type(value).__qualname__}"

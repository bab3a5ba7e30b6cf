"""Answers that fit a schema: how a model is told of it, how its text is read, and what it is told when it is wrong."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from agnt5 import codec, forms
from agnt5.contracts.errors import SerializationError
from agnt5.llm.messages import Message

Mode = Literal["schema", "json", "text"]
"""How a model is held to a schema: by the provider with the schema, by the provider to JSON, or by words only."""

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n?(.*?)```", re.DOTALL)
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_TRIES = 20
_SHOWN = 5
_FAULT_LIMIT = 2_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer has to be: JSON that fits `schema`, and comes back as `model` where there is one."""

    schema: dict[str, Any]
    model: type[BaseModel] | None = None

    def read(self, text: str) -> tuple[Any, str]:
        """The object in an answer, and what is wrong with it; the latter is empty where it fits."""
        first = ""
        for value in _candidates(text):
            found, fault = self._fit(value)
            if not fault:
                return found, ""
            first = first or fault
        return None, first or "the answer is not JSON"

    def _fit(self, value: Any) -> tuple[Any, str]:
        if self.model is None:
            return value, "; ".join(forms.faults(self.schema, value))[:_FAULT_LIMIT]
        try:
            return self.model.model_validate_json(codec.dumps(value, what="answer")), ""
        except SerializationError as error:
            return None, str(error)
        except ValidationError as error:
            told = [f"{_place(one['loc'])}: {one['msg']}" for one in error.errors(include_url=False)[:_SHOWN]]
            return None, "; ".join(told)[:_FAULT_LIMIT]


def response_format(schema: dict[str, Any], mode: Mode) -> dict[str, Any] | None:
    """What the provider is told. Not strict: OpenAI's strict mode takes no optional properties."""
    if mode == "schema":
        name = _NAME.sub("_", str(schema.get("title", "answer")))[:64] or "answer"
        return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": False}}
    return {"type": "json_object"} if mode == "json" else None


def instructed(messages: list[Message], schema: dict[str, Any]) -> list[Message]:
    """Messages that tell a model what to answer with, for providers that do not see to it."""
    words = (
        "Answer with JSON only, without any other text, that fits this JSON Schema:\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )
    first = messages[0]
    if first.get("role") == "system" and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{words}"}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


COMPLAINT = "That answer does not fit the JSON Schema"
"""How a complaint begins."""


def complaint(fault: str) -> Message:
    """What a model is told of a wrong answer."""
    return {
        "role": "user",
        "content": f"{COMPLAINT}: {fault}\nAnswer again, with the corrected JSON only and no other text.",
    }


def mode_of(litellm: Any, model: str, schema: dict[str, Any]) -> Mode:
    """What LiteLLM knows of a model's ways; providers take schemas of objects only."""
    if schema.get("type") != "object":
        return "text"
    return _mode(litellm, model)


@functools.lru_cache(512)
def _mode(litellm: Any, model: str) -> Mode:
    if litellm.supports_response_schema(model=model):
        return "schema"
    try:
        params = litellm.get_supported_openai_params(model=model) or []
    except Exception:  # noqa: BLE001 - a model that LiteLLM does not know is told by words
        return "text"
    return "json" if "response_format" in params else "text"


def _candidates(text: str) -> Iterator[Any]:
    """What may be meant: the whole text, what is fenced as code, and objects or lists within other words."""
    for part in (text, *(match[1] for match in _FENCE.finditer(text))):
        try:
            yield codec.loads(part.strip())
        except SerializationError:
            continue
        else:
            return
    decoder, at = json.JSONDecoder(parse_constant=_no_constant), 0
    for _ in range(_TRIES):
        start = min((found for sign in "{[" if (found := text.find(sign, at)) >= 0), default=-1)
        if start < 0:
            return
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            at = start + 1
        else:
            yield value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _place(parts: tuple[int | str, ...]) -> str:
    return "data" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)

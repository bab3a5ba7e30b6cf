"""What a language model answers, in the form that is recorded and that handlers and clients get."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from agnt5.llm.thinking import FIELD, Thinking, text_of


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Usage(_Frozen):
    """Tokens of one answer, or of several together. `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens`
    of `completion_tokens`.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """All tokens."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})


class ToolCall(_Frozen):
    """A tool that the model wants to have called.

    `arguments` fit the tool's schema, unless `error` says why they do not, or that there is no such tool; `raw` is
    what the model wrote, where that is not just `arguments` as compact JSON.
    """

    id: str
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    error: str = ""
    raw: str = ""

    def data(self) -> dict[str, Any]:
        """The call in OpenAI's form, as a message of the assistant has it."""
        arguments = self.raw or to_json(self.arguments).decode()
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


class LLMResponse(_Frozen):
    """An answer.

    `object` is the answer as data where a schema was given: an instance of the pydantic model if it was one. `cost`
    is in US dollars, None where LiteLLM knows no price. `model` is the one that answered, `finish_reason` one of
    "stop", "length", "tool_calls", "content_filter". `thinking` is what the model thought, as its provider wants it
    back with the results of tools: never a part of `text`; `reasoning` is what of it can be read.
    """

    text: str = ""
    object: Any = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    usage: Usage = Field(default_factory=Usage)
    cost: float | None = None
    model: str = ""
    finish_reason: str = "stop"
    thinking: Thinking = Field(default_factory=dict)

    @property
    def reasoning(self) -> str:
        """What the model thought, as far as its provider tells it; often a summary, or empty."""
        return text_of(self.thinking)

    def message(self) -> dict[str, Any]:
        """The answer as a message in OpenAI's form, to go on with the conversation.

        What was thought is in it as `thinking`, which `ctx.llm` gives back to the provider that it came from.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.tool_calls:
            message["tool_calls"] = [call.data() for call in self.tool_calls]
        elif not self.text:
            message["content"] = ""
        if self.thinking:
            message[FIELD] = self.thinking
        return message


class LLMChunk(_Frozen):
    """A part of an answer as it comes. `text` may be empty. The last one has `response`, the whole answer."""

    text: str = ""
    response: LLMResponse | None = None

"""LiteLLM's answers, whole or in parts, in our form."""

from __future__ import annotations

from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import SerializationError
from agnt5.llm.failures import MalformedAnswerError
from agnt5.llm.requests import Request
from agnt5.llm.responses import LLMResponse, ToolCall, Usage
from agnt5.llm.thinking import Thinking, Thoughts, thinking_of

_FINISHES = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_RAW_LIMIT = 20_000


def response_of(answer: Any, request: Request, model: str, cost: float | None) -> LLMResponse:
    """A whole answer. Raises `MalformedAnswerError` where there is none in it."""
    choices = getattr(answer, "choices", None)
    if not choices:
        raise MalformedAnswerError("it has no choices")
    message = choices[0].message
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or []]
    usage = getattr(answer, "usage", None)
    return _response(
        message.content, calls, choices[0].finish_reason, usage, request, model, cost, thinking_of(message)
    )  # fmt: skip


class Collected:
    """What has come of a streamed answer."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: dict[Any, list[Any]] = {}
        self._finish: str | None = None
        self._usage: Any = None
        self._thoughts = Thoughts()

    def add(self, chunk: Any) -> str:
        """Take the next part; returns its text."""
        self._usage = getattr(chunk, "usage", None) or self._usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        for delta in choice.delta.tool_calls or []:
            self._add_call(delta)
        self._thoughts.add(choice.delta)
        text = choice.delta.content or ""
        if text:
            self._texts.append(text)
        return text

    def _add_call(self, delta: Any) -> None:
        # some providers give no id after the first piece, and some give no index
        place = delta.index if delta.index is not None else delta.id or len(self._calls) - 1
        call = self._calls.setdefault(place, ["", "", []])
        call[0] = call[0] or delta.id or ""
        call[1] = call[1] or delta.function.name or ""
        if delta.function.arguments:
            call[2].append(delta.function.arguments)

    @property
    def usage(self) -> Usage:
        """What was told of tokens so far."""
        return _usage(self._usage)

    def response(self, request: Request, model: str, cost: float | None) -> LLMResponse:
        """The whole answer. Raises `MalformedAnswerError` where nothing came."""
        if not self._texts and not self._calls and self._usage is None:
            raise MalformedAnswerError("the stream ended without any part")
        calls = [(call_id, name, "".join(pieces)) for call_id, name, pieces in self._calls.values()]
        return _response(
            "".join(self._texts), calls, self._finish, self._usage, request, model, cost, self._thoughts.thinking()
        )  # fmt: skip


def _response(
    content: Any, calls: list[tuple[str, str, Any]], finish: str | None, usage: Any, request: Request, model: str,
    cost: float | None, thinking: Thinking,
) -> LLMResponse:  # fmt: skip
    made = [_call(number, call, request) for number, call in enumerate(calls)]
    return LLMResponse(
        text=_text(content),
        tool_calls=made,
        usage=_usage(usage),
        cost=cost,
        model=model,
        finish_reason="tool_calls" if made else _FINISHES.get(finish or "", "stop"),
        thinking=thinking,
    )


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def _call(number: int, call: tuple[str, str, Any], request: Request) -> ToolCall:
    """A tool call; what does not fit the tool is told in `error`, in words that the model can act on."""
    call_id, name, raw = call[0] or f"call_{number}", call[1] or "", call[2]
    tool = next((one for one in request.tools if one.name == name), None)
    try:
        arguments = (codec.loads(raw) if raw.strip() else {}) if isinstance(raw, str) else raw or {}
    except SerializationError as error:
        fault, arguments = f"arguments: not JSON ({str(error).partition('; it begins')[0]})", {}
    else:
        fault = tool.fault(arguments) if tool is not None else ""
    if tool is None:
        known = ", ".join(repr(one.name) for one in request.tools) or "none"
        fault = f"there is no tool {name!r}; there are: {known}"
    kept = arguments if isinstance(arguments, dict) else {}
    text = raw if isinstance(raw, str) else codec.dumps(raw, what="arguments").decode()
    if not fault and text == codec.dumps(kept, what="arguments").decode():
        text = ""  # the arguments say it all
    return ToolCall(id=call_id, name=name, arguments=kept, error=fault, raw=text[:_RAW_LIMIT] if fault else text)


def _usage(usage: Any) -> Usage:
    if usage is None:
        return Usage()
    prompt, completion = (
        getattr(usage, "prompt_tokens_details", None),
        getattr(usage, "completion_tokens_details", None),
    )
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=getattr(prompt, "cached_tokens", None) or 0,
        reasoning_tokens=getattr(completion, "reasoning_tokens", None) or 0,
    )

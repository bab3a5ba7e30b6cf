"""Models that answer from a script: for tests, demos and examples without a key or network.

`scripted_model("support", call("lookup_order", order_id="17"), "It is on its way.")` at module level of the handlers'
module, so that every worker has it; the name that it returns is a model like any other.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from agnt5.contracts.errors import ConfigurationError, LLMError, LLMRequestError
from agnt5.contracts.ids import check_name

if TYPE_CHECKING:
    from agnt5.llm.requests import Request
    from agnt5.llm.responses import LLMChunk, LLMResponse, ToolCall
    from agnt5.llm.tools import Tool

PREFIX = "scripted/"
"""How the names of scripted models begin."""

_NOT_FOUND = 404
_PARTS = re.compile(r"\s*\S+|\s+$")
_scripts: dict[str, tuple[Any, ...]] = {}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool in a script. Made by `call`."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Said:
    """A turn, resolved: what the model writes, and which tools it calls."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)


def call(tool: str, /, **arguments: Any) -> Call:
    """A turn, or a part of one, that calls a tool."""
    return Call(tool, arguments)


def scripted_model(name: str, *turns: Any) -> str:
    """Register the model `scripted/<name>` in this process and return its name.

    A turn is text; `call(tool, **arguments)`, or a list of calls and text for several at once; other data (a dict, a
    list, a pydantic object), which is answered as JSON text; or a function `(messages, tools)`, plain or async, that
    gives any of these: it sees the messages as the model would, and the tools that it may call.

    Which turn comes is told by the conversation alone, so that it is the same in another process and after a crash:
    the n-th answer of this model to the user's latest message is turn n (an answer that did not fit a schema, and its
    correction, are two). Past the end the last turn repeats.
    Tokens are words, and the cost is 0. The same name registered again replaces the earlier script. Raises
    `ConfigurationError` for a name that is none, and where there is no turn.
    """
    check_name(name, "name of a scripted model")
    if not turns:
        raise ConfigurationError(f"scripted model {name!r}: give it at least one turn, for example a text")
    _scripts[name] = turns
    return PREFIX + name


async def answer(request: Request, model: str) -> LLMResponse:
    """What the script of `model` says to a request.

    Raises `LLMRequestError` for a model without a script in this process.
    """
    from agnt5.llm.responses import LLMResponse, Usage  # noqa: PLC0415 - defining a script loads no pydantic

    said = await _said(request, model)
    calls = [_tool_call(request, model, one, place) for place, one in enumerate(said.calls, 1)]
    written = [said.text, *(_json(one.arguments) for one in said.calls)]
    heard = [_text(message.get("content")) for message in request.messages]
    return LLMResponse(
        text=said.text,
        tool_calls=calls,
        usage=Usage(prompt_tokens=_words(heard), completion_tokens=_words(written)),
        cost=0.0,
        model=model,
        finish_reason="tool_calls" if calls else "stop",
    )


async def stream(request: Request, model: str) -> AsyncIterator[LLMChunk]:
    """The same, word by word."""
    from agnt5.llm.responses import LLMChunk  # noqa: PLC0415 - as above

    response = await answer(request, model)
    for part in _PARTS.findall(response.text):
        yield LLMChunk(text=part)
    yield LLMChunk(response=response)


async def _said(request: Request, model: str) -> _Said:
    name = model.removeprefix(PREFIX)
    turns = _scripts.get(name)
    if turns is None:
        known = ", ".join(PREFIX + one for one in sorted(_scripts)) or "none"
        raise LLMRequestError(
            f"{model} is not known to this process; scripted models here: {known}. Call scripted_model({name!r}, ...) "
            "at module level of the handlers' module, so that every worker has it",
            model=model,
            status=_NOT_FOUND,
        )
    turn = turns[min(_answered(request.messages, name), len(turns) - 1)]
    if callable(turn):
        turn = await _played(turn, request, model)
    return _resolved(turn)


async def _played(turn: Callable[..., Any], request: Request, model: str) -> Any:
    """What a function in a script gives. What it raises is final: it would raise it again."""
    try:
        found = turn(request.messages, request.tools)
        return await found if inspect.isawaitable(found) else found
    except LLMError:  # a script may play a provider that fails
        raise
    except Exception as error:
        raise LLMRequestError(f"{model}: its script raised {type(error).__name__}: {error}", model=model) from error


def _resolved(turn: Any) -> _Said:
    match turn:
        case str():
            return _Said(turn)
        case Call():
            return _Said(calls=[turn])
        case [*parts] if any(isinstance(part, Call) for part in parts):
            texts = [_resolved(part).text for part in parts if not isinstance(part, Call)]
            return _Said("".join(texts), [part for part in parts if isinstance(part, Call)])
        case _:
            return _Said(_json(turn))


def _answered(messages: Sequence[dict[str, Any]], name: str) -> int:
    """How often this model has answered since the user's latest message; a complaint of its form is none of the user's.

    Its calls bear its name: those of another one, which handed the conversation over to it, do not count.
    """
    from agnt5.llm.structured import COMPLAINT  # noqa: PLC0415 - as above

    own, count = re.compile(rf"call_{re.escape(name)}_[0-9a-f]+_\d+"), 0
    for message in reversed(messages):
        if message.get("role") == "user" and not _text(message.get("content")).startswith(COMPLAINT):
            break
        if message.get("role") == "assistant":
            calls = message.get("tool_calls") or ()
            count += not calls or any(own.fullmatch(str(one["id"])) for one in calls)
    return count


def _tool_call(request: Request, model: str, called: Call, place: int) -> ToolCall:
    """With an id that no other call of the conversation has, and which is the same each time."""
    from agnt5.llm.responses import ToolCall  # noqa: PLC0415 - as above

    asked = sha256(_json([message for message in request.messages if message.get("role") != "system"]).encode())
    name = model.removeprefix(PREFIX)
    found = ToolCall(id=f"call_{name}_{asked.hexdigest()[:8]}_{place}", name=called.name, arguments=called.arguments)
    if fault := _fault(called, request.tools):
        return found.model_copy(update={"arguments": {}, "error": fault, "raw": _json(called.arguments)})
    return found


def _fault(called: Call, tools: Sequence[Tool]) -> str:
    tool = next((one for one in tools if one.name == called.name), None)
    if tool is None:
        return f"there is no tool {called.name!r}; there are {', '.join(one.name for one in tools) or 'none'}"
    return tool.fault(called.arguments)


def _words(texts: Sequence[str]) -> int:
    return sum(len(text.split()) for text in texts)


def _text(content: Any) -> str:
    """The text of a message's content, which may be in parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def _json(value: Any) -> str:
    """JSON text as a model writes it. Secrets stay masked."""
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - as above

    return json.dumps(to_jsonable_python(value, fallback=str), ensure_ascii=False)

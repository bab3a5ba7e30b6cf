"""How a tool is called: as a step, with the run's context, as a child run, or as a call of an entity."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import (
    ConfigurationError,
    HandlerNotFoundError,
    IllegalTransitionError,
    InvalidInputError,
    JournalLimitError,
    LLMError,
    NonDeterminismError,
    NonRetryableError,
    RunFailedError,
    SerializationError,
    StaleEpochError,
    StoreUnavailableError,
    StructuredOutputError,
    ToolLoopError,
    WorkflowIOError,
    WrongContextError,
)
from agnt5.llm.tools import Tool, is_async, takes_context
from agnt5.registry import Handler
from agnt5.sdk.context import Context
from agnt5.sdk.entity_calls import EntityMethod
from agnt5.sdk.handles import SpawnHandle, TaskHandle
from agnt5.sdk.orchestration import call_bound, start_step
from agnt5.sdk.tool_scope import scope_of, scoped

RESULT_LIMIT = 100_000
"""Characters of one result that a model gets; what is longer is cut, and the model is told."""

ERROR_LIMIT = 4_000
"""Characters of an error that a model gets."""

_ID_LIMIT = 100
_PASSED = (
    NonRetryableError,
    WrongContextError,
    NonDeterminismError,
    ConfigurationError,
    SerializationError,
    HandlerNotFoundError,
    IllegalTransitionError,
    JournalLimitError,
    WorkflowIOError,
    StaleEpochError,
    StoreUnavailableError,
    LLMError,
)
"""Errors of a tool that end the run's attempt: the author's word, wrong code, or what a later attempt mends."""
_TOLD = (ToolLoopError, StructuredOutputError)
"""Those of them that a model is told all the same: another model, inside the tool, has failed."""

Outcome = dict[str, Any]
"""What is recorded of a call: `{"result": value}`, `{"result": text, "cut_from": characters}` or `{"error": text}`."""


class Caller:
    """Calls tools for one context."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._durable = ctx.component_type == "workflow"
        self._seen: Counter[tuple[str, str, str]] = Counter()

    # ---- for the author's code

    async def value(self, tool: Tool, arguments: dict[str, Any]) -> Any:
        """Check the arguments, call, and give the value or raise what the tool raises."""
        data = codec.loads(codec.dumps(arguments, what=f"arguments of tool {tool.name!r}"))
        if fault := tool.fault(data):
            raise InvalidInputError(f"tool {tool.name!r}: {fault}")
        if is_plain(tool.handler):
            given = _converted(tool, data)
            if takes_context(tool.handler):
                return await tool.handler(self._ctx, **given)
            return await start_step(self._commands(), _step_name(tool), tool.handler, (), given)
        return await self._started(tool, data, "")

    # ---- for a model

    def key(self, tool: Tool, call_id: str) -> str:
        """What tells a call of a tool from all others of this run, in each attempt; ask once a call, in their order.

        Some providers number the calls of each answer anew, so that the id alone does not.
        """
        scope = scope_of(self._ctx)
        self._seen[scope, tool.name, call_id] += 1
        place = f"{scope}|{tool.name}|{call_id}|{self._seen[scope, tool.name, call_id]}"
        return f"tool-{hashlib.blake2b(place.encode(), digest_size=8).hexdigest()}"

    async def outcome(self, tool: Tool, call_id: str, key: str, arguments: dict[str, Any]) -> Outcome:
        """Call, and record what came of it: the value, or the error that the model is told."""
        what = f"result of tool {tool.name!r}"
        plain = call_id and len(call_id) <= _ID_LIMIT and not scope_of(self._ctx)  # ids are unique in one loop, at most
        step_key = call_id if plain else key
        if not is_plain(tool.handler):
            make = lambda: self._started(tool, arguments, key)  # noqa: E731
        elif not takes_context(tool.handler):
            return await self._step(tool, _recorded(tool, arguments, what), step_key)
        else:
            inner = self._ctx if self._durable else scoped(self._ctx, key)
            make = lambda: tool.handler(inner, **_converted(tool, arguments))  # noqa: E731
            if not self._durable:  # the code runs again in each attempt; what came of it first stands
                found = await _outcome(make, what)
                return await self._step(tool, _constant(found), step_key)
        if self._durable:  # what it asks of its context is recorded itself
            return await _outcome(make, what)
        # a child that failed is done again by a later attempt, unless its end is recorded here
        return await self._step(tool, _deferred(make, what), step_key)

    # ---- inside

    async def _step(self, tool: Tool, fn: Callable[[], Any], key: str) -> Outcome:
        found: Outcome = await start_step(self._commands(), _step_name(tool), fn, (), {}, key=key)
        return found

    def _started(self, tool: Tool, arguments: dict[str, Any], key: str) -> Awaitable[Any]:
        """Start a child run, or a call of an entity."""
        target = tool.handler
        if isinstance(target, EntityMethod):
            return target.with_key(key, arguments)
        ctx = self._ctx
        call = call_bound(target, (), arguments, check=False)
        ref = self._commands().start_task(call.handler, call.data(), key=None if self._durable else key or None)
        if self._durable:
            return TaskHandle(ctx._port, ref, coerce=call.coerce)  # noqa: SLF001
        return SpawnHandle(ctx._port, ref, coerce=call.coerce, waits_for=ctx._waits_for)  # noqa: SLF001

    def _commands(self) -> Any:
        return self._ctx._commands("tools")  # noqa: SLF001


def is_plain(handler: Any) -> bool:
    """Whether a tool's handler is called here, and not elsewhere as a run."""
    return not isinstance(handler, Handler | str | EntityMethod)


def content_of(outcome: Outcome) -> str:
    """What a model reads of an outcome."""
    if "error" in outcome:
        return codec.dumps({"error": outcome["error"]}, what="error").decode()
    result = outcome["result"]
    if "cut_from" in outcome:
        return f"{result}\n[cut: these are the first {len(result):,} of {outcome['cut_from']:,} characters]"
    return result if isinstance(result, str) else codec.dumps(result, what="result").decode()


def refusal(text: str) -> Outcome:
    """The outcome of a call that was not made."""
    return {"error": text[:ERROR_LIMIT]}


def _step_name(tool: Tool) -> str:
    return f"tool:{tool.name}"


def _converted(tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments in the types of the tool's function, where those are known."""
    return arguments if tool.parameters is None else tool.parameters.convert(arguments)


def _recorded(tool: Tool, arguments: dict[str, Any], what: str) -> Callable[[], Any]:
    """The step of a plain function: async on the loop, others in a thread."""

    def make() -> Any:
        return tool.handler(**_converted(tool, arguments))

    if is_async(tool.handler):
        return _deferred(make, what)

    def run() -> Any:
        try:
            value = make()
        except Exception as error:  # noqa: BLE001 - what a tool raises is for the model
            return _failed(error)
        return _outcome(lambda: value, what) if inspect.isawaitable(value) else _shown(value, what)

    return run


def _deferred(make: Callable[[], Awaitable[Any]], what: str) -> Callable[[], Any]:
    async def run() -> Outcome:
        return await _outcome(make, what)

    return run


def _constant(found: Outcome) -> Callable[[], Any]:
    async def run() -> Outcome:
        return found

    return run


async def _outcome(make: Callable[[], Awaitable[Any]], what: str) -> Outcome:
    try:
        value = await make()
    except Exception as error:  # noqa: BLE001 - what a tool raises is for the model
        return _failed(error)
    return _shown(value, what)


def _failed(error: Exception) -> Outcome:
    """An error as the model is told it; one that is not for models is raised again."""
    if isinstance(error, _PASSED) and not isinstance(error, _TOLD):
        raise error
    if isinstance(error, RunFailedError):
        return refusal(f"{error.type}: {error.message}")
    text = str(error)
    return refusal(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _shown(value: Any, what: str) -> Outcome:
    """A value in its JSON form, or as much of it as text as a model gets."""
    data = codec.dumps(value, what=what)
    value = codec.loads(data)
    text = value if isinstance(value, str) else data.decode()
    if len(text) <= RESULT_LIMIT:
        return {"result": value}
    return {"result": text[:RESULT_LIMIT], "cut_from": len(text)}

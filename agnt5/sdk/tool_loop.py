"""`ctx.llm.run_tools`: a model asks, tools are called, the model goes on; each answer and each call is recorded."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import Field

from agnt5.contracts.approvals import check_texts
from agnt5.contracts.errors import InvalidInputError, ToolLoopError, WrongContextError
from agnt5.llm.messages import Message, hidden, messages_of
from agnt5.llm.responses import LLMResponse, ToolCall, Usage
from agnt5.llm.tools import Tool
from agnt5.sdk.context import Context
from agnt5.sdk.decorators import duration_ms
from agnt5.sdk.human import Approval
from agnt5.sdk.orchestration import parallel
from agnt5.sdk.tool_calls import Outcome, content_of, refusal
from agnt5.sdk.tools import tool_of

if TYPE_CHECKING:
    from agnt5.sdk.llm_stream import LLMStream

CALLS_LIMIT = 64
"""Calls of one answer that are made; the model is told of the others that they were not."""

_SHOWN = 100


class ToolsResponse(LLMResponse):
    """The last answer of a tool loop. `usage` and `cost` are those of all its answers together.

    `messages` is the whole conversation in OpenAI's form, the last answer included, secrets masked; `rounds` is how
    many answers there were. `cost` is None where the price of one of them is not known.
    """

    messages: list[Message] = Field(default_factory=list)
    rounds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How people are asked. `names` are the tools that need it."""

    names: frozenset[str] = frozenset()
    timeout: timedelta | float | None = None
    required_roles: Iterable[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLoop:
    """One loop. `ask` has what each question to the model has in common."""

    ctx: Context
    tools: dict[str, Tool]
    model: str | Sequence[str]
    max_rounds: int
    terms: Terms
    key: str | None
    ask: dict[str, Any]

    async def run(self, messages: list[Message]) -> ToolsResponse:
        """Ask and call until the model answers without a call. Raises `ToolLoopError` when it does not."""
        answers: list[LLMResponse] = []
        while True:
            answer = await self.answer(messages, len(answers) + 1)
            answers.append(answer)
            messages.append(answer.message())
            if not answer.tool_calls:
                return _summed(answers, messages)
            if len(answers) >= self.max_rounds:
                raise self._too_many(answer)
            outcomes = await self.outcomes(answer.tool_calls)
            messages += [result_of(call, found) for call, found in zip(answer.tool_calls, outcomes, strict=True)]

    async def answer(self, messages: list[Message], number: int) -> LLMResponse:
        """Ask the model; `number` counts the questions from 1."""
        return await self.ctx.llm.generate(list(messages), self.model, **self._asking(number))

    def stream(self, messages: list[Message], number: int) -> LLMStream:
        """As `answer`, as it comes."""
        return self.ctx.llm.stream(list(messages), self.model, **self._asking(number))

    def _asking(self, number: int) -> dict[str, Any]:
        ask = dict(self.ask)
        if number > 1 and ask.get("tool_choice", "auto") not in {"auto", "none"}:
            ask["tool_choice"] = "auto"  # a call that is forced each time never ends
        if self.key is not None:
            ask["key"] = f"{self.key}.{number}"
        return {"tools": list(self.tools.values()), **ask}

    async def outcomes(self, calls: Sequence[ToolCall]) -> list[Outcome]:
        """Make the calls of an answer side by side, each recorded; what came of them, in their order."""
        caller = self.ctx.tools.caller
        made = []
        for place, call in enumerate(calls):
            tool = self.tools.get(call.name)
            fault = self._fault(call, tool, place)
            made.append(_refused(fault) if fault or tool is None else self._call(tool, call, caller.key(tool, call.id)))
        return await parallel(tuple(made), return_exceptions=False)

    def _fault(self, call: ToolCall, tool: Tool | None, place: int) -> str:
        if place >= CALLS_LIMIT:
            return f"not called: at most {CALLS_LIMIT} calls of one answer are made; ask for the others again"
        if tool is None:
            return f"there is no tool {call.name!r}; there are: {', '.join(self.tools) or 'none'}"
        return call.error

    async def _call(self, tool: Tool, call: ToolCall, key: str) -> Outcome:
        if tool.name in self.terms.names:
            approval = await self.ctx.human.approval(
                f"tool:{tool.name}",
                {"tool": tool.name, "arguments": call.arguments, "call_id": call.id},
                self.terms.timeout,
                self.terms.required_roles,
            )
            if not approval.approved:
                return refusal(_decided(approval))
        return await self.ctx.tools.caller.outcome(tool, call.id, key, call.arguments)

    def _too_many(self, answer: LLMResponse) -> ToolLoopError:
        calls = ", ".join(f"{call.name}({_short(call)})" for call in answer.tool_calls[:3])
        more = len(answer.tool_calls) - 3
        return ToolLoopError(
            f"ctx.llm.run_tools: all of {self.max_rounds} answers of {answer.model or self.model} asked for tools, the "
            f"last for {calls}{f' and {more} more' if more > 0 else ''}, which was not called; give a higher "
            "max_rounds=, or tell the model when to stop"
        )


async def run_tools(  # noqa: PLR0913 - what there is to say about a loop
    ctx: Context, prompt: Any, model: str | Sequence[str], tools: Any, *, max_rounds: Any,
    approve: Iterable[str], approval_timeout: timedelta | float | None, required_roles: Iterable[str] | None,
    system: Any, key: str | None, ask: Mapping[str, Any],
) -> ToolsResponse:  # fmt: skip
    """The rules are those of `LLM.run_tools`. Everything is checked before the model is asked."""
    if isinstance(max_rounds, bool) or not isinstance(max_rounds, int) or max_rounds < 1:
        raise InvalidInputError(f"ctx.llm.run_tools: max_rounds: expected a number from 1, found {max_rounds!r}")
    offered = offered_tools(ctx, tools, "ctx.llm.run_tools")
    terms = terms_of(ctx, offered, approve, approval_timeout, required_roles, where="ctx.llm.run_tools")
    loop = ToolLoop(
        ctx=ctx, tools=offered, model=model, max_rounds=max_rounds, terms=terms, key=key, ask=dict(ask)
    )  # fmt: skip
    return await loop.run(messages_of(prompt, system, "ctx.llm.run_tools"))


def terms_of(
    ctx: Context, offered: dict[str, Tool], approve: Iterable[str], timeout: timedelta | float | None,
    required_roles: Iterable[str] | None, *, where: str,
) -> Terms:  # fmt: skip
    """How people are asked, checked. Raises `InvalidInputError`, `WrongContextError`."""
    duration_ms(timeout, f"{where}: approval_timeout")
    roles = required_roles
    if roles is not None:
        roles = check_texts(roles, f"{where}: required_roles", "the name of a role")
    return Terms(names=_approved(ctx, offered, approve, where), timeout=timeout, required_roles=roles)


def offered_tools(ctx: Context, tools: Any, where: str) -> dict[str, Tool]:
    """The tools of a list, by name. Raises `InvalidInputError` for what is none, or cannot be called."""
    if isinstance(tools, str | Tool) or not isinstance(tools, Iterable):
        raise InvalidInputError(f"{where}: tools: expected a list, found {tools!r}")
    offered: dict[str, Tool] = {}
    for one in tools:
        if isinstance(one, dict):
            raise InvalidInputError(
                f"{where}: tools: {_name_in(one)!r} is a description without a handler; "
                "give what ctx.tools.register(name, handler, schema=...) returns"
            )
        tool = ctx.tools[one] if isinstance(one, str) and "." not in one else tool_of(one)
        if tool.handler is None:
            raise InvalidInputError(f"{where}: tools: {tool.name!r} has no handler; give handler=...")
        if tool.name in offered and offered[tool.name] is not tool:
            raise InvalidInputError(f"{where}: tools: there are two of the name {tool.name!r}; rename one")
        offered[tool.name] = tool
        tool.spec()  # a schema that cannot be derived is told before anything is asked
    return offered


def _name_in(spec: dict[str, Any]) -> Any:
    function = spec.get("function")
    return function.get("name") if isinstance(function, dict) else spec.get("name")


def _approved(ctx: Context, offered: dict[str, Tool], approve: Iterable[str], where: str) -> frozenset[str]:
    names = check_texts(approve, f"{where}: approve", "the name of a tool")
    for name in names:
        if name not in offered:
            raise InvalidInputError(
                f"{where}: approve: {name!r} is none of the tools; there are: {', '.join(offered) or 'none'}"
            )
    needed = frozenset(names) | {tool.name for tool in offered.values() if tool.approval}
    if needed and ctx.component_type != "workflow":
        raise WrongContextError(
            f"{where}: tool {min(needed)!r} needs people's approval, and only a workflow can wait for that: "
            f"{ctx!r} is of a {ctx.component_type}; make it a @workflow, or start one that runs the tools with "
            "ctx.spawn(...)"
        )
    return needed


def result_of(call: ToolCall, outcome: Outcome) -> Message:
    """What came of a call as a message."""
    return {"role": "tool", "tool_call_id": call.id, "content": content_of(outcome)}


def _short(call: ToolCall) -> str:
    text = call.data()["function"]["arguments"]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


async def _refused(text: str) -> Outcome:
    return refusal(text)


def _decided(approval: Approval) -> str:
    if approval.decision == "timeout":
        return "not called: nobody approved this call in time"
    why = f": {approval.comment}" if approval.comment else ""
    return f"not called: {approval.approver} rejected this call{why}"


def _summed(answers: list[LLMResponse], messages: list[Message]) -> ToolsResponse:
    last = answers[-1]
    costs = [answer.cost for answer in answers]
    values = {name: getattr(last, name) for name in LLMResponse.model_fields} | {
        "usage": functools.reduce(Usage.__add__, (answer.usage for answer in answers)),
        "cost": None if None in costs else sum(cost for cost in costs if cost is not None),
        "messages": hidden(messages),
        "rounds": len(answers),
    }
    return ToolsResponse(**values)

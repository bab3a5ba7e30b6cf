"""One message to an agent until its answer: who is asked, what comes back, and what of it is remembered."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agnt5.agents import handoffs
from agnt5.agents.agent import Agent
from agnt5.agents.memory import Memory, check_conversation
from agnt5.agents.results import AgentResult
from agnt5.contracts.errors import InvalidInputError, ToolLoopError
from agnt5.llm.messages import Message, hidden
from agnt5.llm.responses import LLMResponse, ToolCall, Usage
from agnt5.llm.thinking import without
from agnt5.sdk.tool_loop import ToolLoop, offered_tools, result_of, terms_of

if TYPE_CHECKING:
    from agnt5.sdk.context import Context
    from agnt5.sdk.llm_stream import LLMStream
    from agnt5.sdk.tool_calls import Outcome

Event = dict[str, Any]


@dataclass(slots=True)
class Tally:
    """What models used up: those of one turn, and of agents that served it as tools."""

    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    rounds: int = 0
    outer: Tally | None = None

    def add(self, answer: LLMResponse) -> None:
        """Count an answer, here and in the turn that this one serves."""
        self.usage += answer.usage
        self.cost = None if self.cost is None or answer.cost is None else self.cost + answer.cost
        self.rounds += 1
        if self.outer is not None:
            self.outer.add(answer)


_SERVED: ContextVar[Tally | None] = ContextVar("agnt5_turn", default=None)
"""The tally of the turn whose tools run."""


class Turn:
    """Made by `begin`. `ask` or `ask_stream`, then `take` the answer, until it is `answered`; then `end`."""

    def __init__(self, ctx: Context, agent: Agent, message: Any, conversation: str | None, context: Any) -> None:
        self.answered = False
        self._ctx = ctx
        self._first = self._agent = agent
        self._context = context
        self._conversation = conversation
        self._heard: list[Message] = []
        self._said = _messages(message, agent.name)
        self._loops: dict[str, ToolLoop] = {}
        self._answer = LLMResponse()
        self._asked = 0
        self._tally = Tally(outer=_SERVED.get())

    @classmethod
    async def begin(cls, ctx: Context, agent: Agent, message: Any, conversation: str | None, context: Any) -> Turn:
        """With what is remembered. Raises `InvalidInputError`."""
        turn = cls(ctx, agent, message, conversation, context)
        if conversation is not None:
            turn._heard, last = await _memory(agent).recall(ctx, check_conversation(conversation))
            turn._agent = handoffs.reachable(agent, last) or agent
        return turn

    # ---- asking

    async def ask(self) -> LLMResponse:
        """The next answer of the agent whose turn it is."""
        loop = await self._loop()
        return await loop.answer(self._conversation_so_far(), self._asked + 1)

    async def ask_stream(self) -> LLMStream:
        """The same, as it comes; the last chunk has the whole."""
        loop = await self._loop()
        return loop.stream(self._conversation_so_far(), self._asked + 1)

    def _conversation_so_far(self) -> list[Message]:
        return [*self._heard, *self._said]

    async def _loop(self) -> ToolLoop:
        """The tools and options of the agent whose turn it is, with its instructions of this turn."""
        agent = self._agent
        if agent.name not in self._loops:
            where = f"agent {agent.name!r}"
            tools = offered_tools(self._ctx, [*agent.tools, *handoffs.transfer_tools(agent)], where)
            terms = terms_of(
                self._ctx, tools, agent.approve, agent.approval_timeout, agent.required_roles, where=where
            )  # fmt: skip
            ask = {**agent.params, "schema": agent.output, "budget": agent.budget}
            self._loops[agent.name] = ToolLoop(
                ctx=self._ctx, tools=tools, model=agent.model, max_rounds=self._first.max_rounds, terms=terms, key=None,
                ask=ask | {"system": await self._instructions(agent)},
            )  # fmt: skip
        return self._loops[agent.name]

    async def _instructions(self, agent: Agent) -> Any:
        text = agent.instructions
        if callable(text):
            text = text(*(self._ctx, self._context)[: _takes(text)])
            text = await text if inspect.isawaitable(text) else text
        return text or None

    # ---- what comes back

    def calls(self, answer: LLMResponse) -> list[Event]:
        """The calls of an answer as events, before they are made."""
        return [
            {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
            for call in answer.tool_calls
            if call.name not in handoffs.colleagues(self._agent)
        ]

    async def take(self, answer: LLMResponse) -> list[Event]:
        """Take an answer in, and make its calls; gives what came of it as events. Raises `ToolLoopError`."""
        self._asked += 1
        self._tally.add(answer)
        self._said.append(answer.message())
        self._answer, self.answered = answer, not answer.tool_calls
        if self.answered:
            return []
        if self._asked >= self._first.max_rounds:
            raise self._too_many()
        calls = _with_one_transfer(answer.tool_calls, set(handoffs.colleagues(self._agent)))
        outcomes = await self._outcomes(calls)
        return self._results(calls, outcomes)

    async def _outcomes(self, calls: list[ToolCall]) -> list[Outcome]:
        served = _SERVED.set(self._tally)
        try:
            loop = await self._loop()
            return await loop.outcomes(calls)
        finally:
            _SERVED.reset(served)

    def _results(self, calls: list[ToolCall], outcomes: list[Outcome]) -> list[Event]:
        """Remember the results; where one is a hand-over, another agent goes on."""
        others, events, heir = handoffs.colleagues(self._agent), [], None
        for call, outcome in zip(calls, outcomes, strict=True):
            self._said.append(result_of(call, outcome))
            if call.name not in others:
                result = outcome.get("result", outcome)
                events.append({"type": "tool_result", "id": call.id, "name": call.name, "result": result})
            elif "error" not in outcome:
                heir = others[call.name]
        if heir is not None:
            self._agent = heir
            events.append({"type": "handoff", "agent": heir.name})
        return events

    def _too_many(self) -> ToolLoopError:
        return ToolLoopError(
            f"agent {self._first.name!r}: {self._asked} answers to one message, and the last of them, of "
            f"{self._agent.name!r}, asks for {', '.join(call.name for call in self._answer.tool_calls)} again; "
            "give a higher max_rounds=, or instructions that say when to stop"
        )

    async def end(self) -> AgentResult:
        """The result, after the memory has this turn."""
        messages = without(hidden(self._said))
        if self._conversation is not None:
            await _memory(self._first).keep(self._ctx, self._conversation, messages, self._agent.name)
        return AgentResult(
            text=self._answer.text, object=self._answer.object, agent=self._agent.name, messages=messages,
            usage=self._tally.usage, cost=self._tally.cost, rounds=self._tally.rounds,
        )  # fmt: skip


def _memory(agent: Agent) -> Memory:
    if agent.memory is None:
        raise InvalidInputError(
            f"agent {agent.name!r}: a conversation was given, and the agent has no memory; define it with memory=True"
        )
    return agent.memory


def _messages(message: Any, agent: str) -> list[Message]:
    """What is said, as messages."""
    if not isinstance(message, list | tuple):
        return [{"role": "user", "content": message}]
    if not message or not all(isinstance(one, dict) for one in message):
        raise InvalidInputError(
            f"agent {agent!r}: message: expected text or messages in OpenAI's form, found {message!r}"
        )
    return list(message)


def _takes(fn: Callable[..., Any]) -> int:
    """How many of ctx and context a function of instructions takes."""
    parameters = inspect.signature(fn).parameters.values()
    return 2 if sum(p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} for p in parameters) > 1 else 1


def _with_one_transfer(calls: Sequence[ToolCall], transfers: set[str]) -> list[ToolCall]:
    """A conversation goes on with one agent: of several hand-overs in one answer the first counts."""
    found, seen = [], False
    for call in calls:
        again = seen and call.name in transfers
        seen = seen or call.name in transfers
        error = "not called: this answer hands the conversation over already"
        found.append(call.model_copy(update={"error": error}) if again else call)
    return found

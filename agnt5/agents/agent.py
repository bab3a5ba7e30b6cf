"""`Agent`: what it is made of, and the ways to use it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from agnt5.agents import handlers
from agnt5.agents.memory import Memory, memory_of
from agnt5.contracts.errors import ConfigurationError, InvalidInputError
from agnt5.contracts.ids import check_name

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agnt5.agents.results import AgentResult
    from agnt5.contracts.budgets import Budget
    from agnt5.llm.tools import Tool
    from agnt5.sdk.context import Context

Instructions = Any
"""Text (also a `SecretStr`), or a function that gives it, plain or async. The function gets ctx, and with a second
parameter what `run` was given as `context`.
"""

NAME_LIMIT = 48
"""Characters of an agent's name: `transfer_to_<name>` is the name of a tool, of which providers take 64."""


@dataclass(frozen=True, init=False, eq=False)
class Agent:
    """A language model with instructions, tools, colleagues and a memory. Immutable; define it at module level.

    It has no life of its own: `await agent.run(ctx, message)` works in any handler, and everything that it does is
    recorded in that handler's run: answers of models, calls of tools, approvals, the memory. After a crash it goes on
    where it was, and asks and calls nothing again that is recorded.
    """

    name: str
    instructions: Instructions
    model: str | tuple[str, ...]
    tools: tuple[Any, ...]
    handoffs: tuple[Agent | Callable[[], Agent], ...]
    memory: Memory | None
    output: dict[str, Any] | type[BaseModel] | None
    max_rounds: int
    approve: tuple[str, ...]
    approval_timeout: timedelta | float | None
    required_roles: tuple[str, ...] | None
    budget: tuple[Budget, ...]
    description: str
    params: dict[str, Any]

    def __init__(  # noqa: PLR0913 - what there is to say about an agent
        self,
        name: str,
        instructions: Instructions,
        model: str | Sequence[str],
        *,
        tools: Sequence[Any] = (),
        handoffs: Sequence[Agent | Callable[[], Agent]] = (),
        memory: Memory | bool | None = None,
        output: dict[str, Any] | type[BaseModel] | None = None,
        max_rounds: int = 10,
        approve: Sequence[str] = (),
        approval_timeout: timedelta | float | None = None,
        required_roles: Sequence[str] | None = None,
        budget: Budget | Sequence[Budget] = (),
        description: str = "",
        **params: Any,
    ) -> None:
        """Define an agent.

        `model` is a model's name, or several to be asked in turn. `tools` are what `ctx.llm.run_tools` takes, and other
        agents, which are asked as `agent.as_tool()`. `handoffs` are agents (or functions that give one, where two hand
        over to each other) to which the model may hand the conversation over. `output`, a JSON Schema or pydantic model
        class, is what the last answer has to fit. A model is asked at most `max_rounds` times for one message.
        `approve` names tools that people have to approve first; `approval_timeout` and `required_roles` are those of
        `ctx.llm.run_tools`. `description` tells other agents what this one is for.
        Whatever else is given goes to `ctx.llm.generate`: temperature, timeout, retries...

        Raises `ConfigurationError` that names the agent and what is wrong.
        """
        own = {
            "name": _check_name(name),
            "instructions": instructions,
            "model": model if isinstance(model, str) else tuple(model),
            "tools": tuple(tools),
            "handoffs": tuple(handoffs),
            "memory": memory_of(memory),
            "output": output,
            "max_rounds": max_rounds,
            "approve": _texts(approve),
            "approval_timeout": approval_timeout,
            "required_roles": None if required_roles is None else _texts(required_roles),
            "budget": tuple(budget) if isinstance(budget, Sequence) else (budget,),
            "description": description,
            "params": params,
        }
        for field, value in own.items():
            object.__setattr__(self, field, value)
        _check(self)
        if self.memory is not None:
            self.memory.register()

    async def run(
        self, ctx: Context, message: Any, conversation: str | None = None, *, context: Any = None
    ) -> AgentResult:
        """Send a message, and give the answer. In workflows, functions and methods of entities.

        `message` is text, a `SecretStr`, or a list of messages in OpenAI's form. With `conversation`, an id, the agent
        sees what was said before under this id, and what is said now is appended when the answer is there, in one
        write. `context` is handed to `instructions` where these are a function.

        Raises `ToolLoopError` past `max_rounds`, `InvalidInputError` for a conversation where the agent has no memory,
        and what `ctx.llm.generate` raises; then nothing is added to the memory.
        """
        from agnt5.agents.turn import Turn  # noqa: PLC0415 - who only defines agents loads no pydantic

        about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": self.name}
        with ctx.trace_span().start(f"invoke_agent {self.name}", **about):
            turn = await Turn.begin(ctx, self, message, conversation, context)
            while not turn.answered:
                await turn.take(await turn.ask())
            return await turn.end()

    async def stream(
        self, ctx: Context, message: Any, conversation: str | None = None, *, context: Any = None
    ) -> AsyncIterator[dict[str, Any]]:
        """As `run`, told while it happens. In functions and methods of entities.

        Yields dicts: `{"type": "text", "text"}` as the model writes; `{"type": "tool_call", "id", "name", "arguments"}`
        before and `{"type": "tool_result", "id", "name", "result"}` after tools are called; `{"type": "handoff",
        "agent"}`; and at the end `{"type": "done", "result"}` with the `AgentResult` as JSON data. What a later attempt
        finds recorded comes at once, an answer as one text. An answer that does not fit `output` is not corrected,
        since it has been read by then. Raises as `run` does.
        """
        from agnt5.agents.turn import Turn  # noqa: PLC0415 - as above

        turn = await Turn.begin(ctx, self, message, conversation, context)
        while not turn.answered:
            response = None
            async with await turn.ask_stream() as chunks:
                async for chunk in chunks:
                    if chunk.text:
                        yield {"type": "text", "text": chunk.text}
                    response = chunk.response or response
            assert response is not None  # the last chunk has it
            for event in turn.calls(response):
                yield event
            for event in await turn.take(response):
                yield event
        result = await turn.end()
        yield {"type": "done", "result": result.model_dump(mode="json")}

    def as_tool(self, description: str | None = None) -> Tool:
        """A tool that sends this agent one message and gives its answer. Its steps are recorded in the same run."""
        from agnt5.agents.handoffs import agent_tool  # noqa: PLC0415 - as above

        return agent_tool(self, description)

    def as_workflow(self, service: str | None = None, name: str | None = None, **options: Any) -> Callable[..., Any]:
        """Register a workflow `(ctx, message, conversation=None)` that gives the `AgentResult` as a dict.

        Without a memory it is `(ctx, message)`, where `message` may be a list of messages, the conversation so far.
        `service` is by default that of the module that calls this, `name` the agent's; `options` are those of
        `@workflow`. Raises `ConfigurationError`.
        """
        return handlers.as_workflow(self, _caller(), {"service": service, "name": name or self.name, **options})

    def as_function(
        self, service: str | None = None, name: str | None = None, *, stream: bool = False, **options: Any
    ) -> Callable[..., Any]:
        """As `as_workflow`, but a function; with `stream` one that yields the events of `Agent.stream`.

        Raises `ConfigurationError` for an agent whose tools need approvals: functions cannot wait for people.
        """
        own = {"service": service, "name": name or self.name, **options}
        return handlers.as_function(self, _caller(), own, stream=stream)

    def __repr__(self) -> str:
        return f"<Agent {self.name}>"


def _caller() -> str:
    """The module that calls a method of an agent: handlers belong to the module that makes them."""
    return str(sys._getframe(2).f_globals.get("__name__", "__main__"))  # noqa: SLF001 - as namedtuple does


def _texts(values: Any) -> tuple[str, ...]:
    """A list of names; one text is one name, not its characters."""
    return (values,) if isinstance(values, str) else tuple(values)


def _check_name(name: Any) -> str:
    try:
        check_name(name, "agent")
    except InvalidInputError as error:
        raise ConfigurationError(str(error)) from None
    if len(name) > NAME_LIMIT:
        raise ConfigurationError(f"agent {name!r}: a name of at most {NAME_LIMIT} characters is expected")
    return str(name)


def _check(agent: Agent) -> None:
    given: Any = agent.instructions
    if not isinstance(given, str) and not callable(given) and not hasattr(given, "get_secret_value"):
        raise _wrong(agent, "instructions", "text, a SecretStr or a function (ctx) -> text", given)
    if not agent.model or not all(isinstance(one, str) for one in (agent.model, *agent.model)[1:]):
        raise _wrong(agent, "model", "a model's name, or several", agent.model)
    rounds: Any = agent.max_rounds
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise _wrong(agent, "max_rounds", "a number from 1 on", rounds)
    for one in agent.handoffs:
        if not isinstance(one, Agent) and not callable(one):
            raise _wrong(agent, "handoffs", "agents, or functions that give one", one)


def _wrong(agent: Agent, what: str, expected: str, found: Any) -> ConfigurationError:
    return ConfigurationError(f"agent {agent.name!r}: {what}: expected {expected}, found {found!r}")

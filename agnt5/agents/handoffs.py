"""Agents among the tools of others: asked for an answer, or given the conversation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from agnt5.agents.agent import Agent
from agnt5.contracts.errors import ConfigurationError
from agnt5.llm.tools import Tool

if TYPE_CHECKING:
    from agnt5.sdk.context import Context

TRANSFER = "transfer_to_"

_MESSAGE = {
    "type": "object",
    "properties": {"message": {"type": "string", "description": "What to ask or tell; all that it has to know."}},
    "required": ["message"],
    "additionalProperties": False,
}


def agent_tool(agent: Agent, description: str | None = None) -> Tool:
    """A tool that sends an agent one message. It runs in the run that calls it, and is recorded there."""

    async def ask(ctx: Context, message: str) -> Any:
        result = await agent.run(ctx, message)
        return result.text if result.object is None else result.object

    told = description or agent.description or f"Ask the agent {agent.name}."
    return Tool(name=agent.name, description=told, schema=_MESSAGE, handler=ask)


def colleagues(agent: Agent) -> dict[str, Agent]:
    """To whom an agent may hand over, by the name of the tool that does it."""
    return {f"{TRANSFER}{one.name}": one for one in map(_resolved, agent.handoffs)}


def transfer_tools(agent: Agent) -> list[Tool]:
    """What a model is offered to hand over with. The turn does it: what is recorded is only that it was asked for."""
    return [
        Tool(
            name=name,
            description=f"Hand the conversation over to {one.name}{_known_for(one)}.",
            handler=partial(_handed_over, one.name),
        )
        for name, one in colleagues(agent).items()
    ]


def reachable(agent: Agent, name: str) -> Agent | None:
    """The agent of this name among this one and all that it can hand over to, over others too."""
    seen: dict[str, Agent] = {}
    waiting = [agent]
    while waiting:
        one = waiting.pop(0)
        if seen.setdefault(one.name, one) is one:
            waiting += [other for other in colleagues(one).values() if other.name not in seen]
    return seen.get(name)


async def _handed_over(name: str) -> str:
    return f"{name} goes on with the conversation."


def _known_for(agent: Agent) -> str:
    return f": {agent.description}" if agent.description else ""


def _resolved(one: Agent | Callable[[], Agent]) -> Agent:
    found = one if isinstance(one, Agent) else one()
    if not isinstance(found, Agent):
        raise ConfigurationError(f"handoffs: expected an agent from {one!r}, found {found!r}")
    return found

"""Agents as handlers: workflows and functions that send one message and give the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from agnt5.contracts.errors import ConfigurationError
from agnt5.sdk.decorators import function, workflow

if TYPE_CHECKING:
    from agnt5.agents.agent import Agent
    from agnt5.sdk.context import Context


def as_workflow(agent: Agent, module: str, options: dict[str, Any]) -> Callable[..., Any]:
    """Register a workflow of `module`."""
    fn: Callable[..., Any] = workflow(**options)(_named(_talk(agent), agent, module))
    return fn


def as_function(agent: Agent, module: str, options: dict[str, Any], *, stream: bool) -> Callable[..., Any]:
    """Register a function of `module`. Raises `ConfigurationError` where a tool needs an approval."""
    if (found := _asking(agent, set())) is not None:
        raise ConfigurationError(
            f"agent {agent.name!r}: as_function: agent {found.name!r} asks people before it calls "
            f"{', '.join(found.approve)}, and functions cannot wait for people; use as_workflow"
        )
    fn: Callable[..., Any] = function(**options)(_named(_tell(agent) if stream else _talk(agent), agent, module))
    return fn


def _talk(agent: Agent) -> Callable[..., Any]:
    async def talk(ctx: Context, message: str, conversation: str | None = None) -> dict[str, Any]:
        result = await agent.run(ctx, message, conversation)
        return result.model_dump(mode="json")

    async def answer(ctx: Context, message: str | list[dict[str, Any]]) -> dict[str, Any]:
        result = await agent.run(ctx, message)
        return result.model_dump(mode="json")

    return answer if agent.memory is None else talk


def _tell(agent: Agent) -> Callable[..., Any]:
    async def tell(ctx: Context, message: str, conversation: str | None = None) -> AsyncIterator[dict[str, Any]]:
        async for event in agent.stream(ctx, message, conversation):
            yield event

    async def answer(ctx: Context, message: str | list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        async for event in agent.stream(ctx, message):
            yield event

    return answer if agent.memory is None else tell


def _named(fn: Callable[..., Any], agent: Agent, module: str) -> Callable[..., Any]:
    """As if it had been written where it is made: its module gives it its service, and tells loads apart."""
    fn.__module__ = module
    fn.__name__ = fn.__qualname__ = agent.name
    return fn


def _asking(agent: Agent, seen: set[int]) -> Agent | None:
    """The first agent that asks people, of this one and all that it may hand over to or use as tools."""
    if agent.approve:
        return agent
    seen.add(id(agent))
    for one in (*agent.handoffs, *agent.tools):
        other: Any = getattr(one, "agent", one)
        if isinstance(other, type(agent)) and id(other) not in seen and (found := _asking(other, seen)):
            return found
    return None

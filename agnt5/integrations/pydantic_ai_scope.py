"""Where pydantic-ai's callbacks find the context of the run that they are a part of."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from pydantic_core import to_jsonable_python

from agnt5.contracts.errors import WrongContextError
from agnt5.replay.loop import generators_kept
from agnt5.sdk.context import Context

_VOLATILE = frozenset({"timestamp", "run_id", "conversation_id"})
"""What differs between attempts though the same is asked."""


@dataclass(slots=True)
class AgentScope:
    """One run of an agent inside a handler's run. `id` is the same in every attempt; `tell` is told of its events."""

    ctx: Context
    id: str
    tell: Callable[[Any], Any] | None = None
    live: bool = False

    @property
    def replays(self) -> bool:
        """Whether the code around the steps is replayed, so that it has to be deterministic."""
        return self.ctx.component_type == "workflow"


SCOPE: ContextVar[AgentScope | None] = ContextVar("agnt5_agent_scope", default=None)
"""Between steps."""

LISTENER: ContextVar[AgentScope | None] = ContextVar("agnt5_agent_listener", default=None)
"""Inside the step of a model request."""

_counts: WeakKeyDictionary[Context, Counter[str]] = WeakKeyDictionary()


def current_context() -> Context:
    """The context of the handler that runs this agent, for what runs between steps: hooks, and tools that are no steps.

    Such a tool has `metadata={"agnt5": False}`; it may start children, wait for signals and ask people. Raises
    `WrongContextError` elsewhere, also inside of other tools: a step cannot ask for further steps.
    """
    scope = SCOPE.get()
    if scope is None:
        raise WrongContextError(
            "current_context(): expected to be called between the steps of DurableAgent.run(ctx, ...), found no such "
            "run here; a tool that needs the context has metadata={'agnt5': False}, and is no step itself then"
        )
    return scope.ctx


@contextmanager
def within(ctx: Context, id: str) -> Iterator[AgentScope]:  # noqa: A002 - one word for one thing
    """Make `ctx` what pydantic-ai's callbacks find."""
    scope = AgentScope(ctx, id)
    token = SCOPE.set(scope)
    try:
        # its graph iterates async generators, which a workflow's loop otherwise refuses
        with generators_kept():
            yield scope
    finally:
        SCOPE.reset(token)


@contextmanager
def outside(listener: AgentScope | None) -> Iterator[None]:
    """Inside a step: an agent that a tool runs is a part of that step."""
    scope, listens = SCOPE.set(None), LISTENER.set(listener)
    try:
        yield
    finally:
        LISTENER.reset(listens)
        SCOPE.reset(scope)


def scope_id(ctx: Context, agent: str, key: str | None, asked: Any) -> str:
    """A name for this run of the agent that later attempts give it too."""
    what = key or f"{agent}-{_digest(asked)}"
    counts = _counts.setdefault(ctx, Counter())
    counts[what] += 1
    return what if counts[what] == 1 else f"{what}.{counts[what]}"


def _digest(asked: Any) -> str:
    plain = _stable(to_jsonable_python(asked, fallback=lambda value: type(value).__qualname__))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stable(one) for name, one in value.items() if name not in _VOLATILE}
    return [_stable(one) for one in value] if isinstance(value, list) else value

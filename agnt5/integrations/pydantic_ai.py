"""pydantic-ai agents that survive crashes: each model request and each tool call is a recorded step of the run.

support = DurableAgent(Agent("openai:gpt-5", name="support", tools=[look_up]))

@function
async def answer(ctx: Context, question: str) -> str:
    return (await support.run(ctx, question)).output
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Generic, TypeVar

from pydantic_ai import AgentRunResult
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models import Model

from agnt5.contracts.errors import WrongContextError
from agnt5.integrations.pydantic_ai_chunks import chunks_of
from agnt5.integrations.pydantic_ai_engine import Agnt5Durability
from agnt5.integrations.pydantic_ai_scope import AgentScope, current_context, scope_id, within
from agnt5.sdk.context import Context

__all__ = ["Agnt5Durability", "DurableAgent", "current_context"]

DepsT = TypeVar("DepsT")
OutputT = TypeVar("OutputT")


class DurableAgent(Generic[DepsT, OutputT]):
    """A pydantic-ai agent whose runs inside handlers are recorded: `await DurableAgent(agent).run(ctx, prompt)`.

    The agent needs a name, and toolsets of its own (MCP servers and others) need an `id`. It may already have
    `Agnt5Durability()` among its capabilities, which is used then. `models` are further models that a run may
    choose by key, `name` stands for the agent's name in the names of steps.
    """

    def __init__(
        self,
        agent: AbstractAgent[DepsT, OutputT],
        *,
        models: Mapping[str, Model] | None = None,
        name: str | None = None,
    ) -> None:
        self.agent = agent
        self._added: list[AbstractCapability[Any]] = []
        if Agnt5Durability.from_agent(agent) is None:
            capability: Agnt5Durability[Any] = Agnt5Durability(models=models, name=name)
            capability.for_agent(agent)  # what cannot be made durable is told here, not in a run
            self._added.append(capability)
        self.name = name or agent.name or ""

    async def run(
        self, ctx: Context, user_prompt: Any = None, *, key: str | None = None, **options: Any
    ) -> AgentRunResult[OutputT]:
        """Run the agent as a part of the handler's run, and return pydantic-ai's result; `options` are `agent.run`'s.

        A model request is the step `llm:<model>`, a tool call the step `tool:<name>`: what is recorded is neither
        asked nor called again after a crash, in a retry, or in a replay. A crash between the end of a request and its
        record repeats that one. What a tool changes in `deps` is not recorded. In functions the requests of one agent
        run are told from those of another by the prompt and the history; give `key` where two runs that happen side
        by side have the same.
        """
        with self._scope(ctx, user_prompt, key, options):
            return await self._run(user_prompt, options)

    def stream(
        self, ctx: Context, user_prompt: Any = None, *, key: str | None = None, **options: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """As `run`, but an async generator of what happens, as it happens; in functions only.

        Chunks are `{"type": "text", "text"}`, `{"type": "tool_call", "id", "name", "arguments"}`,
        `{"type": "tool_result", "id", "name", "result"}`, and at last `{"type": "done", "result"}` with the output.
        A later attempt yields what is recorded at once, and goes on live. Raises `WrongContextError` in workflows.
        """
        if ctx.component_type == "workflow":
            raise WrongContextError(
                f"{self.name}.stream(ctx, ...): expected the context of a function, found the workflow {ctx.run_id}; "
                "workflow code is replayed and has nothing to stream, use run(ctx, ...) there"
            )
        return self._stream(ctx, user_prompt, key, options)

    async def _stream(
        self, ctx: Context, prompt: Any, key: str | None, options: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def tell(event: Any) -> None:
            for chunk in chunks_of(event):
                chunks.put_nowait(chunk)

        async def run() -> AgentRunResult[OutputT]:
            try:
                with self._scope(ctx, prompt, key, options) as scope:
                    scope.tell = tell
                    return await self._run(prompt, options)
            finally:
                chunks.put_nowait(None)

        task = asyncio.create_task(run())
        try:
            while (chunk := await chunks.get()) is not None:
                yield chunk
            yield {"type": "done", "result": (await task).output}
        finally:
            # nobody reads on: no further request is made for nobody
            task.cancel()
            await asyncio.wait([task])

    def _scope(
        self, ctx: Context, prompt: Any, key: str | None, options: dict[str, Any]
    ) -> contextlib.AbstractContextManager[AgentScope]:
        asked = [prompt, options.get("message_history"), options.get("deferred_tool_results")]
        return within(ctx, scope_id(ctx, self.name, key, asked))

    async def _run(self, prompt: Any, options: dict[str, Any]) -> AgentRunResult[OutputT]:
        more = [*(options.pop("capabilities", None) or ()), *self._added]
        return await self.agent.run(prompt, capabilities=more, **options)

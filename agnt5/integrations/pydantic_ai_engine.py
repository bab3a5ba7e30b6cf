"""agnt5 as a durable execution engine of pydantic-ai."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from pydantic_ai import AgentRunResult, RunContext
from pydantic_ai._utils import disable_threads
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.capabilities.abstract import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    CallableOperationBackend,
    DurabilityEngineSpec,
    DurableOperationId,
    JournalOperationNamer,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    conversation_id_from_run_id,
    record_durable_unit,
    replay_scope,
)
from pydantic_ai.durable_exec._operation_names import DurableInvocationName
from pydantic_ai.messages import AgentStreamEvent

from agnt5.integrations.pydantic_ai_chunks import of_a_model
from agnt5.integrations.pydantic_ai_scope import LISTENER, SCOPE, outside
from agnt5.sdk.keyed import keyed_step

DepsT = TypeVar("DepsT")
Config = dict[str, Any]


class StepNames(JournalOperationNamer):
    """Model requests and tool calls are named as everywhere in agnt5, all else as pydantic-ai proposes."""

    def operation_name(self, operation_id: DurableOperationId) -> str:
        """The name of a step without its tool."""
        if isinstance(operation_id, ModelRequestId):
            return f"llm:{operation_id.model_name}"
        return super().operation_name(operation_id)

    def invocation_name(self, operation_id: DurableOperationId, *, label: str | None) -> DurableInvocationName:
        """The name of a step."""
        if isinstance(operation_id, ToolsetCallToolId):
            return DurableInvocationName(f"tool:{label}")
        return super().invocation_name(operation_id, label=label)


class Steps(CallableOperationBackend[Config]):
    """Runs what pydantic-ai asks to be durable as steps of the current run."""

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: Config,
    ) -> object:
        """One step."""
        del config
        scope = SCOPE.get()
        assert scope is not None  # asked only where `in_durable_context`
        of_a_model = isinstance(operation_id, ModelRequestId)
        executed = False

        async def once() -> object:
            nonlocal executed
            executed = True
            with outside(scope if of_a_model else None):
                return await body()

        try:
            value = await keyed_step(scope.ctx, name, f"{scope.id}/{_place(cache_key)}", once)
        finally:
            if of_a_model:
                scope.live = executed
        record_durable_unit(executed=executed)
        return value


def _place(cache_key: tuple[object, ...]) -> str:
    """What tells this step from others of its name in one run of the agent."""
    for part in cache_key:
        if isinstance(part, RunContext):
            return part.tool_call_id or str(part.run_step)
    return ""


class Agnt5Durability(BaseDurabilityCapability[DepsT]):
    """The capability behind `DurableAgent`, to be given to an agent: `Agent(..., capabilities=[Agnt5Durability()])`.

    It does nothing outside of `DurableAgent(agent).run(ctx, ...)`: elsewhere the agent stays as it is.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="agnt5",
        durable_unit_noun="step",
        durable_container_noun="handler",
        codec=JSON_CODEC,
        # steps connect: what a workflow's loop opened could not be used on the worker's
        toolset_lifecycles={
            "function": "enter-outside-durable",
            "mcp": "enter-outside-durable",
            "dynamic": "enter-never",
        },
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key="agnt5",
    )

    @property
    def in_durable_context(self) -> bool:
        """Whether an agent runs as a part of a handler's run."""
        return SCOPE.get() is not None

    def get_durable_operation_backend(self) -> Steps:
        """What makes steps."""
        config = RoleBasedOperationConfig[Config](model={}, event={}, capability={}, tool={}, resolve_tool=self._of)
        return Steps(namer=StepNames(self.name), config=config)

    def _of(self, _operation: DurableOperationId, tool: Any, tool_name: str) -> Any:
        return self._build_resolve_tool_config({})(tool, tool_name)

    def get_default_run_id(self) -> str | None:
        """The same in every attempt."""
        scope = SCOPE.get()
        return None if scope is None else f"{scope.ctx.run_id}/{scope.id}"

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """The same in every attempt."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        """The time as the run sees it."""
        scope = SCOPE.get()
        return None if scope is None else scope.ctx.now

    async def wrap_run(self, ctx: RunContext[DepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Keep replayed work out of telemetry, and threads out of workflows."""
        scope = SCOPE.get()
        if scope is None:
            return await handler()
        with replay_scope():
            if not scope.replays:
                return await super().wrap_run(ctx, handler=handler)
            with disable_threads():
                return await super().wrap_run(ctx, handler=handler)

    # ---- events

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """Whether anybody listens."""
        scope = SCOPE.get()
        return super().has_wrap_run_event_stream or (scope is not None and scope.tell is not None)

    def _model_stream_event_handler(self) -> EventStreamHandler[DepsT] | None:
        given, scope = super()._model_stream_event_handler(), LISTENER.get()
        if scope is None or (tell := scope.tell) is None:
            return given

        async def told(stream: AsyncIterable[AgentStreamEvent]) -> AsyncIterator[AgentStreamEvent]:
            async for event in stream:
                tell(event)
                yield event

        async def handle(ctx: RunContext[DepsT], stream: AsyncIterable[AgentStreamEvent]) -> None:
            events = told(stream)
            if given is not None:
                await given(ctx, events)
            async for _ in events:
                pass

        return handle

    async def wrap_run_event_stream(
        self, ctx: RunContext[DepsT], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterator[AgentStreamEvent]:
        """Tell of what was not told live: tools, and what models said in an earlier attempt."""
        scope = SCOPE.get()
        async for event in super().wrap_run_event_stream(ctx, stream=stream):
            if scope is not None and scope.tell is not None and not (scope.live and of_a_model(event)):
                scope.tell(event)
            yield event

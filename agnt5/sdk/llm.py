"""`ctx.llm`: language models, whose answers are recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from agnt5.contracts.budgets import Budget
from agnt5.llm.responses import LLMChunk, LLMResponse
from agnt5.llm.tools import Tool
from agnt5.sdk.port import CommandPort, HostPort, RunInfo

if TYPE_CHECKING:
    from agnt5.sdk.context import Context
    from agnt5.sdk.tool_loop import ToolsResponse

Prompt = Any
"""Text, a `SecretStr`, or a list of messages in OpenAI's form."""


class LLMStream(Awaitable["LLMStream"], AsyncIterator[LLMChunk]):
    """An answer as it comes. `async for chunk in await ctx.llm.stream(...)`; the `await` may be left out."""


class LLM:
    """`ctx.llm`. Made by the context."""

    def __init__(self, info: RunInfo, port: CommandPort, host: HostPort, ctx: Context) -> None:
        self._info = info
        self._port = port
        self._host = host
        self._ctx = ctx

    async def generate(
        self,
        prompt: Prompt,
        model: str | Sequence[str],
        *,
        schema: dict[str, Any] | type[BaseModel] | None = None,
        tools: Sequence[Tool | dict[str, Any]] = (),
        system: str | None = None,
        key: str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        budget: Budget | Sequence[Budget] = (),
        **params: Any,
    ) -> LLMResponse:
        """Ask a model and record its answer."""
        raise NotImplementedError

    def stream(self, prompt: Prompt, model: str | Sequence[str], **options: Any) -> LLMStream:
        """Ask a model and get its answer as it comes."""
        raise NotImplementedError

    async def run_tools(  # noqa: PLR0913 - what there is to say about a loop
        self,
        prompt: Prompt,
        model: str | Sequence[str],
        tools: Iterable[Any] = (),
        *,
        max_rounds: int = 10,
        approve: Iterable[str] = (),
        schema: dict[str, Any] | type[BaseModel] | None = None,
        budget: Budget | Sequence[Budget] = (),
        approval_timeout: timedelta | float | None = None,
        required_roles: Iterable[str] | None = None,
        system: str | None = None,
        key: str | None = None,
        **params: Any,
    ) -> ToolsResponse:
        """Ask a model, call the tools that it asks for, tell it their results, until it answers without a call.

        Each answer is recorded as `generate` does, and each call as a step `tool:<name>`: after a crash nothing that
        was recorded is asked or called again. `tools` are what `ctx.tools.register` returns or takes, or names of
        registered tools; the calls of one answer run side by side (at most 64, the model is told of others). Unknown
        tools, arguments that do not fit, and what a tool raises go to the model as errors, which it can act on; what
        a tool raises of `NonRetryableError` or of agnt5's own errors (a wrong context, a budget) ends the loop.
        Results of more than 100,000 characters are cut, and the model is told.

        `approve` names tools whose calls people have to approve first, as those made with `approval=True`: the
        request is called `tool:<name>`, its payload is `{tool, arguments, call_id}`, and `approval_timeout` and
        `required_roles` are those of `ctx.human.approval`. A call that is rejected, or that nobody approves in time,
        is not made, and the model is told by whom and why. Workflows only.

        `schema` is what the last answer has to fit, as in `generate`, whose other options are taken too. A
        `tool_choice` that forces a call is for the first answer only. Raises what `generate` raises, `ToolLoopError`
        when the model still asks for tools in answer number `max_rounds`, `InvalidInputError` and `WrongContextError`
        (an approval outside of a workflow) before anything is asked.
        """
        from agnt5.sdk import tool_loop  # noqa: PLC0415 - only those who run tools pay for it

        return await tool_loop.run_tools(
            self._ctx, prompt, model, tools, max_rounds=max_rounds, approve=approve, approval_timeout=approval_timeout,
            required_roles=required_roles, system=system, key=key, ask={"schema": schema, "budget": budget, **params},
        )  # fmt: skip

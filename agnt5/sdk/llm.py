"""`ctx.llm`: language models, whose answers are recorded."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from agnt5.contracts.budgets import Budget, ScopedBudget, Spent, applicable
from agnt5.contracts.errors import (
    InvalidInputError,
    LLMError,
    RunFailedError,
    StructuredOutputError,
    model_error,
)
from agnt5.forms import schema_of
from agnt5.llm import provider, requests, spending
from agnt5.llm.failures import masked
from agnt5.llm.messages import messages_of
from agnt5.llm.requests import Request
from agnt5.llm.responses import LLMChunk, LLMResponse
from agnt5.llm.retrying import DURABLE_WAIT_S, put_off_s
from agnt5.llm.structured import Wanted, complaint
from agnt5.llm.tools import Tool
from agnt5.sdk.llm_stream import LLMStream, Relay
from agnt5.sdk.port import CommandPort, HostPort, ModelCall, RunInfo

if TYPE_CHECKING:
    from agnt5.sdk.context import Context
    from agnt5.sdk.tool_loop import ToolsResponse

Prompt = str | SecretStr | Sequence[Mapping[str, Any]]
"""Text, a `SecretStr`, or a list of messages in OpenAI's form."""


WAITS = "agnt5.llm.waits"
"""The change by which workflows wait for providers, as `ctx.patched` names it: runs from before it go on without."""


class Question:
    """One call of `generate` or `stream`, checked: what is asked, and how its answer is recorded and read."""

    __slots__ = ("budgets", "key", "request", "wanted")

    def __init__(
        self, request: Request, key: str | None, wanted: Wanted | None, budgets: tuple[ScopedBudget, ...]
    ) -> None:
        self.request = request
        self.key = key
        self.wanted = wanted
        self.budgets = budgets

    @property
    def step(self) -> str:
        """The name of its step."""
        return f"llm:{self.request.models[0]}"

    def but(self, **values: Any) -> Question:
        """The same with other values of its request."""
        return Question(replace(self.request, **values), self.key, self.wanted, self.budgets)

    def corrected(self, answer: LLMResponse, fault: str) -> Question:
        """The question that a wrong answer leads to."""
        messages = [*self.request.messages, answer.message(), complaint(fault)]
        key = None if self.key is None else f"{self.key}.repair"
        return Question(replace(self.request, messages=messages), key, self.wanted, self.budgets)


class LLM:
    """`ctx.llm`. Made by the context."""

    def __init__(self, info: RunInfo, port: CommandPort, host: HostPort, ctx: Context) -> None:
        self._info = info
        self._port = port
        self._host = host
        self._ctx = ctx
        self._asked: Counter[tuple[str, str]] = Counter()

    async def generate(  # noqa: PLR0913 - what there is to say about a question
        self,
        prompt: Prompt,
        model: str | Sequence[str],
        *,
        schema: dict[str, Any] | type[BaseModel] | None = None,
        tools: Iterable[Any] = (),
        system: str | SecretStr | None = None,
        key: str | None = None,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 - of each try, not of this call
        retries: int | None = None,
        budget: Budget | Sequence[Budget] = (),
        **params: Any,
    ) -> LLMResponse:
        """Ask a model and record its answer: no retry, crash or replay asks again for it.

        `prompt` is text, a `SecretStr`, or a list of messages in OpenAI's form (also with images and tool calls), in
        which texts may be `SecretStr`: those reach the provider only. `system` comes before them. `model` is a name as
        LiteLLM has it, or several: each is asked after the one before has refused or is out of retries. `timeout`
        (seconds or a timedelta, 120 s by default) is for each try; a model is asked again up to `retries` times (3)
        after rate limits, errors of its server, timeouts and broken answers, as late as the provider wants it; where
        that is long, a workflow waits by a timer, up to `retries` times, and nothing of it is held meanwhile.
        Other arguments go to LiteLLM: `temperature`, `max_tokens`, `tool_choice`, `seed`, `api_base`, `api_key`...

        With `schema` (a JSON Schema or a pydantic model class) `response.object` is the answer as data that fits it; a
        wrong answer goes back once with what is wrong (usage and cost are those of both). `tools` are what
        `ctx.tools.register` gives or takes, or descriptions in OpenAI's form; the model's calls are in
        `response.tool_calls`, `ctx.llm.run_tools` makes them.

        The answer is a step `llm:<model>`. A later attempt of a function finds it by what was asked, or by `key`.
        `budget` limits what is spent, beside the run's own budgets.

        Raises `LLMError` when no model answers (a later attempt of the run asks again), `LLMRequestError` when all
        refuse what is asked, `StructuredOutputError`, `BudgetExceededError`, and `InvalidInputError` before anything
        is asked. A crash after an answer has come and before it is recorded asks again.
        """
        question = self._question(
            prompt, model, "ctx.llm.generate", schema=schema, tools=tools, system=system, key=key, timeout=timeout,
            retries=retries, budget=budget, params=params,
        )  # fmt: skip
        answer = await self._answer(question)
        return await self._fitting(answer, question)

    def stream(  # noqa: PLR0913 - as above
        self,
        prompt: Prompt,
        model: str | Sequence[str],
        *,
        schema: dict[str, Any] | type[BaseModel] | None = None,
        tools: Iterable[Any] = (),
        system: str | SecretStr | None = None,
        key: str | None = None,
        timeout: timedelta | float | None = None,
        retries: int | None = None,
        budget: Budget | Sequence[Budget] = (),
        **params: Any,
    ) -> LLMStream:
        """Ask a model and get its answer as it comes: `async for chunk in await ctx.llm.stream(prompt, model)`.

        Takes what `generate` takes; `timeout` is for the first part and then for each next one. Chunks have `text`,
        the last one has `response`, the whole answer, which is recorded by then: a later attempt gets its text as one
        chunk. A workflow gets the whole answer as one chunk too, since it is replayed. The `await` may be left out.
        Who leaves early closes the connection when the stream is dropped or closed (`aclose`, `async with`); nothing
        is recorded then.

        Raises as `generate` does; a connection that breaks in mid-stream is an `LLMError` at once, since somebody may
        have read the beginning. An answer that does not fit `schema` is not corrected.
        """
        question = self._question(
            prompt, model, "ctx.llm.stream", schema=schema, tools=tools, system=system, key=key, timeout=timeout,
            retries=retries, budget=budget, params=params,
        )  # fmt: skip
        if self._info.kind == "workflow":
            return LLMStream(lambda: self._step(question, self._whole(question)), self._read(question), None)
        relay = Relay()
        return LLMStream(lambda: self._step(question, self._live(question, relay)), self._read(question), relay)

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
        system: str | SecretStr | None = None,
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

    # ---- inside

    def _question(  # noqa: PLR0913 - as above
        self, prompt: Any, model: Any, where: str, *, schema: Any, tools: Any, system: Any, key: Any, timeout: Any,
        retries: Any, budget: Any, params: dict[str, Any],
    ) -> Question:  # fmt: skip
        json_schema, model_class = schema_of(schema, f"{where}: schema")
        known, builtins = self._tools(tools, where)
        request = Request(
            models=requests.checked_models(model, where),
            messages=messages_of(prompt, system, where),
            tools=known,
            builtins=builtins,
            schema=json_schema,
            params=requests.checked_params(params, where),
            timeout_s=requests.checked_timeout(timeout, where),
            retries=requests.checked_retries(retries, where),
        )
        wanted = None if json_schema is None else Wanted(json_schema, model_class)
        if not isinstance(budget, Budget | Sequence):
            raise InvalidInputError(f"{where}: budget: an agnt5.Budget or a list of them is needed, found {budget!r}")
        budgets = applicable(self._info.tree, self._info.headers, budget)
        return Question(request, requests.checked_key(key, where), wanted, budgets)

    def _tools(self, tools: Any, where: str) -> tuple[tuple[Tool, ...], tuple[dict[str, Any], ...]]:
        if isinstance(tools, str | Tool | Mapping) or not isinstance(tools, Iterable):
            raise InvalidInputError(f"{where}: tools: expected a list, found a {type(tools).__name__}")
        known: list[Tool] = []
        builtins: list[dict[str, Any]] = []
        for index, one in enumerate(tools):
            made = self._tool(one, f"{where}: tools[{index}]")
            if isinstance(made, Tool):
                known.append(made)
            else:
                builtins.append(made)
        return tuple(known), tuple(builtins)

    def _tool(self, given: Any, where: str) -> Tool | dict[str, Any]:
        if isinstance(given, Tool):
            return given
        if isinstance(given, Mapping):
            return requests.described(given, where)
        from agnt5.sdk.tools import tool_of  # noqa: PLC0415 - for what is not a tool yet

        return self._ctx.tools[given] if isinstance(given, str) and "." not in given else tool_of(given)

    async def _answer(self, question: Question) -> LLMResponse:
        durable, waits = self._info.kind == "workflow", 0
        if durable and len(question.request.models) == 1:  # of several, the next is asked for what does not wait
            question = question.but(patience_s=DURABLE_WAIT_S)
        while True:
            try:
                return LLMResponse.model_validate(await self._step(question, self._whole(question)))
            except RunFailedError as failed:
                error = model_error(failed) or failed
            wait_s = None
            if durable and waits < question.request.retries and isinstance(error, LLMError):
                wait_s = put_off_s(error, question.request.patience_s)
            if wait_s is None or not self._ctx.patched(WAITS):
                raise error from None
            waits += 1
            await self._port.start_timer(self._port.now_ms() + self._spread(wait_s), question.step)

    def _spread(self, wait_s: float) -> int:
        """Milliseconds to wait, a little longer by the run's id: what was refused together comes back one by one."""
        return round(wait_s * (1000 + zlib.crc32(self._info.run_id.encode()) % 50))

    async def _fitting(self, answer: LLMResponse, question: Question) -> LLMResponse:
        if question.wanted is None or answer.tool_calls:
            return answer
        value, fault = question.wanted.read(answer.text)
        if not fault:
            return answer.model_copy(update={"object": value})
        second = await self._answer(question.corrected(answer, fault))
        both = {
            "usage": answer.usage + second.usage,
            "cost": None if answer.cost is None or second.cost is None else answer.cost + second.cost,
        }
        value, fault = question.wanted.read(second.text)
        if fault:
            raise _not_fitting(question, second, fault, "also after it was told what is wrong")
        return second.model_copy(update={**both, "object": value})

    def _read(self, question: Question) -> Callable[[Any], LLMResponse]:
        """How the recorded answer of a stream is read."""

        def read(data: Any) -> LLMResponse:
            answer = LLMResponse.model_validate(data)
            if question.wanted is None or answer.tool_calls:
                return answer
            value, fault = question.wanted.read(answer.text)
            if fault:
                raise _not_fitting(question, answer, fault, "and streams are not corrected")
            return answer.model_copy(update={"object": value})

        return read

    def _step(self, question: Question, fn: Callable[[], Coroutine[Any, Any, LLMResponse]]) -> asyncio.Future[Any]:
        """Have a question asked as a step, within its budgets."""
        durable = self._info.kind == "workflow"  # there the order of steps tells them apart
        name, key = question.step, question.key or ("" if durable else question.request.digest())
        if question.budgets:
            self._asked[name, key] += 1
            scope = getattr(self._port, "scope", "")
            operation = f"{self._info.run_id}/{self._info.generation}/{scope}/{name}/{key}/{self._asked[name, key]}"
            fn = _within_budgets(self._host, question, operation, fn)
        return self._port.step(name, fn, key)

    def _whole(self, question: Question) -> Callable[[], Coroutine[Any, Any, LLMResponse]]:
        async def whole() -> LLMResponse:
            call = self._call(question)
            with self._host.asks(call):
                call.response = await provider.ask(question.request)
            return call.response

        return whole

    def _live(self, question: Question, relay: Relay) -> Callable[[], Coroutine[Any, Any, LLMResponse]]:
        """The step of a stream: what comes goes to its reader, the whole is its value."""

        async def live() -> LLMResponse:
            call = self._call(question, streamed=True)
            with self._host.asks(call):
                call.response = await _relayed(call, relay)
            return call.response

        return live

    def _call(self, question: Question, *, streamed: bool = False) -> ModelCall:
        now_s = asyncio.get_running_loop().time()
        return ModelCall(run=self._info, request=question.request, begun_s=now_s, streamed=streamed)


async def _relayed(call: ModelCall, relay: Relay) -> LLMResponse:
    """Pass a streamed answer on to its reader, and return the whole of it."""
    chunks = provider.stream(call.request)
    response = LLMResponse()
    try:
        async for chunk in chunks:
            if call.first_chunk_s is None:
                call.first_chunk_s = asyncio.get_running_loop().time()
            if chunk.response is not None:
                response = chunk.response
            if chunk.text:
                await relay.put(LLMChunk(text=chunk.text))
    finally:
        await chunks.aclose()
    return response


def _within_budgets(
    host: HostPort, question: Question, operation: str, fn: Callable[[], Coroutine[Any, Any, LLMResponse]]
) -> Callable[[], Coroutine[Any, Any, LLMResponse]]:
    async def within() -> LLMResponse:
        expected = await spending.estimate(question.request)
        reserved = await host.reserve(question.budgets, operation, expected)
        taken = Spent(requests=1, model=expected.model)
        try:
            response = await fn()
            taken = spending.spent(response)
        except asyncio.CancelledError:
            taken = expected  # the provider may have worked on, and will have it paid
            raise
        finally:
            await host.settle(reserved, taken)
        return response

    return within


def _not_fitting(question: Question, answer: LLMResponse, fault: str, why: str) -> StructuredOutputError:
    cut = "; it was cut off, give a higher max_tokens=" if answer.finish_reason == "length" else ""
    told = masked(fault, question.request.secrets())
    return StructuredOutputError(
        f"model {answer.model}: the answer does not fit the schema, {why}: {told}{cut}", text=answer.text
    )

"""`Context`: what every handler gets as its first argument. `contexts.py` has its kinds."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn, overload

from agnt5.contracts.clock import at_ms
from agnt5.registry import Handler
from agnt5.retry import RetryPolicy
from agnt5.sdk import coordination, mapping, orchestration
from agnt5.sdk.configuration import Config
from agnt5.sdk.coordination import Signals
from agnt5.sdk.entities import EntityType
from agnt5.sdk.entity_calls import EntityProxy
from agnt5.sdk.handles import SpawnHandle, TaskHandle
from agnt5.sdk.human import Human
from agnt5.sdk.observability import RunLog, fields_for
from agnt5.sdk.orchestration import (
    Call,
    StepResult,
    call_of,
)
from agnt5.sdk.port import CommandPort, HostPort, RunInfo, TaskRef
from agnt5.sdk.properties import Headers, step_id
from agnt5.sdk.spans import TraceSpans
from agnt5.sdk.wrong import only_entities, only_workflows

if TYPE_CHECKING:
    from agnt5.sdk.llm import LLM
    from agnt5.sdk.metrics import Metrics
    from agnt5.sdk.secrets import Secrets
    from agnt5.sdk.tools import Tools


class Context:
    """The execution environment of a handler: orchestration, coordination, observability, its own properties.

    Use it for annotations; the runtime makes the instances. What a kind of handler does not have raises
    `WrongContextError` that says what to use instead.
    """

    def __init__(self, info: RunInfo, port: CommandPort, host: HostPort, signals: Signals | None = None) -> None:
        self._info = info
        self._port = port
        self._host = host
        self._signals = Signals(port) if signals is None else signals
        self._headers = Headers(info.headers)
        self._log: RunLog | None = None
        self._config: Config | None = None
        self._human = Human(info)
        self._place = mapping.Place(port)
        self._llm: LLM | None = None
        self._tools: Tools | None = None
        self._metrics: Metrics | None = None
        self._span_numbers = count(1)
        self._secrets: Secrets | None = None

    # ---- orchestration

    @overload
    def task(
        self,
        service_name: str,
        handler_name: str = ...,
        input: Any = ...,
        *,
        default: Any = ...,
        key: str | None = None,
        timeout: timedelta | float | None = None,
        retries: RetryPolicy | int | None = None,
        priority: int | None = None,
    ) -> TaskHandle: ...
    @overload
    def task(
        self,
        service_name: Callable[..., Any] | Handler,
        *args: Any,
        default: Any = ...,
        key: str | None = None,
        timeout: timedelta | float | None = None,
        retries: RetryPolicy | int | None = None,
        priority: int | None = None,
        **kwargs: Any,
    ) -> TaskHandle: ...
    def task(self, service_name: Any, *_args: Any, **_kwargs: Any) -> TaskHandle:  # noqa: ARG002
        """Start a child run and return its handle, to be awaited for the result. Workflows only.

        `ctx.task("analytics", "process_data", input={...})`, or with a decorated handler and its arguments
        `ctx.task(process_data, dataset="users")`. It starts when called; awaiting is not required. `timeout`
        bounds each attempt (timedelta or seconds), `retries` and `priority` override the handler's own.

        Awaiting raises `TaskFailedError` (or `RunTimeoutError`, `WorkerLostError`) when the child has finally
        failed, unless `default` is given, which is the value then. A cancelled child raises
        `RunCancelledError`, whatever the default. Cancelling the wait cancels the child. With `key`, a second
        call with the same key is the same child. After a crash the child is neither lost nor started twice.
        """
        raise only_workflows("task", self._info)

    def spawn(
        self, fn: Callable[..., Any] | Handler | str, /, *args: Any, key: str | None = None, **kwargs: Any
    ) -> SpawnHandle:
        """Start a child run without waiting, as `fn(ctx, *args, **kwargs)`; `fn` is a handler or its address.

        Returns a handle with `id`, `result()`, `status()` and `cancel()`, which can also be awaited. The same
        `key` in one run is the same child, also in a later attempt; without one the order of calls counts.
        Raises `InvalidInputError` for arguments that the handler does not take.
        """
        call = call_of(fn, args, kwargs, check=self._checks_types)
        if key is None and not self._keeps_order:
            key = mapping.place_in(self._place).next_child()
        ref = self._commands("spawn").start_task(call.handler, call.data(), key=key)
        return SpawnHandle(self._port, ref, coerce=call.coerce, waits_for=self._waits_for)

    def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> StepResult:
        """Run `fn(*args, **kwargs)` once and record its value, which later attempts and replays get instead.

        `fn` is sync or async, or a lambda that returns a coroutine. It starts when called; await the result.
        The value is JSON (at most `AGNT5_PAYLOAD_LIMIT` bytes) and comes back in the form of `fn`'s return
        annotation, where it has one. A crash between the end of `fn` and the record runs it again: at least
        once, recorded once. What `fn` raises comes out of a function's step as it is; a workflow gets
        `StepFailedError`.
        """
        item = mapping.place_in(self._place).name
        return orchestration.start_step(self._commands("step"), name, fn, args, kwargs, key=item)

    async def parallel(self, *awaitables: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
        """Wait for all, and return their results in order.

        Raises the first error in order, after all have ended; with `return_exceptions` errors are in the list.
        """
        return await orchestration.parallel(awaitables, return_exceptions=return_exceptions)

    async def gather(self, **awaitables: Awaitable[Any]) -> dict[str, Any]:
        """As `parallel`, with names: returns a dict of the results, in the order of the arguments."""
        results = await orchestration.parallel(tuple(awaitables.values()), return_exceptions=False)
        return dict(zip(awaitables, results, strict=True))

    async def map(
        self,
        fn: Callable[..., Any] | Handler | str,
        items: Iterable[Any] | AsyncIterable[Any],
        concurrency: int = 20,
        *,
        key: Callable[[Any], str] | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Do `fn` for every item, at most `concurrency` at a time, and return the results in the order of `items`.

        `fn` is a handler (or its address), and each item is a child run: a dict whose keys are the handler's
        parameters is spread over them, else its one parameter gets the item whole. Or `fn` is any function of one item
        that returns what can be awaited, and is called in this run:
        `ctx.map(lambda text: ctx.llm.generate(f"Summarize: {text}", model="gpt-4o-mini"), texts, concurrency=50)`.

        When an item fails no further one is begun, those that are open go on to their end, and the first error in
        order is raised; with `return_exceptions` all are done, and errors are in the list. Raises `InvalidInputError`
        for more than 4,500 items (9,000 where `fn` is called in this run), whose entries this run's journal would not
        hold, for sets, which have no order, and for functions whose value cannot be awaited.

        After a crash, and in a function's next attempt, what is done is found again: an item's child by its place and
        content, or by what `key(item)` says, should the order of items change between attempts. The run's timeline
        shows how many are done. Where the wait is cancelled, nothing further is begun; a workflow's open children are
        cancelled, those of a function go on for its next attempt, unless the run itself is cancelled.
        """
        run = mapping.Run(
            place=self._place, start=self._start_item, attempt=self.attempt, by_content=not self._keeps_order
        )
        return await mapping.map_items(run, fn, items, concurrency, key=key, return_exceptions=return_exceptions)

    def continue_as_new(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """End this run's journal and begin the next one, as if called with these arguments. Workflows only.

        The run keeps its id, its place in its tree and the signals that it has not consumed.
        """
        raise only_workflows("continue_as_new", self._info)

    def patched(self, _change: str, /) -> bool:
        """True where a run may take the changed code: new runs, and old ones that have not come this far.

        Workflows only. `if ctx.patched("2026-06-tax"): new() else: old()` keeps open runs on their old path.
        """
        raise only_workflows("patched", self._info)

    # ---- state of entities

    def get(self, key: str, default: Any = None) -> Coroutine[Any, Any, Any]:  # noqa: ARG002
        """`await ctx.get(key, default=None)`: a copy of a value of the entity's state. Methods of entities only.

        Sees what this call has set before. The value is in its JSON form; what is done to it changes nothing
        until it is set.
        """
        raise only_entities("get", self._info)

    def set(self, key: str, value: Any) -> None:  # noqa: ARG002
        """Set a value of the entity's state, as it is now, in its JSON form. Write methods of entities only.

        It is committed together with the method's result: a method that fails, crashes or is cancelled changes
        nothing. Keys are text of at most 200 characters. Raises `SerializationError`, `PayloadTooLargeError`, and
        `WrongContextError` in a read method.
        """
        raise only_entities("set", self._info)

    def delete(self, key: str) -> None:  # noqa: ARG002
        """Delete a key of the entity's state; nothing happens if it is not set. Write methods of entities only."""
        raise only_entities("delete", self._info)

    def clear(self) -> None:
        """Delete the whole state of the entity. Write methods of entities only."""
        raise only_entities("clear", self._info)

    def keys(self) -> Coroutine[Any, Any, list[str]]:
        """`await ctx.keys()`: the keys that are set in the entity's state, sorted. Methods of entities only."""
        raise only_entities("keys", self._info)

    @property
    def state(self) -> Any:
        """The state as an object of the entity type's state model. Methods of entities only.

        Change its attributes; what differs when the method returns is committed with its result, if it fits the
        model. Fields that were never set have their defaults.
        """
        raise only_entities("state", self._info)

    def entity(self, entity_type: EntityType | type | str, key: str) -> EntityProxy:
        """An entity, to be called: `await ctx.entity("ChatAgent", "c-1").send_message("hi")`.

        `entity_type` is its name, what `entity(...)` returned, or a class that is decorated with `@entity`. A call
        starts when it is made, and returns a handle as `ctx.task` does in workflows and `ctx.spawn` elsewhere. It
        happens once, also when this run crashes in between. Awaiting raises `TaskFailedError` when the method finally
        failed, and `EntityDeadlockError` when this run, or one that it descends from, holds that entity's lock.
        Raises `InvalidInputError` for arguments or a method that the type does not have.
        """
        return EntityProxy(entity_type, key, self._call_entity, check=self._checks_types)

    # ---- coordination

    @property
    def signal(self) -> Signals:
        """`await ctx.signal(name, timeout_ms=None, default=None)` waits (workflows only); `.emit(...)` sends.

        `await ctx.signal.emit(name, payload, target_workflow_id=...)` works in every handler.
        """
        return self._signals

    async def timer(self, delay_ms: int | None = None, cron: str | None = None, timezone: str | None = None) -> None:
        """Wait `delay_ms` milliseconds, or until the cron expression next fires in `timezone` (default UTC).

        Durable: it holds no worker, and its time stands through any restart. Raises `InvalidInputError` for a
        negative delay, a bad expression or an unknown time zone.
        """
        await coordination.timer(self._commands("timer"), delay_ms=delay_ms, cron=cron, timezone=timezone)

    async def sleep(self, seconds: timedelta | float) -> None:
        """Wait for a number of seconds or a timedelta. Durable as `timer`."""
        await coordination.sleep(self._commands("sleep"), seconds)

    @property
    def human(self) -> Human:
        """`await ctx.human.approval(name, ...)` asks people for a decision and waits for it. Workflows only."""
        return self._human

    # ---- language models

    @property
    def llm(self) -> LLM:
        """Language models: `await ctx.llm.generate(prompt, model)`, `ctx.llm.stream(...)`, `ctx.llm.run_tools(...)`.

        Answers are recorded: neither a retry, a crash nor a replay asks again for one.
        """
        if self._llm is None:
            from agnt5.sdk.llm import LLM  # noqa: PLC0415 - only handlers that ask a model pay for it

            self._llm = LLM(self._info, self._port, self._host, self)
        return self._llm

    @property
    def tools(self) -> Tools:
        """What models may call: `ctx.tools.register(name, handler)`, `await ctx.tools.handler(name)(**arguments)`."""
        if self._tools is None:
            from agnt5.sdk.tools import Tools  # noqa: PLC0415 - as above

            self._tools = Tools(self)
        return self._tools

    # ---- time and chance

    def now(self) -> datetime:
        """The time in UTC, aware. In a workflow it replays the same: the time of what the code reacts to."""
        return at_ms(self._port.now_ms())

    def random(self) -> random.Random:
        """A source of random numbers. In a workflow it replays the same."""
        return random.Random()  # noqa: S311 - not for secrets

    def uuid(self) -> uuid.UUID:
        """A random UUID. In a workflow it replays the same."""
        return uuid.uuid4()

    # ---- observability

    def trace_span(self) -> TraceSpans:
        """Spans of the handler's own: `with ctx.trace_span().start("charge", service="payments") as span:`.

        They are below the run's attempt or step in its trace, and silent while a workflow is replayed. Where no spans
        are made, they cost next to nothing.
        """
        return TraceSpans(self._info, self._port, self._span_numbers if self._keeps_order else None)

    def log(self) -> RunLog:
        """A standard logger, `agnt5.run.<service>.<handler>`; its records carry the run's fields and those of `extra=`.

        Silent while a workflow is replayed. See `RunLog`.
        """
        if self._log is None:
            self._log = RunLog(self._info.handler, fields_for(self._info), lambda: self._port.replaying)
        return self._log

    def metrics(self) -> Metrics:
        """Metrics for Prometheus: `.increment(name)`, `.observe(name, value)`, `.gauge(...)`, `.timing(...)`.

        Labels are keyword arguments. Silent while a workflow is replayed; a later attempt of a function counts again.
        """
        if self._metrics is None:
            from agnt5.sdk.metrics import Metrics  # noqa: PLC0415 - only handlers that count pay for it

            self._metrics = Metrics(lambda: self._port.replaying)
        return self._metrics

    # ---- configuration

    def secrets(self) -> Secrets:
        """Secrets: `ctx.secrets().get("openai_api_key")`, from the environment, files or a provider.

        What was read is masked wherever it would be logged or recorded. In a workflow the value is live, not replayed.
        """
        if self._secrets is None:
            from agnt5.sdk.secrets import Secrets  # noqa: PLC0415 - only handlers that read secrets pay for it

            self._secrets = Secrets(self._host.secrets)
        return self._secrets

    def headers(self) -> Mapping[str, str]:
        """The request headers that the client set, inherited from parent to child; names in any case."""
        return self._headers

    def config(self) -> Config:
        """Config values and feature flags: `ctx.config().get("new_tax", default=False)`, `.variant("experiment")`.

        Redis (`agnt5 config set`) comes before the environment (`AGNT5_FLAG_<KEY>`), that before the default. In a
        workflow what was read is recorded.
        """
        if self._config is None:
            self._config = self._make_config()
        return self._config

    # ---- properties

    @property
    def run_id(self) -> str:
        """The run's id, which is its Celery task id too."""
        return self._info.run_id

    @property
    def step_id(self) -> str | None:
        """Inside `ctx.step` the step's name, else the run's command number or key in its parent; None in a root."""
        return step_id(self._info.run_id)

    @property
    def attempt(self) -> int:
        """How often the run has been tried before: 0 on the first try."""
        return self._info.attempt

    @property
    def component_type(self) -> str:
        """What the handler is: "function", "workflow" or "entity"."""
        return str(self._info.kind)

    @property
    def object_id(self) -> str | None:
        """The entity's key; None outside entities."""
        return self._info.object_id

    @property
    def method_name(self) -> str | None:
        """The entity's method; None outside entities."""
        return self._info.method_name

    # ---- inside

    _checks_types = True
    _keeps_order = False
    _waits_for: Callable[[TaskRef], None] | None = None

    def _commands(self, called: str) -> CommandPort:
        del called
        return self._port

    def _start_item(self, call: Call, key: str) -> Awaitable[Any]:
        """Start an item of a map; its input is JSON data already."""
        ref = self._port.start_task(call.handler, call.input, key=key)
        return SpawnHandle(self._port, ref, coerce=call.coerce, waits_for=self._waits_for)

    def _call_entity(self, call: Call, entity: str, key: str = "") -> TaskHandle | SpawnHandle:
        key = key or mapping.place_in(self._place).name
        ref = self._commands("entity").call_entity(call.handler, entity, call.data(), key=key)
        return SpawnHandle(self._port, ref, coerce=call.coerce, waits_for=self._waits_for)

    def _make_config(self) -> Config:
        return Config(self._info, self._host.flags, self._headers)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._info.handler} {self._info.run_id}>"

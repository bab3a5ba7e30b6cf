"""Runs context code: on the real replay machine for workflows, on a small recording port for functions."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from agnt5 import codec, function, workflow
from agnt5.contracts.budgets import Reserved
from agnt5.contracts.flags import Found, Question, read_rule
from agnt5.registry import isolated
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev
from agnt5.replay.journal import event_of
from agnt5.replay.machine import Machine
from agnt5.replay.outcomes import Completed
from agnt5.runtime.configuration import from_environment
from agnt5.sdk.contexts import EntityContext, FunctionContext, WorkflowContext
from agnt5.sdk.port import RunInfo
from agnt5.sdk.state import StateBuffer

T0 = 1_790_000_000_000
ERROR = {"type": "ValueError", "message": "no", "traceback": "", "where": "svc.h"}

RECORD = {
    cmd.StartTask: lambda c: ev.TaskScheduled(seq=c.seq, handler=c.handler, id=c.id),
    cmd.CancelTask: lambda c: ev.TaskCancelRequested(seq=c.seq, target=c.target),
    cmd.StartTimer: lambda c: ev.TimerStarted(seq=c.seq, due_ms=c.due_ms, name=c.name),
    cmd.AwaitSignal: lambda c: ev.SignalAwaited(seq=c.seq, name=c.name),
    cmd.EmitSignal: lambda c: ev.SignalEmitted(seq=c.seq, name=c.name, target=c.target, payload=c.payload),
    cmd.RequestApproval: event_of,
    cmd.MarkPatch: lambda c: ev.PatchMarked(seq=c.seq, change=c.change),
    cmd.RecordConfig: event_of,
}


class Flags:
    """The config values of a host: what a test sets, over an environment; what it warns of is kept."""

    def __init__(self, environ=None, **rules):
        self.set = {key: read_rule(rule, key) for key, rule in rules.items()}
        self.environ = environ or {}
        self.warnings: list[str] = []
        self.asked: list[Question] = []

    def find(self, question):
        self.asked.append(question)
        rule = self.set.get(question.key)
        value = None if rule is None else rule.answer(question.key, question.unit, question.headers)
        return from_environment(question, self.environ) if value is None else Found(value, "redis", "Redis")

    def warn(self, key, text):
        self.warnings.append(text)


class NoHost:
    """A host of which nothing but config is asked in these tests: it has no budgets, and tells nobody of calls."""

    def __init__(self, flags=None):
        self.flags = flags or Flags()

    async def reserve(self, budgets, operation, estimate):
        assert not budgets
        return Reserved()

    async def settle(self, reserved, spent):
        assert not reserved.budgets

    def asks(self, call):
        return contextlib.nullcontext()


class Flow:
    """A workflow on a machine, with its journal; at the end the journal is replayed and has to agree."""

    def __init__(self, fn: Any, *, name: str = "flow", flags: Flags | None = None, **info: Any) -> None:
        self.fn = fn
        self.host = NoHost(flags)
        self.info = RunInfo(run_id="order-17", handler=f"shop.{name}", kind="workflow", **info)
        self.journal: list[ev.Event] = []
        self.machine = Machine("order-17", self.program)
        self.commands: list[cmd.Command] = []
        self.outcome: Any = None
        self.feed(ev.RunStarted(at=T0, handler=self.info.handler, kind="workflow"))

    async def program(self, machine: Machine, started: ev.RunStarted) -> Any:
        return await self.fn(WorkflowContext(self.info, machine, self.host))

    def feed(self, *events: ev.Event) -> list[cmd.Command]:
        self.journal += events
        answer = self.machine.activate(events)
        self.commands = list(answer.commands)
        self.journal += [RECORD[type(c)](c) for c in answer.commands if type(c) in RECORD]
        self.outcome = answer.outcome
        return self.commands

    def end(self) -> Any:
        """The outcome; first it is checked that a replay of the whole journal has the same."""
        again = Machine("order-17", self.program, processed=len(self.journal)).activate(self.journal)
        assert not [c for c in again.commands if type(c) in RECORD]
        assert type(again.outcome) is type(self.outcome)
        if isinstance(self.outcome, Completed):
            assert again.outcome == self.outcome
            return self.outcome.result
        return self.outcome


@dataclass
class Ref:
    seq: int
    id: str
    future: asyncio.Future[Any]


@dataclass
class Recorder:
    """The port of a function: keeps what was asked."""

    replaying: bool = False
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    waits: list[Ref] = field(default_factory=list)
    state: StateBuffer | None = None

    def start_task(self, handler, input, *, key=None, options=None):  # noqa: A002
        self.asked.append(("task", handler, input, key))
        return Ref(len(self.asked), f"r~{key or len(self.asked)}", asyncio.get_running_loop().create_future())

    def call_entity(self, handler, entity, input, *, key="", options=None):  # noqa: A002
        self.asked.append(("call", handler, entity, input, *([key] if key else [])))
        return Ref(len(self.asked), f"{entity}~@{len(self.asked)}", asyncio.get_running_loop().create_future())

    def cancel_task(self, ref):
        self.asked.append(("cancel", ref.seq))

    def step(self, name, fn, key=""):
        self.asked.append(("step", name, inspect.iscoroutinefunction(fn)))

        async def run():
            value = fn()
            return await value if inspect.isawaitable(value) else value

        return asyncio.ensure_future(run())

    def start_timer(self, due_ms, name=""):
        self.asked.append(("timer", due_ms, name))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def emit_signal(self, name, target, payload):
        self.asked.append(("emit", name, target, payload))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def now_ms(self):
        return T0

    def waits_for(self, ref):
        self.waits.append(ref)


class Item(BaseModel):
    sku: str


@contextlib.contextmanager
def shop_handlers() -> Iterator[dict[str, Any]]:
    """Three handlers of the service `shop`, registered for the time of a test."""
    with isolated():

        @function(service="shop")
        async def price(ctx, sku: str, qty: int = 1) -> Item: ...

        @function(service="shop")
        async def quoted(ctx, input: dict) -> int: ...  # noqa: A002

        @workflow(service="shop")
        async def flow(ctx, cursor: int, total: int = 0): ...

        yield {"price": price, "quoted": quoted, "flow": flow}


def function_ctx(flags: Flags | None = None, **info: Any) -> tuple[FunctionContext, Recorder]:
    port = Recorder()
    info = {"run_id": "r~3", "handler": "shop.price", "kind": "function"} | info
    return FunctionContext(RunInfo(**info), port, NoHost(flags)), port


def buffer(committed: dict[str, Any] | None = None, **options: Any) -> StateBuffer:
    """A state of the entity Counter/c-1; `committed` as Python values."""
    data = {key: codec.dumps(value, what=key) for key, value in (committed or {}).items()}
    usual = {"writable": True, "model": None, "limit": 1000, "total_limit": 10_000, "what": "Counter/c-1"}
    return StateBuffer(data, **usual | options)


def entity_ctx(committed: dict[str, Any] | None = None, **options: Any) -> tuple[EntityContext, Recorder]:
    port = Recorder(state=buffer(committed, **options))
    info = RunInfo(run_id="Counter/c-1~@7", handler="Counter.add", kind="entity", object_id="c-1", method_name="add")
    return EntityContext(info, port, NoHost()), port


def workflow_ctx() -> tuple[WorkflowContext, Recorder]:
    """A workflow's context on the recording port."""
    port = Recorder()
    return WorkflowContext(RunInfo(run_id="order-17", handler="shop.flow", kind="workflow"), port, NoHost()), port

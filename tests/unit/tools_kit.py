"""Tool loops without a provider: models by script, workflows driven on the real machine, functions with attempts."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

from contexts import ERROR, T0, Flow, NoHost

from agnt5 import codec
from agnt5.contracts.errors import StepFailedError, TaskFailedError, error_data, from_data
from agnt5.llm.responses import LLMResponse, ToolCall, Usage
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev
from agnt5.replay.checkpoints import Checkpoints
from agnt5.sdk.contexts import FunctionContext
from agnt5.sdk.llm import LLM
from agnt5.sdk.port import RunInfo


def calls(*made: tuple[str, str, dict[str, Any]], text: str = "", cost: float | None = 0.5) -> LLMResponse:
    """An answer that asks for tools: `calls(("id", "name", {arguments}))`."""
    found = [ToolCall(id=one, name=name, arguments=arguments) for one, name, arguments in made]
    return LLMResponse(text=text, tool_calls=found, usage=Usage(prompt_tokens=10, completion_tokens=2), cost=cost)


def says(text: str, cost: float | None = 0.25, **more: Any) -> LLMResponse:
    """An answer without a call."""
    return LLMResponse(text=text, usage=Usage(prompt_tokens=20, completion_tokens=3), cost=cost, model="m", **more)


class Provider:
    """Answers by script, recorded as a step of the run. `asked` are the questions that it was really asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def install(self, monkeypatch: Any) -> Provider:
        provider = self

        async def generate(llm: LLM, prompt: Any, model: Any, **options: Any) -> LLMResponse:
            question = {"messages": prompt, "model": model, **options}

            async def ask() -> Any:
                provider.asked.append(question)
                answer = provider.answers.pop(0)
                return (answer(question) if callable(answer) else answer).model_dump()

            digest = json.dumps(prompt, sort_keys=True, default=str)
            return LLMResponse.model_validate(await llm._port.step(f"llm:{model}", ask, digest))

        monkeypatch.setattr(LLM, "generate", generate)
        return self

    def told(self, number: int = -1) -> list[str]:
        """What the model was told of its calls in its n-th question."""
        return [one["content"] for one in self.asked[number]["messages"] if one["role"] == "tool"]


def value_of(fn: Callable[[], Any]) -> Any:
    """What a host's step gives."""
    value = fn()
    if inspect.isawaitable(value):

        async def wait() -> Any:
            return await value

        value = asyncio.run(wait())
    return codec.loads(codec.dumps(value, what="result"))


def drive(flow: Flow, **ends: Any) -> Flow:
    """Run a workflow's steps, all those of one answer before the first is answered; children end as `ends` says."""
    while steps := [one for one in flow.commands if isinstance(one, cmd.RunStep | cmd.StartTask)]:
        events: list[ev.Event] = []
        for one in steps:
            if isinstance(one, cmd.RunStep):
                try:
                    events.append(ev.StepCompleted(at=T0, seq=one.seq, name=one.name, result=value_of(one.fn)))
                except Exception as error:
                    events.append(ev.StepFailed(at=T0, seq=one.seq, name=one.name, error=error_data(error)))
            elif isinstance(found := ends[one.handler.partition(".")[2]], Exception):
                events.append(ev.TaskFailed(at=T0, seq=one.seq, error={**ERROR, "message": str(found)}))
            else:
                events.append(ev.TaskCompleted(at=T0, seq=one.seq, result=found))
        flow.feed(*events)
    return flow


class Attempt:
    """One attempt of a function: the port of its context, on the journal of all attempts.

    `crash` names a step after which the attempt ends, or before whose record: as a worker that dies.
    """

    replaying = False

    def __init__(self, journal: list[ev.Event], children: dict[str, Callable[[Any], Any]] | None = None) -> None:
        self.journal = journal
        self.children = children or {}
        self.started: list[tuple[str, Any, str]] = []
        self.steps: list[tuple[str, str]] = []
        self.points = Checkpoints("r", [*journal])
        info = RunInfo(run_id="r", handler="shop.ask", kind="function")
        self.ctx = FunctionContext(info, self, NoHost())

    def step(self, name, fn, key=""):
        self.steps.append((name, key))
        seq, recorded = self.points.step(name, key)
        return asyncio.ensure_future(self._step(seq, name, key, fn, recorded))

    async def _step(self, seq, name, key, fn, recorded):
        if recorded is None:
            value = fn()
            value = await value if inspect.isawaitable(value) else value
            recorded = ev.StepCompleted(
                at=T0, seq=seq, name=name, key=key, result=codec.loads(codec.dumps(value, what="r"))
            )
            self.journal.append(recorded)
        if isinstance(recorded, ev.StepFailed):
            raise from_data(recorded.error, StepFailedError)
        return recorded.result

    def start_task(self, handler, input, *, key=None, options=None):  # noqa: A002
        return self._child(self.points.child(handler, key), handler, input)

    def call_entity(self, handler, entity, input, *, key="", options=None):  # noqa: A002
        return self._child(self.points.call(handler, entity, key), handler, input)

    def _child(self, slot, handler, input):  # noqa: A002
        ref = asyncio.get_running_loop().create_future()
        if not slot.scheduled:
            self._record(ev.TaskScheduled(at=T0, seq=slot.seq, handler=handler, id=slot.id))
        end = slot.completion
        if end is None:
            self.started.append((handler, input, slot.id))
            try:
                end = ev.TaskCompleted(at=T0, seq=slot.seq, result=self.children[handler](input))
            except Exception as error:
                end = ev.TaskFailed(at=T0, seq=slot.seq, error=error_data(error))
            self._record(end)
        if isinstance(end, ev.TaskCompleted):
            ref.set_result(end.result)
        else:
            ref.set_exception(from_data(end.error, TaskFailedError))
            ref.exception()
        return _Ref(slot.seq, slot.id, ref)

    def _record(self, event):
        self.journal.append(event)
        self.points.feed(event)

    def start_timer(self, due_ms, name=""):
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def waits_for(self, ref):
        pass

    def now_ms(self):
        return T0


class _Ref:
    def __init__(self, seq, id, future):  # noqa: A002
        self.seq, self.id, self.future = seq, id, future


class Attempts:
    """All attempts of one function run."""

    def __init__(self, **children: Callable[[Any], Any]) -> None:
        self.journal: list[ev.Event] = [ev.RunStarted(at=T0, handler="shop.ask", kind="function")]
        self.children = {name.replace("__", "."): fn for name, fn in children.items()}

    def next(self) -> Attempt:
        """The next attempt."""
        if len(self.journal) > 1:
            self.journal.append(ev.AttemptStarted(at=T0, attempt=1))
        return Attempt(self.journal, self.children)

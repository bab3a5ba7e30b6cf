"""The pure part: journal events and chunks in, AG-UI events out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunStartedEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)

from agnt5.integrations.agui_calls import Asked, calls_in, content_of, result_of, text_in
from agnt5.replay import events as ev


class Story:
    """Turns a run into AG-UI events, one by one. The same run gives the same ids to each reader.

    - RUN_STARTED and a CUSTOM `run` with agnt5's own id; at the end RUN_FINISHED with the result (or the outcome
      "cancelled"), or RUN_ERROR with the error's type as `code`.
    - STEP_STARTED and STEP_FINISHED for steps, when they have ended, and for child runs.
    - TEXT_MESSAGE_* for chunks that are text, or `{"type": "text", "text"}`. Anything else in between begins a new
      message. A run that yielded no text and returns one tells it as a message.
    - TOOL_CALL_* for chunks `tool_call` and `tool_result`, for the calls that recorded answers of models ask for, and
      for steps `tool:<name>`; each call is told once.
    - CUSTOM `approval` and `approval_decided` for what people are asked, `retry` for an attempt that failed,
      `handoff`, and `chunk` for other chunks; `reset` when all chunks before it are void: messages have new ids then.
    """

    def __init__(self, run_id: str, *, thread_id: str, agui_run_id: str) -> None:
        self._run_id = run_id
        self._thread_id = thread_id
        self._agui_run_id = agui_run_id
        self._message: str | None = None
        self._said = False
        self._done: Any = None
        self._calls = Asked()
        self._children: dict[int, str] = {}
        self._end: ev.RunCompleted | ev.RunFailed | ev.RunCancelled | None = None
        self._by_type: dict[type[ev.Event], Callable[[Any, str], list[BaseEvent]]] = {
            ev.StepCompleted: self._step,
            ev.StepFailed: self._step,
            ev.TaskScheduled: self._child,
            ev.TaskCompleted: self._child_ended,
            ev.TaskFailed: self._child_ended,
            ev.ApprovalRequested: self._approval,
            ev.ApprovalDecided: self._decision,
            ev.AttemptFailed: self._retry,
            ev.RunCompleted: self._over,
            ev.RunFailed: self._over,
            ev.RunCancelled: self._over,
            ev.RunReopened: self._reopened,
        }

    # ---- from the outside

    def began(self, started: ev.RunStarted) -> list[BaseEvent]:
        """The first events."""
        about = {"id": self._run_id, "handler": started.handler}
        opened = RunStartedEvent(thread_id=self._thread_id, run_id=self._agui_run_id, timestamp=started.at or None)
        return [opened, CustomEvent(name="run", value=about)]

    def journal(self, event: ev.Event, place: str) -> list[BaseEvent]:
        """What a journal event means; its end is kept until `ended`."""
        make = self._by_type.get(type(event))
        return [] if make is None else make(event, place)

    def chunk(self, value: Any, place: str) -> list[BaseEvent]:
        """What a chunk means."""
        if (text := text_in(value)) is not None:
            return self._text(text, place)
        sort = value.get("type") if isinstance(value, dict) else None
        if sort == "done":
            self._done = value.get("result")
            return []
        if sort == "handoff":
            return self._between([CustomEvent(name="handoff", value={"agent": value.get("agent")})])
        if sort in {"tool_call", "tool_result"} and isinstance(name := value.get("name"), str):
            if sort == "tool_call":
                return self._between(self._called(value.get("id"), name, value.get("arguments"), place))
            return self._between(self._answered(value.get("id"), name, value.get("result"), place))
        return self._between([CustomEvent(name="chunk", value=value)])

    def reset(self, claim: int) -> list[BaseEvent]:
        """All chunks so far are void: the run begins to yield anew."""
        self._done, self._said = None, False
        return self._between([CustomEvent(name="reset", value={"claim": claim})])

    def ended(self) -> list[BaseEvent]:
        """The last events, once journal and chunks have been told."""
        finished = RunFinishedEvent(thread_id=self._thread_id, run_id=self._agui_run_id)
        told: list[BaseEvent] = []
        match self._end:
            case ev.RunCompleted(result=result):
                finished.result = result if self._done is None else self._done
                told = self._result_as_text(finished.result)
            case ev.RunFailed(error=error):
                failed = RunErrorEvent(message=str(error.get("message", "")), code=str(error.get("type", "")))
                return self._between([failed])
            case _:
                finished.outcome = RunFinishedCancelledOutcome()
        return [*told, *self._between([finished])]

    # ---- text

    def _text(self, text: str, place: str) -> list[BaseEvent]:
        if not text:
            return []
        told: list[BaseEvent] = []
        if self._message is None:
            self._message = f"{self._run_id}/{place}"
            told.append(TextMessageStartEvent(message_id=self._message, role="assistant"))
        self._said = True
        return [*told, TextMessageContentEvent(message_id=self._message, delta=text)]

    def _between(self, told: list[BaseEvent]) -> list[BaseEvent]:
        """Events that end the message which is open: readers of AG-UI need not take others inside of one."""
        if self._message is None or not told:
            return told
        end, self._message = TextMessageEndEvent(message_id=self._message), None
        return [end, *told]

    def _result_as_text(self, value: Any) -> list[BaseEvent]:
        text = value.get("text") if isinstance(value, dict) else value
        return [] if self._said or not isinstance(text, str) else self._text(text, "result")

    # ---- tools

    def _called(self, call_id: Any, name: str, arguments: Any, place: str) -> list[BaseEvent]:
        call = str(call_id or f"{self._run_id}/{place}")
        if not self._calls.begin(call, name):
            return []
        told: list[BaseEvent] = [ToolCallStartEvent(tool_call_id=call, tool_call_name=name)]
        if arguments is not None:
            delta = arguments if isinstance(arguments, str) else json.dumps(arguments)
            told.append(ToolCallArgsEvent(tool_call_id=call, delta=delta))
        return [*told, ToolCallEndEvent(tool_call_id=call)]

    def _answered(self, call_id: Any, name: str, result: Any, place: str, *, failed: bool = False) -> list[BaseEvent]:
        call = str(call_id or f"{self._run_id}/{place}")
        told = self._called(call, name, None, place)
        if not self._calls.end(call, failed=failed):
            return told
        return [
            *told,
            ToolCallResultEvent(
                message_id=f"{call}/result", tool_call_id=call, content=content_of(result), role="tool"
            ),
        ]

    # ---- the journal

    def _step(self, step: ev.StepCompleted | ev.StepFailed, place: str) -> list[BaseEvent]:
        if step.name.startswith("tool:"):
            name = step.name.removeprefix("tool:")
            call = self._calls.find(step.key, name)
            if isinstance(step, ev.StepFailed):
                said = f"{step.error.get('type')}: {step.error.get('message')}"
                return self._between(self._answered(call, name, said, place, failed=True))
            return self._between(self._answered(call, name, result_of(step.result), place))
        told: list[BaseEvent] = [StepStartedEvent(step_name=step.name), StepFinishedEvent(step_name=step.name)]
        if isinstance(step, ev.StepCompleted) and step.name.startswith("llm:"):
            for call_id, name, arguments in calls_in(step.result):
                told += self._called(call_id, name, arguments, place)
        return self._between(told)

    def _child(self, child: ev.TaskScheduled, _place: str) -> list[BaseEvent]:
        self._children[child.seq] = child.handler
        return self._between([StepStartedEvent(step_name=child.handler)])

    def _child_ended(self, child: ev.TaskCompleted | ev.TaskFailed, _place: str) -> list[BaseEvent]:
        handler = self._children.pop(child.seq, None)
        return [] if handler is None else self._between([StepFinishedEvent(step_name=handler)])

    def _approval(self, asked: ev.ApprovalRequested, _place: str) -> list[BaseEvent]:
        value = {
            "run": self._run_id,
            "seq": asked.seq,
            "name": asked.name,
            "payload": asked.payload,
            "form": asked.form,
            "required_roles": asked.required_roles,
            "assignees": asked.assignees,
            "quorum": asked.quorum,
            "due_ms": asked.due_ms,
        }
        return self._between([CustomEvent(name="approval", value=value)])

    def _decision(self, made: ev.ApprovalDecided, _place: str) -> list[BaseEvent]:
        value = {"run": self._run_id, "seq": made.seq, "decision": made.decision, "approver": made.approver}
        return self._between([CustomEvent(name="approval_decided", value=value)])

    def _retry(self, failed: ev.AttemptFailed, _place: str) -> list[BaseEvent]:
        error = {name: failed.error.get(name, "") for name in ("type", "message")}
        value = {"attempt": failed.attempt, "error": error, "retry_at_ms": failed.retry_at_ms}
        return self._between([CustomEvent(name="retry", value=value)])

    def _over(self, end: ev.RunCompleted | ev.RunFailed | ev.RunCancelled, _place: str) -> list[BaseEvent]:
        self._end = end
        return []

    def _reopened(self, _event: ev.RunReopened, _place: str) -> list[BaseEvent]:
        self._end = None
        return []

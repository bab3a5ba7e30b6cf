"""A journal as a story for people: what happened when, and how long it took. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agnt5.client.maps import MAP, Maps
from agnt5.client.moments import Moment, Outcome, brief, one_line, preview, span
from agnt5.client.spending import LLM, spending_of
from agnt5.replay import events as ev

TOOL = "tool:"
"""How the names of steps begin that record what a tool gave."""


def timeline(events: Sequence[ev.Event], children: Mapping[str, str] | None = None) -> list[Moment]:
    """The moments of a journal in order of their beginning. `children`: what is known of children's statuses."""
    story = _Story(children or {})
    for event in events:
        _TELL[type(event)](story, event)
    if events and isinstance(events[-1], ev.RunCompleted | ev.RunFailed | ev.RunCancelled):
        story.close()
    return story.moments


_REFUSED = {
    "role": "has none of the roles that are needed",
    "assignee": "is not among those who were asked",
    "self": "asked for the run",
    "voted": "had voted before",
    "closed": "came after the decision",
}


class _Story:
    """Reads events in order; a completion finds the moment that it ends."""

    def __init__(self, children: Mapping[str, str]) -> None:
        self.moments: list[Moment] = []
        self._children = children
        self._open: dict[int, Moment] = {}
        self._waits: dict[str, deque[Moment]] = {}
        self._early: dict[str, deque[Moment]] = {}
        self._maps = Maps()

    def _add(self, event: ev.Event, kind: str, what: str, outcome: Outcome = "", **more: Any) -> Moment:
        moment = Moment(at_ms=event.at, kind=kind, what=what, outcome=outcome, **more)
        self.moments.append(moment)
        return moment

    def _end(self, seq: int, event: ev.Event, outcome: Outcome, detail: str = "") -> None:
        if moment := self._open.pop(seq, None):
            moment.took_ms, moment.outcome = event.at - moment.at_ms, outcome
            moment.detail = detail or moment.detail

    def close(self) -> None:
        """The run has ended: nobody waits for anything any more."""
        for moment in self.moments:
            if moment.outcome == "open":
                moment.outcome = "note"
                why = "not finished" if moment.kind == "map" else "not waited for"
                moment.detail = f"{moment.detail}, {why}" if moment.detail else why

    # ---- lifecycle

    def run_started(self, event: ev.RunStarted) -> None:
        again = f" (generation {event.generation}, continue_as_new)" if event.generation else ""
        self._add(event, "run", f"{event.handler} was started{again}")

    def attempt_started(self, event: ev.AttemptStarted) -> None:
        self._add(event, "run", f"attempt {event.attempt} began", detail=f"on {event.host}" if event.host else "")

    def attempt_failed(self, event: ev.AttemptFailed) -> None:
        wait = span(max(0, event.retry_at_ms - event.at))
        self._add(
            event, "run", f"attempt {event.attempt} failed", "failed", detail=f"{brief(event.error)}; next in {wait}"
        )

    def host_lost(self, event: ev.HostLost) -> None:
        self._add(event, "host", "its worker died; the run was queued again", "failed", detail=event.host)

    def run_completed(self, event: ev.RunCompleted) -> None:
        self._add(event, "run", "completed", "ok")

    def run_failed(self, event: ev.RunFailed) -> None:
        self._add(event, "run", "failed", "failed", detail=brief(event.error))

    def run_cancelled(self, event: ev.RunCancelled) -> None:
        self._add(event, "run", "cancelled", "cancelled", detail=event.reason)

    def run_reopened(self, event: ev.RunReopened) -> None:
        self._add(event, "run", "opened again by an operator", "note")

    def cancel_requested(self, event: ev.CancelRequested) -> None:
        self._add(event, "run", "was asked to end", "cancelled", detail=event.reason)

    # ---- commands and what answers them

    def task_scheduled(self, event: ev.TaskScheduled) -> None:
        status = self._children.get(event.id, "")
        detail = event.id + (f", {status}" if status else "")
        within = self._maps.of(event.id)
        moment = self._add(event, "task", event.handler, "open", detail=detail, child=event.id, map=within)
        self._open[event.seq] = moment
        self._maps.item(within, event.id, "open")

    def task_completed(self, event: ev.TaskCompleted) -> None:
        child = self._open.get(event.seq)
        self._end_task(event, "ok", child.child if child else "")

    def task_failed(self, event: ev.TaskFailed) -> None:
        child = self._open.get(event.seq)
        outcome: Outcome = "cancelled" if event.error.get("type") == "RunCancelledError" else "failed"
        self._end_task(event, outcome, f"{child.child if child else ''}: {brief(event.error)}")

    def _end_task(self, event: ev.TaskCompleted | ev.TaskFailed, outcome: Outcome, detail: str) -> None:
        if child := self._open.get(event.seq):
            self._maps.item(child.map, child.child, outcome)
        self._end(event.seq, event, outcome, detail)

    def task_cancel_requested(self, event: ev.TaskCancelRequested) -> None:
        target = self._open.get(event.target)
        self._add(event, "task", f"cancel asked for {target.child if target else f'command {event.target}'}", "note")

    def timer_started(self, event: ev.TimerStarted) -> None:
        wait = span(max(0, event.due_ms - event.at))
        waits = self._waits.get(event.name.removeprefix("signal:")) if event.name.startswith("signal:") else None
        if waits:  # the bound of a wait for a signal is told with the wait
            self._open[event.seq] = waits[-1]
            waits[-1].detail = f"{wait} at most"
            return
        what = f"timer {wait}" + (f" ({event.name})" if event.name not in {"", "timer"} else "")
        self._open[event.seq] = self._add(event, "timer", what, "open")

    def timer_fired(self, event: ev.TimerFired) -> None:
        moment = self._open.get(event.seq)
        if moment is None or moment.kind != "signal":
            self._end(event.seq, event, "ok")
        elif moment.took_ms is None:
            self._end(event.seq, event, "note", "none came in time")
            name = moment.what.rpartition(" ")[2]
            self._waits[name].remove(moment)

    def step_completed(self, event: ev.StepCompleted) -> None:
        if event.name.startswith(MAP):
            if (begun := self._maps.note(event)) is not None:
                self.moments.append(begun)
        elif event.name.startswith(LLM):
            spent = spending_of(event.result)
            self._add_step(event, "ok", _answer(event.result, spent.detail()), spent=spent)
        elif event.name.startswith(TOOL):
            self._add_step(event, *_outcome(event.result))
        else:
            self._add_step(event, "ok")

    def step_failed(self, event: ev.StepFailed) -> None:
        self._add_step(event, "failed", brief(event.error))

    def _add_step(
        self, event: ev.StepCompleted | ev.StepFailed, outcome: Outcome, detail: str = "", **more: Any
    ) -> None:
        """A step is recorded when it ends; its place is where it began, by what the journal says of its length."""
        begun_ms = max(event.at - event.took_ms, self.moments[0].at_ms if self.moments else 0)
        kind, what = _sort_of(event.name)
        place = len(self.moments)
        while place > 1 and self.moments[place - 1].at_ms > begun_ms:
            place -= 1
        took_ms = (event.at - begun_ms) or None
        moment = Moment(at_ms=begun_ms, kind=kind, what=what, outcome=outcome, took_ms=took_ms, detail=detail, **more)
        self.moments.insert(place, moment)

    def signal_awaited(self, event: ev.SignalAwaited) -> None:
        early = self._early.get(event.name)
        if early:
            early.popleft().detail += ", came early, taken later"
            return
        moment = self._add(event, "signal", f"wait for signal {event.name}", "open")
        self._waits.setdefault(event.name, deque()).append(moment)

    def signal_received(self, event: ev.SignalReceived) -> None:
        payload = "" if event.payload is None else preview(event.payload)
        waits = self._waits.get(event.name)
        if waits:
            moment = waits.popleft()
            moment.took_ms, moment.outcome, moment.detail = event.at - moment.at_ms, "ok", payload
        else:
            moment = self._add(event, "signal", f"signal {event.name} came", "ok", detail=payload)
            self._early.setdefault(event.name, deque()).append(moment)

    def signal_emitted(self, event: ev.SignalEmitted) -> None:
        self._open[event.seq] = self._add(event, "signal", f"signal {event.name} sent to {event.target}", "open")

    def signal_delivered(self, event: ev.SignalDelivered) -> None:
        self._end(event.seq, event, "ok")

    def signal_refused(self, event: ev.SignalRefused) -> None:
        self._end(event.seq, event, "failed", brief(event.error))

    def approval_requested(self, event: ev.ApprovalRequested) -> None:
        needs = [f"of {' or '.join(event.assignees)}"] if event.assignees else []
        needs += [f"with role {' or '.join(event.required_roles)}"] if event.required_roles else []
        needs += [f"by {event.quorum} people"] if event.quorum > 1 else []
        needs += [f"{span(max(0, event.due_ms - event.at))} at most"] if event.due_ms else []
        moment = self._add(event, "approval", f"approval {event.name}", "open", detail=", ".join(needs))
        self._open[event.seq] = moment

    def approval_voted(self, event: ev.ApprovalVoted) -> None:
        about = self._open.get(event.seq)
        self._add(event, "approval", f"{event.approver} voted on {about.what if about else 'an approval'}", "note")

    def decision_refused(self, event: ev.DecisionRefused) -> None:
        self._add(
            event, "approval", f"{event.approver} could not decide", "note", detail=_REFUSED.get(event.why, event.why)
        )

    def approval_decided(self, event: ev.ApprovalDecided) -> None:
        if event.decision == "timeout":
            self._end(event.seq, event, "note", "nobody decided in time")
            return
        said = f": {preview(event.comment)}" if event.comment else ""
        outcome: Outcome = "ok" if event.decision == "approved" else "failed"
        self._end(event.seq, event, outcome, f"{event.decision} by {event.approver}{said}")

    def patch_marked(self, event: ev.PatchMarked) -> None:
        self._add(event, "patch", f"took the path of patch {event.change}", "note")

    def config_read(self, event: ev.ConfigRead) -> None:
        whom = f" for {event.unit}" if event.unit else ""
        self._add(event, "config", f"config {event.key}{whom} = {preview(event.value)}", "note")

    def other(self, event: ev.Event) -> None:
        self._add(event, "event", type(event).__name__, "note")


def _sort_of(step: str) -> tuple[str, str]:
    """The kind of a step by its name, and what it is called."""
    if step.startswith(LLM):
        return "llm", f"asked {step.removeprefix(LLM)}"
    if step.startswith(TOOL):
        return "tool", f"tool {step.removeprefix(TOOL)}"
    return "step", f"step {step}"


def _answer(answer: Any, cost: str) -> str:
    """A model's answer on one line: its tokens and cost, and what was special about it."""
    known: Mapping[str, Any] = answer if isinstance(answer, dict) else {}
    asked = [str(call.get("name")) for call in known.get("tool_calls") or () if isinstance(call, dict)]
    reason = known.get("finish_reason", "stop")
    ended = f"wants {', '.join(asked)}" if asked else f"ended by {reason}" if reason != "stop" else ""
    return ", ".join(part for part in (cost, ended) if part)


def _outcome(recorded: Any) -> tuple[Outcome, str]:
    """What came of a tool's call: a value alone, or what a model was told of it, `{"result"}` or `{"error"}`."""
    match recorded:
        case {"error": str(error)} if len(recorded) == 1:
            return "failed", one_line(error)
        case {"result": value} if recorded.keys() <= {"result", "cut_from"}:
            return "ok", preview(value)
        case _:
            return "ok", preview(recorded)


def _method(kind: type[ev.Event]) -> Callable[[_Story, Any], None]:
    name = "".join(f"_{char.lower()}" if char.isupper() else char for char in kind.__name__).lstrip("_")
    return getattr(_Story, name, _Story.other)


_TELL: dict[type[ev.Event], Callable[[_Story, Any], None]] = {
    kind: _method(kind)
    for kind in vars(ev).values()
    if isinstance(kind, type) and issubclass(kind, ev.Event) and kind is not ev.Event
}
"""Each event class by the method that tells it; an event that this module does not know is told by its name."""

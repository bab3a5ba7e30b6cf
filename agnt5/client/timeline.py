"""A journal as a story for people: what happened when, and how long it took. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agnt5.replay import events as ev

Outcome = Literal["", "ok", "failed", "open", "cancelled", "note"]

COLLAPSE = 6
"""So many neighbouring tasks of one handler are told as one line."""

_PREVIEW = 60


@dataclass(slots=True, kw_only=True)
class Moment:
    """One line of a story. `took_ms` is None for what has no duration or goes on still; `detail` is an aside.

    A collapsed moment has those that it stands for as its `parts`.
    """

    at_ms: int
    kind: str
    what: str
    outcome: Outcome = ""
    took_ms: int | None = None
    detail: str = ""
    child: str = ""
    parts: Sequence[Moment] = ()


def timeline(events: Sequence[ev.Event], children: Mapping[str, str] | None = None) -> list[Moment]:
    """The moments of a journal in order of their beginning. `children`: what is known of children's statuses."""
    story = _Story(children or {})
    for event in events:
        _TELL[type(event)](story, event)
    if events and isinstance(events[-1], ev.RunCompleted | ev.RunFailed | ev.RunCancelled):
        story.close()
    return story.moments


def collapse(moments: Sequence[Moment], least: int = COLLAPSE) -> list[Moment]:
    """Neighbouring tasks of one handler as one moment, where there are at least `least` of them."""
    told: list[Moment] = []
    group: list[Moment] = []
    for moment in [*moments, None]:
        if moment is not None and group and moment.kind == "task" and moment.what == group[0].what:
            group.append(moment)
            continue
        told += [_together(group)] if len(group) >= least else group
        group = []
        if moment is not None:
            group = [moment]
    return told


def span(ms: float) -> str:
    """A duration for people: 12 ms, 1.23 s, 2m 03s, 3h 04m, 2d 05h."""
    seconds = ms / 1000
    if ms < 1000:  # noqa: PLR2004
        return f"{ms:.0f} ms"
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:  # noqa: PLR2004
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02d}h"


def _together(group: list[Moment]) -> Moment:
    counts: dict[str, int] = {}
    for moment in group:
        counts[moment.outcome or "ok"] = counts.get(moment.outcome or "ok", 0) + 1
    ends = [moment.at_ms + moment.took_ms for moment in group if moment.took_ms is not None]
    done = len(ends) == len(group)
    outcome: Outcome = "failed" if counts.get("failed") else "open" if not done else "ok"
    times = sorted(moment.took_ms for moment in group if moment.took_ms is not None)
    each = f"; each {span(times[0])} to {span(times[-1])}" if times else ""
    return Moment(
        at_ms=group[0].at_ms,
        kind="task",
        what=f"{len(group)} x {group[0].what}",
        outcome=outcome,
        took_ms=max(ends) - group[0].at_ms if done else None,
        detail=", ".join(f"{count} {name}" for name, count in counts.items()) + each,
        child=f"{group[0].child} ... {group[-1].child.rpartition('~')[2]}",
        parts=group,
    )


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
                moment.detail = f"{moment.detail}, not waited for" if moment.detail else "not waited for"

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
        self._open[event.seq] = self._add(event, "task", event.handler, "open", detail=detail, child=event.id)

    def task_completed(self, event: ev.TaskCompleted) -> None:
        child = self._open.get(event.seq)
        self._end(event.seq, event, "ok", child.child if child else "")

    def task_failed(self, event: ev.TaskFailed) -> None:
        child = self._open.get(event.seq)
        outcome: Outcome = "cancelled" if event.error.get("type") == "RunCancelledError" else "failed"
        self._end(event.seq, event, outcome, f"{child.child if child else ''}: {brief(event.error)}")

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
        self._add(event, "step", f"step {event.name}", "ok", took_ms=event.took_ms or None)

    def step_failed(self, event: ev.StepFailed) -> None:
        took_ms = event.took_ms or None
        self._add(event, "step", f"step {event.name}", "failed", took_ms=took_ms, detail=brief(event.error))

    def signal_awaited(self, event: ev.SignalAwaited) -> None:
        early = self._early.get(event.name)
        if early:
            early.popleft().detail += ", came early, taken later"
            return
        moment = self._add(event, "signal", f"wait for signal {event.name}", "open")
        self._waits.setdefault(event.name, deque()).append(moment)

    def signal_received(self, event: ev.SignalReceived) -> None:
        payload = "" if event.payload is None else _preview(event.payload)
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
        said = f": {_preview(event.comment)}" if event.comment else ""
        outcome: Outcome = "ok" if event.decision == "approved" else "failed"
        self._end(event.seq, event, outcome, f"{event.decision} by {event.approver}{said}")

    def patch_marked(self, event: ev.PatchMarked) -> None:
        self._add(event, "patch", f"took the path of patch {event.change}", "note")

    def other(self, event: ev.Event) -> None:
        self._add(event, "event", type(event).__name__, "note")


def brief(error: Mapping[str, Any]) -> str:
    """An error's type and message on one line."""
    return _cut(f"{error.get('type', 'Error')}: {error.get('message', '')}", 2 * _PREVIEW)


def _preview(value: Any) -> str:
    return _cut(repr(value), _PREVIEW)


def _cut(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def _method(kind: type[ev.Event]) -> Callable[[_Story, Any], None]:
    name = "".join(f"_{char.lower()}" if char.isupper() else char for char in kind.__name__).lstrip("_")
    return getattr(_Story, name, _Story.other)


_TELL: dict[type[ev.Event], Callable[[_Story, Any], None]] = {
    kind: _method(kind)
    for kind in vars(ev).values()
    if isinstance(kind, type) and issubclass(kind, ev.Event) and kind is not ev.Event
}
"""Each event class by the method that tells it; an event that this module does not know is told by its name."""

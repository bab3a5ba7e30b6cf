"""Journals told as stories."""

from __future__ import annotations

import pytest

from agnt5.client.moments import collapse, span
from agnt5.client.timeline import timeline
from agnt5.replay import events as ev

START = ev.RunStarted(at=1000, handler="a.b", kind="workflow")


def told(*events, children=None):
    return [(m.what, m.outcome, m.took_ms) for m in timeline([START, *events], children)][1:]


def test_a_task_takes_from_its_start_to_its_answer():
    scheduled = ev.TaskScheduled(at=1010, seq=1, handler="a.c", id="r~1")
    assert told(scheduled) == [("a.c", "open", None)]
    assert told(scheduled, ev.TaskCompleted(at=1500, seq=1)) == [("a.c", "ok", 490)]
    failed = ev.TaskFailed(at=1100, seq=1, error={"type": "ValueError", "message": "no"})
    assert told(scheduled, failed) == [("a.c", "failed", 90)]
    cancelled = ev.TaskFailed(at=1100, seq=1, error={"type": "RunCancelledError"})
    assert told(scheduled, cancelled) == [("a.c", "cancelled", 90)]


def test_an_open_child_is_told_with_its_status():
    moments = timeline([START, ev.TaskScheduled(at=1, seq=1, handler="a.c", id="r~1")], {"r~1": "queued"})
    assert moments[-1].detail == "r~1, queued"


def test_signals_meet_their_waits_in_order():
    awaited = ev.SignalAwaited(at=1010, seq=1, name="go")
    bound = ev.TimerStarted(at=1010, seq=2, due_ms=61_010, name="signal:go")
    came = ev.SignalReceived(at=1300, name="go", payload=7)
    assert told(awaited, bound, came) == [("wait for signal go", "ok", 290)]
    assert told(awaited, bound) == [("wait for signal go", "open", None)]
    assert told(awaited, bound, ev.TimerFired(at=61_010, seq=2)) == [("wait for signal go", "note", 60_000)]
    early = ev.SignalReceived(at=1001, name="go")
    assert told(early, awaited) == [("signal go came", "ok", None)]
    late = told(awaited, bound, ev.TimerFired(at=61_010, seq=2), ev.SignalReceived(at=62_000, name="go"))
    assert late[-1] == ("signal go came", "ok", None)


def test_an_end_closes_what_nobody_waits_for_any_more():
    open_timer = ev.TimerStarted(at=1010, seq=1, due_ms=9000, name="sleep")
    assert told(open_timer, ev.RunCancelled(at=1500, reason="enough")) == [
        ("timer 7.99 s (sleep)", "note", None),
        ("cancelled", "cancelled", None),
    ]


def test_an_approval_is_told_with_who_decided_and_who_could_not():
    asked = ev.ApprovalRequested(
        at=1000,
        seq=1,
        name="deploy",
        required_roles=["admin", "ops"],
        quorum=2,
        due_ms=61_000,
        assignees=["ann", "bob"],
    )
    votes = [
        ev.ApprovalVoted(at=1100, seq=1, approver="ann"),
        ev.DecisionRefused(at=1200, seq=1, approver="eve", decision="approved", why="role"),
        ev.ApprovalDecided(at=1500, seq=1, decision="rejected", approver="bob", comment="too late today"),
    ]
    assert [(m.what, m.outcome, m.took_ms, m.detail) for m in timeline([START, asked])][1:] == [
        ("approval deploy", "open", None, "of ann or bob, with role admin or ops, by 2 people, 1m 00s at most"),
    ]
    assert [(m.what, m.outcome, m.took_ms, m.detail) for m in timeline([START, asked, *votes])][1:] == [
        ("approval deploy", "failed", 500, "rejected by bob: 'too late today'"),
        ("ann voted on approval deploy", "note", None, ""),
        ("eve could not decide", "note", None, "has none of the roles that are needed"),
    ]
    timed_out = ev.ApprovalDecided(at=61_000, seq=1, decision="timeout")
    (moment,) = timeline([START, asked, timed_out])[1:]
    assert (moment.outcome, moment.took_ms, moment.detail) == ("note", 60_000, "nobody decided in time")


def test_every_event_of_a_journal_is_told_or_ends_what_was():
    samples = {"error": {"type": "E", "message": "m"}, "name": "n", "seq": 9, "handler": "a.b", "kind": "k", "id": "x"}
    samples |= {"approver": "ann", "decision": "approved", "why": "role"}
    for kind in {k for k in vars(ev).values() if isinstance(k, type) and issubclass(k, ev.Event) and k is not ev.Event}:
        fields = kind.__dataclass_fields__
        known = {
            name: samples.get(name, 1) for name in fields if name in samples or name in {"attempt", "due_ms", "target"}
        }
        known |= {name: "x" for name in fields if name in {"target", "change"} and kind is not ev.TaskCancelRequested}
        assert timeline([START, kind(**known)])


def test_many_tasks_are_one_line():
    events = [ev.TaskScheduled(at=1000 + n, seq=n, handler="a.c", id=f"r~{n}") for n in range(1, 8)]
    events += [ev.TaskCompleted(at=2000 + n, seq=n) for n in range(1, 8)]
    (moment,) = collapse(timeline([START, *events]))[1:]
    assert (moment.what, moment.outcome, moment.took_ms) == ("7 x a.c", "ok", 1006)
    assert moment.detail.startswith("7 ok")
    events[-1] = ev.TaskFailed(at=2007, seq=7, error={})
    (moment,) = collapse(timeline([START, *events]))[1:]
    assert moment.outcome == "failed"
    assert len(collapse(timeline([START, *events[:3]]))) == 4


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (12, "12 ms"),
        (1230, "1.23 s"),
        (123_000, "2m 03s"),
        (59_999, "60.00 s"),
        (11_040_000, "3h 04m"),
        (190_800_000, "2d 05h"),
    ],
)
def test_durations_are_told_for_people(ms, text):
    assert span(ms) == text

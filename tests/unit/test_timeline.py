"""Journals told as stories."""

from __future__ import annotations

import pytest

from agnt5.client.moments import collapse, span
from agnt5.client.spending import money, spent_in
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
        known |= {
            name: "x" for name in fields if name in {"target", "change", "key"} and kind is not ev.TaskCancelRequested
        }
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


# ---- steps, models, tools


def answer(prompt, completion, cost=None, **more):
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"text": "hi", "usage": usage, "cost": cost, "model": "m-2024", "finish_reason": "stop", **more}


def test_a_step_stands_where_it_began_though_it_is_recorded_when_it_ended():
    events = [
        ev.TaskScheduled(at=1200, seq=1, handler="a.c", id="r~1"),
        ev.StepCompleted(at=1300, seq=2, name="short", took_ms=50),
        ev.StepFailed(at=1900, seq=3, name="long", error={"type": "E", "message": "no"}, took_ms=850),
        ev.StepCompleted(at=1950, seq=4, name="no time"),
        ev.StepCompleted(at=2000, seq=5, name="by another clock", took_ms=5000),
    ]
    moments = timeline([START, *events])
    assert [(m.what, m.at_ms, m.took_ms) for m in moments] == [
        ("a.b was started", 1000, None),
        ("step by another clock", 1000, 1000),
        ("step long", 1050, 850),
        ("a.c", 1200, None),
        ("step short", 1250, 50),
        ("step no time", 1950, None),
    ]
    assert moments[2].detail == "E: no"


def test_answers_of_models_are_told_with_tokens_and_cost():
    wants = answer(812, 40, 0.00302, finish_reason="tool_calls", tool_calls=[{"name": "search"}, {"name": "look"}])
    events = [
        ev.StepCompleted(at=1300, seq=1, name="llm:gpt-4o-mini", result=wants, took_ms=200),
        ev.StepCompleted(at=1400, seq=2, name="llm:local", result=answer(1200, 9, finish_reason="length"), took_ms=90),
        ev.StepFailed(at=1500, seq=3, name="llm:local", error={"type": "LLMError", "message": "no"}, took_ms=90),
        ev.StepCompleted(at=1600, seq=4, name="llm:odd", result="hm"),
    ]
    assert [(m.kind, m.what, m.outcome, m.took_ms, m.detail) for m in timeline([START, *events])][1:] == [
        ("llm", "asked gpt-4o-mini", "ok", 200, "812 tokens in, 40 out, $0.0030, wants search, look"),
        ("llm", "asked local", "ok", 90, "1,200 tokens in, 9 out, ended by length"),
        ("llm", "asked local", "failed", 90, "LLMError: no"),
        ("llm", "asked odd", "ok", None, "0 tokens in, 0 out"),
    ]
    spent = spent_in([START, *events])
    assert spent.total() == "3 model answers, 2,061 tokens, $0.0030 and 2 without a known price"


def test_tools_are_told_with_their_result_or_the_error_that_the_model_was_told():
    events = [
        ev.StepCompleted(at=1300, seq=1, name="tool:weather", result={"result": {"degrees": -3}}, took_ms=20),
        ev.StepCompleted(at=1300, seq=2, name="tool:weather", result={"error": "ValueError: no city"}),
        ev.StepCompleted(at=1300, seq=3, name="tool:page", result={"result": "x" * 90, "cut_from": 200_000}),
        ev.StepCompleted(at=1300, seq=4, name="tool:plain", result=[1]),
        ev.StepFailed(at=1300, seq=5, name="tool:plain", error={"type": "E", "message": "no"}),
    ]
    assert [(m.kind, m.what, m.outcome, m.detail[:30]) for m in timeline([START, *events])][1:] == [
        ("tool", "tool weather", "ok", "{'degrees': -3}"),
        ("tool", "tool weather", "failed", "ValueError: no city"),
        ("tool", "tool page", "ok", "'" + "x" * 29),
        ("tool", "tool plain", "ok", "[1]"),
        ("tool", "tool plain", "failed", "E: no"),
    ]


def test_many_answers_are_one_line_with_what_they_cost_together():
    events = [
        ev.StepCompleted(at=2000 + n, seq=n, name="llm:m", result=answer(100, 10, 0.001), took_ms=100 + n)
        for n in range(7)
    ]
    (moment,) = collapse(timeline([START, *events]))[1:]
    assert (moment.what, moment.kind, moment.outcome, moment.took_ms) == ("7 x asked m", "llm", "ok", 106)
    assert moment.detail == "7 ok; 700 tokens in, 70 out, $0.0070; each 100 ms to 106 ms"
    assert len(moment.parts) == 7
    assert moment.child == ""


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(0, "$0"), (0.0031, "$0.0031"), (0.000012, "$0.000012"), (0.5, "$0.50"), (12.345, "$12.35"), (1234, "$1,234.00")],
)
def test_sums_are_told_with_two_digits_that_say_something(dollars, text):
    assert money(dollars) == text


def test_no_answers_are_no_sum():
    assert spent_in([START]).total() == ""
    one = ev.StepCompleted(at=1, seq=1, name="llm:m", result=answer(3, 4))
    assert spent_in([START, one]).total() == "1 model answer, 7 tokens"


# ---- maps


def opened(total=4, of="runs", at=1000, name="map1", seq=1):
    said = {"map": name, "total": total, "concurrency": 2, "of": of}
    return ev.StepCompleted(at=at, seq=seq, name="map:classify", result=said)


def noted(done, failed=0, at=2000, name="map1", **more):
    said = {"map": name, "done": done, "failed": failed, **more}
    return ev.StepCompleted(at=at, seq=2, name="map:classify", result=said)


def item(at, n, run="r", name="map1", generation="", redo=""):
    child = f"{run}~{generation}{name}.{n}{redo}"
    return ev.TaskScheduled(at=at, seq=100 + n, handler="a.c", id=child)


def done(at, n):
    return ev.TaskCompleted(at=at, seq=100 + n)


def failed(at, n):
    return ev.TaskFailed(at=at, seq=100 + n, error={"type": "E", "message": "no"})


def head(*events):
    (moment,) = [moment for moment in timeline([START, *events]) if moment.kind == "map"]
    return moment


def test_a_map_tells_live_how_many_items_are_done_and_have_failed():
    events = [opened(), item(1010, 0), item(1010, 1), item(1010, 2), done(1100, 1), failed(1200, 0)]
    moment = head(*events)
    assert (moment.what, moment.outcome, moment.took_ms) == ("map classify: 1 of 4 done, 1 failed", "open", None)
    assert moment.detail == "2 at a time"
    events += [done(1300, 2), noted(2, 1, at=1310, ended=True)]
    moment = head(*events)
    assert (moment.what, moment.outcome) == ("map classify: 2 of 4 done, 1 failed, 1 not begun", "failed")
    assert moment.took_ms == 310


def test_children_of_a_map_are_known_by_their_keys_in_every_generation_and_attempt():
    deep = head(opened(), item(1010, 0, run="r~map1.7", generation="3."), done(1100, 0))
    assert deep.what == "map classify: 1 of 4 done"
    content = [opened(), ev.TaskScheduled(at=1010, seq=100, handler="a.c", id="r~map1.0.3f9a01bc"), done(1100, 0)]
    assert head(*content).what == "map classify: 1 of 4 done"
    others = [opened(), ev.TaskScheduled(at=1010, seq=100, handler="a.c", id="r~map12.0"), done(1100, 0)]
    assert head(*others).what == "map classify: 0 of 4 done"


def test_a_later_attempt_takes_a_map_up_again():
    first = [opened(total=2), item(1010, 0), item(1010, 1), done(1100, 0), failed(1200, 1), noted(1, 1, ended=True)]
    assert head(*first).outcome == "failed"
    again = [*first, ev.AttemptFailed(at=2000, attempt=0, error={}), item(3000, 1, redo="!1")]
    assert (head(*again).what, head(*again).outcome) == ("map classify: 1 of 2 done", "open")
    ended = head(*again, done(3100, 1), noted(2, at=3200, ended=True))
    assert (ended.what, ended.outcome, ended.took_ms) == ("map classify: 2 of 2 done", "ok", 2200)
    more = head(opened(total=2), opened(total=3))  # the items were others
    assert more.what == "map classify: 0 of 3 done"


def test_a_map_of_calls_goes_by_its_notes():
    events = [opened(total=40, of="calls"), noted(10, 2), item(1500, 3), done(1600, 3)]
    assert (head(*events).what, head(*events).outcome) == ("map classify: 10 of 40 done, 2 failed", "open")


def test_a_map_that_its_run_did_not_end_is_told_so():
    moment = head(opened(), ev.RunCancelled(at=1500))
    assert (moment.outcome, moment.detail) == ("note", "2 at a time, not finished")


def test_items_are_told_within_their_map_when_they_are_many():
    events = [opened(total=8)]
    for n in range(8):
        events += [item(1010 + n, n), ev.StepCompleted(at=1015 + n, seq=n, name=f"other {n}")]
    events += [done(1500 + n, n) for n in range(8)]
    told_as = collapse(timeline([START, *events, noted(8, ended=True)]))
    (moment,) = [moment for moment in told_as if moment.kind == "map"]
    assert (len(moment.parts), moment.detail) == (8, "2 at a time; each 490 ms to 490 ms")
    assert not [moment for moment in told_as if moment.kind == "task"]
    few = collapse(timeline([START, opened(total=2), item(1010, 0), item(1010, 1)]))
    assert [moment.kind for moment in few] == ["run", "map", "task", "task"]


def test_maps_within_items_are_told_within_the_outer_map_when_they_are_many():
    inner = [
        event
        for n in range(6)
        for event in (opened(total=1, name=f"map1.{n}.map1", at=1100), noted(1, name=f"map1.{n}.map1", ended=True))
    ]
    moments = collapse(timeline([START, opened(total=6, of="calls"), *inner]))
    assert [(moment.kind, len(moment.parts)) for moment in moments] == [("run", 0), ("map", 6)]


def test_a_read_of_config_is_a_quiet_line():
    assert told(ev.ConfigRead(at=1, seq=1, key="new_tax", value=True)) == [("config new_tax = True", "note", None)]
    of_user = ev.ConfigRead(at=1, seq=2, key="group", value="treatment", unit="user-7")
    assert told(of_user) == [("config group for user-7 = 'treatment'", "note", None)]

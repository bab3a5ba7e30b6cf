"""What a later attempt of a function finds again, and what it does again."""

from __future__ import annotations

import pytest

from agnt5.contracts.errors import InvalidInputError, NonDeterminismError
from agnt5.replay.checkpoints import KEYED, Checkpoints, ChildSlot, SignalSlot, TimerSlot
from agnt5.replay.events import (
    AttemptFailed,
    AttemptStarted,
    HostLost,
    RunReopened,
    RunStarted,
    SignalDelivered,
    SignalEmitted,
    StepCompleted,
    StepFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerFired,
    TimerStarted,
)

STARTED = RunStarted(handler="data.load", kind="function")
RETRY = (AttemptFailed(attempt=0, error={}), AttemptStarted(attempt=1))


def points(*events) -> Checkpoints:
    return Checkpoints("f", [STARTED, *events])


def test_a_first_attempt_finds_nothing():
    found = points()
    assert found.step("load") == (1, None)
    assert found.child("data.part") == ChildSlot(1, "f~1", "data.part")
    assert found.timer() == TimerSlot(1)
    assert found.signal_out("done", "w-1") == SignalSlot(1)


def test_steps_are_found_by_name_and_occurrence():
    one, two = StepCompleted(seq=1, name="load", result="a"), StepCompleted(seq=2, name="load", result="b")
    found = points(one, two, *RETRY)
    assert found.step("other") == (1, None)
    assert [found.step("load") for _ in range(3)] == [(1, one), (2, two), (3, None)]


def test_the_first_value_of_a_step_stands():
    found = points(StepCompleted(seq=1, name="s", result=1), StepCompleted(seq=1, name="s", result=2))
    assert found.step("s")[1].result == 1


def test_a_failed_step_is_done_again_by_a_later_attempt_only():
    failed = StepFailed(seq=1, name="load", error={"type": "OSError"})
    assert points(failed).step("load") == (1, failed)
    assert points(failed, HostLost()).step("load") == (1, failed)
    assert points(failed, *RETRY).step("load") == (1, None)
    assert points(failed, RunReopened()).step("load") == (1, None)
    done = StepCompleted(seq=1, name="load", result=5)
    assert points(failed, *RETRY, done).step("load") == (1, done)


def test_keyless_children_are_found_by_the_order_of_calls():
    done = TaskCompleted(seq=2, result="two")
    found = points(
        TaskScheduled(seq=1, handler="data.part", id="f~1"),
        TaskScheduled(seq=2, handler="data.part", id="f~2"),
        done,
        *RETRY,
    )
    assert found.child("data.part") == ChildSlot(1, "f~1", "data.part", scheduled=True)
    assert found.child("data.part") == ChildSlot(2, "f~2", "data.part", scheduled=True, completion=done)
    assert found.child("data.part") == ChildSlot(3, "f~3", "data.part")


def test_keyed_children_are_found_by_key_in_any_order():
    found = points(
        TaskScheduled(seq=1, handler="data.part", id="f~1"),
        TaskScheduled(seq=KEYED + 1, handler="data.part", id="f~b"),
        TaskScheduled(seq=KEYED + 2, handler="data.part", id="f~=7"),
        *RETRY,
    )
    assert found.child("data.part", "7").seq == KEYED + 2
    assert found.child("data.part", "new") == ChildSlot(KEYED + 3, "f~new", "data.part")
    assert found.child("data.part", "b").scheduled
    assert found.child("data.part", "b") is found.child("data.part", "b")
    assert found.child("data.part").id == "f~1"


def test_keys_are_found_again_in_a_later_generation_too():
    found = Checkpoints(
        "f",
        [
            RunStarted(handler="data.load", kind="function", generation=2),
            TaskScheduled(seq=KEYED + 1, handler="data.part", id="f~2.a.b"),
        ],
    )
    assert found.child("data.part", "a.b") == ChildSlot(KEYED + 1, "f~2.a.b", "data.part", scheduled=True)
    assert found.child("data.part").id == "f~2.1"


def test_another_handler_at_the_same_place_is_told_to_use_a_key():
    found = points(TaskScheduled(seq=1, handler="data.part", id="f~1"), *RETRY)
    with pytest.raises(NonDeterminismError, match=r"child call 1: an earlier attempt called data.part.*give key="):
        found.child("data.whole")


def test_a_key_of_another_handler_is_refused():
    found = points()
    found.child("data.part", "a")
    with pytest.raises(InvalidInputError, match="key 'a' is taken by a child of data.part"):
        found.child("data.whole", "a")


def test_a_child_that_failed_is_done_again_under_a_new_id():
    scheduled, failed = TaskScheduled(seq=1, handler="data.part", id="f~1"), TaskFailed(seq=1, error={})
    assert points(scheduled, failed).child("data.part").completion == failed
    found = points(scheduled, failed, *RETRY)
    assert found.child("data.part") == ChildSlot(1, "f~1!1", "data.part")
    again = TaskScheduled(seq=1, handler="data.part", id="f~1!1")
    assert points(scheduled, failed, *RETRY, again).child("data.part") == ChildSlot(1, "f~1!1", "data.part", True)
    found = points(scheduled, failed, *RETRY, again, failed, AttemptStarted(attempt=2))
    assert found.child("data.part").id == "f~1!2"


def test_a_keyed_child_that_failed_keeps_its_key_and_number():
    found = points(
        TaskScheduled(seq=KEYED + 1, handler="data.part", id="f~a"), TaskFailed(seq=KEYED + 1, error={}), *RETRY
    )
    assert found.child("data.part", "a") == ChildSlot(KEYED + 1, "f~a!1", "data.part")


def test_timers_keep_their_first_due_time():
    found = points(TimerStarted(seq=1, due_ms=50), TimerStarted(seq=2, due_ms=70, name="cool"), TimerFired(seq=1))
    assert found.timer() == TimerSlot(1, 50, fired=True)
    assert found.timer("cool") == TimerSlot(2, 70)
    assert found.timer() == TimerSlot(3)


def test_a_signal_is_sent_once_over_all_attempts():
    emitted, delivered = SignalEmitted(seq=1, name="done", target="w-1", payload=5), SignalDelivered(seq=1)
    found = points(emitted, delivered, *RETRY)
    assert found.signal_out("done", "w-2") == SignalSlot(2)
    assert found.signal_out("done", "w-1") == SignalSlot(1, emitted, delivered)
    assert found.signal_out("done", "w-1") == SignalSlot(3)


def test_what_is_recorded_while_the_attempt_runs_is_seen_too():
    found = points()
    slot = found.child("data.part")
    found.feed(TaskScheduled(seq=slot.seq, handler=slot.handler, id=slot.id))
    found.feed(TaskCompleted(seq=slot.seq, result=1))
    found.feed(StepCompleted(seq=1, name="s", result=1))
    found.feed(AttemptStarted(attempt=1))
    assert found.child("data.part").completion == TaskCompleted(seq=1, result=1)
    assert found.step("s")[1].result == 1

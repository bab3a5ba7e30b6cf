"""The machine: commands in the order of asking, answers in the order of the journal, differences noticed."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from replay_kit import RUN_ID, Run, names, nothing_left

from agnt5.contracts.errors import (
    Agnt5Error,
    InvalidInputError,
    NonDeterminismError,
    RunCancelledError,
    RunEndedError,
    StepFailedError,
    TaskFailedError,
    WrongContextError,
)
from agnt5.replay.commands import (
    AwaitSignal,
    CancelStep,
    CancelTask,
    CancelTimer,
    EmitSignal,
    MarkPatch,
    RunStep,
    StartTask,
    StartTimer,
)
from agnt5.replay.events import (
    PatchMarked,
    RunStarted,
    SignalAwaited,
    SignalDelivered,
    SignalEmitted,
    SignalRefused,
    StepCompleted,
    StepFailed,
    TaskCompleted,
    TaskScheduled,
    TimerFired,
    TimerStarted,
)
from agnt5.replay.machine import Machine
from agnt5.replay.outcomes import Activation, Completed

STARTED = RunStarted(at=1_000_000, handler="orders.fulfil", kind="workflow")


async def two_tasks(machine, _started):
    one = machine.start_task("orders.charge", {"n": 1})
    two = machine.start_task("orders.ship", {"n": 2}, options={"queue": "fast"})
    return await asyncio.gather(one.future, two.future)


# ---- commands and answers


def test_commands_are_numbered_in_the_order_of_asking():
    run = Run(two_tasks)
    assert run.start() == (
        StartTask(seq=1, handler="orders.charge", id="order-17~1", input={"n": 1}),
        StartTask(seq=2, handler="orders.ship", id="order-17~2", input={"n": 2}, options={"queue": "fast"}),
    )
    run.complete(2, "b")
    run.complete(1, "a")
    assert run.outcome == Completed(["a", "b"])


def test_children_of_a_later_generation_have_ids_of_their_own():
    run = Run(two_tasks)
    assert [command.id for command in run.start(generation=2)] == ["order-17~2.1", "order-17~2.2"]


def test_the_program_sees_what_the_run_was_started_with():
    async def program(_machine, started):
        return started.input

    run = Run(program)
    run.start(input={"order": 17})
    assert run.outcome == Completed({"order": 17})


def test_the_same_key_is_the_same_child():
    async def program(machine, _started):
        one, two = machine.start_task("orders.charge", 1, key="a"), machine.start_task("orders.charge", 2, key="a")
        assert one is two
        with pytest.raises(InvalidInputError, match="key 'a' is taken by a task of orders.charge"):
            machine.start_task("orders.ship", 1, key="a")
        return await one.future

    run = Run(program)
    assert [command.id for command in run.start()] == ["order-17~a"]


def test_a_key_never_meets_a_command_number():
    async def program(machine, _started):
        for key in ("1", "2.3", "=1", "x"):
            machine.start_task("orders.charge", None, key=key)
        machine.start_task("orders.charge", None)
        with pytest.raises(InvalidInputError, match="'!' is not allowed"):
            machine.start_task("orders.charge", None, key="1!1")
        await machine.await_signal("x")

    run = Run(program)
    ids = [command.id for command in run.start()[:5]]
    assert ids == ["order-17~=1", "order-17~=2.3", "order-17~==1", "order-17~x", "order-17~5"]


def test_a_failed_task_raises_what_was_recorded():
    async def program(machine, _started):
        await machine.start_task("orders.charge", 1).future

    run = Run(program)
    run.start()
    run.fail(1, "CardDeclined", "no money")
    error = run.outcome.error
    assert isinstance(error, TaskFailedError)
    assert (error.type, error.message) == ("CardDeclined", "no money")


def test_cancelling_a_task_asks_its_child_once_and_its_error_comes_back():
    async def program(machine, _started):
        ref = machine.start_task("orders.charge", 1)
        machine.cancel_task(ref)
        machine.cancel_task(ref)
        try:
            await ref.future
        except RunCancelledError:
            machine.cancel_task(ref)
            return "cancelled"

    run = Run(program)
    assert run.start()[1:] == (CancelTask(seq=2, target=1, id="order-17~1"),)
    assert run.fail(1, "RunCancelledError", "asked") == ()
    assert run.outcome == Completed("cancelled")


def test_a_step_is_run_by_the_host_and_its_value_comes_back():
    async def program(machine, _started):
        return await machine.step("load", lambda: 41) + 1

    run = Run(program)
    (command,) = run.start()
    assert isinstance(command, RunStep)
    assert (command.seq, command.name, command.fn()) == (1, "load", 41)
    run.step_done(1, "load", 41)
    assert run.outcome == Completed(42)


def test_a_failed_step_raises_every_time():
    async def program(machine, _started):
        await machine.step("load", lambda: 41)

    run = Run(program)
    run.start()
    run.feed(StepFailed(seq=1, name="load", error={"type": "OSError", "message": "gone"}))
    for answer in (run.answer, run.replay()[1]):
        assert isinstance(answer.outcome.error, StepFailedError)
        assert answer.outcome.error.type == "OSError"


def test_a_step_that_nobody_waits_for_is_stopped():
    async def program(machine, _started):
        try:
            async with asyncio.timeout(5):
                await machine.step("slow", lambda: 1)
        except TimeoutError:
            await machine.await_signal("go")

    run = Run(program)
    assert names(run.start()) == ["StartTimer 1", "RunStep 2"]
    assert run.fire(1, 1_005_000) == (CancelStep(seq=2), AwaitSignal(seq=3, name="go"))
    run.step_done(2, "slow", "too late")
    assert run.replay()[1].commands == ()
    lost = [event for event in run.journal if not isinstance(event, StepCompleted)]
    assert Machine(RUN_ID, program).activate(lost).commands == ()


def test_a_cancelled_timer_is_taken_back_and_its_firing_is_ignored():
    async def program(machine, _started):
        timer = machine.start_timer(1_005_000, "cool-off")
        await machine.await_signal("go")
        timer.cancel()
        await machine.await_signal("end")

    run = Run(program)
    run.start()
    assert run.signal("go") == (CancelTimer(seq=1), AwaitSignal(seq=3, name="end"))
    assert run.fire(1, 1_005_000) == ()
    run.signal("end")
    assert run.outcome == Completed(None)


def test_the_due_time_that_was_recorded_counts():
    async def program(_machine, _started):
        await asyncio.sleep(60)

    machine = Machine(RUN_ID, program)
    machine.activate([STARTED, TimerStarted(at=1, seq=1, due_ms=1_030_000)])
    assert machine.open_commands() == (StartTimer(seq=1, due_ms=1_030_000),)


def test_an_emitted_signal_is_delivered_or_refused():
    async def program(machine, _started):
        await machine.emit_signal("paid", "order-18", {"sum": 1})
        await machine.emit_signal("paid", "order-19", None)

    run = Run(program)
    assert run.start() == (EmitSignal(seq=1, name="paid", target="order-18", payload={"sum": 1}),)
    run.feed(SignalDelivered(seq=1))
    run.feed(SignalRefused(seq=2, error={"type": "RunEndedError", "message": "order-19 has ended"}))
    assert isinstance(run.outcome.error, RunEndedError)
    assert str(run.outcome.error) == "order-19 has ended"


def test_repeated_answers_and_answers_after_the_end_are_ignored():
    run = Run(two_tasks)
    run.start()
    run.complete(1, "first")
    run.complete(1, "second")
    run.fail(1)
    run.complete(2, "b")
    run.complete(2, "again")
    assert run.outcome == Completed(["first", "b"])
    assert run.replay()[1] == Activation((), Completed(["first", "b"]))


def test_nothing_counts_after_the_end():
    run = Run(two_tasks)
    run.start()
    run.complete(1, "a")
    run.complete(2, "b")
    run.cancel()
    assert run.complete(9) == ()
    assert run.outcome == Completed(["a", "b"])


def test_an_answer_to_a_cancelled_waiter_is_ignored():
    async def program(machine, _started):
        ref = machine.start_task("orders.charge", 1)
        ref.future.cancel()
        await machine.await_signal("x")

    run = Run(program)
    run.start()
    assert run.complete(1, "nobody listens") == ()
    assert run.outcome is None


def test_own_commands_are_taken_without_harm():
    run = Run(two_tasks)
    run.start()
    answer = run.machine.activate(run.journal[1:])
    assert answer == Activation((), None)


def test_random_values_and_ids_are_the_same_in_every_replay_and_differ_between_runs_and_generations():
    async def program(machine, _started):
        return [machine.random().random(), machine.random().randint(1, 10**9), machine.uuid(), machine.uuid()]

    def drawn(run_id=RUN_ID, generation=0):
        run = Run(program, run_id)
        run.start(generation=generation)
        return run.outcome.result

    assert drawn() == drawn()
    assert drawn() != drawn(generation=1)
    assert drawn() != drawn("order-18")
    assert len({*drawn()[2:], *drawn(generation=1)[2:]}) == 4
    # open runs live on with them: these values must never change
    assert drawn()[0] == 0.5999940818376234
    assert drawn()[2:] == [
        uuid.UUID("93b72c8b-73cb-4d90-a8d6-f02a6f9a2b06"),
        uuid.UUID("5b0dd714-0ac2-4faa-b712-cc91b620d8c3"),
    ]


def test_a_ctx_used_outside_of_its_workflow_says_so():
    run = Run(two_tasks)
    run.start()
    with pytest.raises(WrongContextError, match="outside of its own code"):
        run.machine.start_task("orders.charge", 1)


def test_a_journal_begins_with_run_started_and_has_one():
    with pytest.raises(Agnt5Error, match="not with RunStarted"):
        Machine(RUN_ID, two_tasks).activate([TaskCompleted(seq=1)])
    with pytest.raises(Agnt5Error, match="second RunStarted"):
        Machine(RUN_ID, two_tasks).activate([STARTED, STARTED])


def test_an_error_of_the_call_itself_is_the_programs():
    def program(_machine, _started):
        raise TypeError("no such parameter")

    run = Run(program)
    run.start()
    assert isinstance(run.outcome.error, TypeError)


# ---- replay


def test_replaying_is_true_until_the_journal_is_caught_up_with():
    seen = []

    async def program(machine, _started):
        for index in range(3):
            seen.append((index, machine.replaying))
            await machine.start_task("orders.charge", index).future
        seen.append(("end", machine.replaying))

    run = Run(program)
    run.start()
    run.complete(1)
    seen.clear()
    machine, _ = run.replay()
    assert seen == [(0, True), (1, True)]
    machine.activate([TaskCompleted(seq=2), TaskCompleted(at=9, seq=3)])
    assert seen[2:] == [(2, False), ("end", False)]


def test_what_was_processed_before_is_silent_even_where_it_asked_for_nothing():
    seen = []

    async def program(machine, _started):
        await machine.await_signal("a")
        seen.append(machine.replaying)
        await machine.step("s", int)
        seen.append(machine.replaying)

    run = Run(program)
    run.start()
    run.signal("a")
    run.step_done(2, "s")
    for processed, expected in ((0, [True, False]), (3, [True, False]), (4, [True, True])):
        seen.clear()
        run.replay(processed=processed)
        assert seen == expected, processed


def test_open_commands_are_those_that_are_journaled_and_have_no_answer():
    async def program(machine, _started):
        task = machine.start_task("orders.charge", {"n": 1}, key="c")
        machine.cancel_task(task)
        machine.emit_signal("paid", "order-18", 5)
        machine.start_timer(2_000_000, "cool-off")
        machine.start_timer(2_000_000, "other").cancel()
        machine.step("s", int)
        await machine.await_signal("go")

    run = Run(program)
    run.start()
    assert run.machine.open_commands() == ()
    machine, _ = run.replay()
    assert machine.open_commands() == (
        StartTask(seq=1, handler="orders.charge", id="order-17~c", input={"n": 1}),
        CancelTask(seq=2, target=1, id="order-17~c"),
        EmitSignal(seq=3, name="paid", target="order-18", payload=5),
        StartTimer(seq=4, due_ms=2_000_000, name="cool-off"),
        AwaitSignal(seq=7, name="go"),
    )
    assert machine.waiting_on == (
        {"seq": 1, "kind": "task", "name": "orders.charge", "id": "order-17~c"},
        {"seq": 3, "kind": "emit", "name": "paid", "target": "order-18"},
        {"seq": 4, "kind": "timer", "name": "cool-off", "due_ms": 2_000_000},
        {"seq": 6, "kind": "step", "name": "s"},
        {"seq": 7, "kind": "signal", "name": "go"},
    )
    machine.activate([TaskCompleted(at=9, seq=1), SignalDelivered(at=9, seq=3)])
    assert names(machine.open_commands()) == ["StartTimer 4", "AwaitSignal 7"]


def test_an_unrecorded_step_is_run_again_on_replay():
    async def program(machine, _started):
        step = machine.step("load", int)
        await machine.start_task("orders.charge", 1).future
        await step

    run = Run(program)
    run.start()
    run.complete(2)
    assert names(run.replay()[1].commands) == ["RunStep 1"]


def test_a_taken_back_timer_is_not_taken_back_again_once_a_later_command_is_journaled():
    async def program(machine, _started):
        timer = machine.start_timer(2_000_000)
        await machine.await_signal("a")
        timer.cancel()
        await machine.await_signal("b")
        await machine.await_signal("c")

    run = Run(program)
    run.start()
    run.signal("a")
    assert run.replay()[1].commands == ()
    lost = run.journal[:-1]
    assert names(Machine(RUN_ID, program).activate(lost).commands) == ["CancelTimer 1", "AwaitSignal 3"]


# ---- differences between code and journal


async def charge_then_sleep(machine, _started):
    await machine.start_task("orders.charge", 1).future
    await machine.start_timer(machine.now_ms() + 1_000, "cool-off")


def mismatch(program, *events) -> str:
    machine = Machine(RUN_ID, program)
    with pytest.raises(NonDeterminismError) as caught:
        machine.activate([STARTED, *events])
    with pytest.raises(NonDeterminismError, match="command"):
        machine.activate([])
    return str(caught.value)


CHARGED = (TaskScheduled(seq=1, handler="orders.charge", id="order-17~1"), TaskCompleted(seq=1))


def test_the_message_tells_where_what_and_what_to_do():
    assert mismatch(charge_then_sleep, TimerStarted(seq=1, due_ms=5, name="cool-off")) == (
        'run order-17, command 1: the journal has timer "cool-off", the code asked task "orders.charge" '
        "(run order-17~1); the workflow changed while runs were open, gate the change with ctx.patched(...)"
    )


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        (TaskScheduled(seq=2, handler="orders.bill", id="order-17~2"), 'task "orders.bill" (run order-17~2)'),
        (TimerStarted(seq=2, due_ms=1, name="other"), 'timer "other"'),
        (TimerStarted(seq=2, due_ms=1), "an unnamed timer (sleep or timeout)"),
        (SignalAwaited(seq=2, name="paid"), 'a wait for signal "paid"'),
        (SignalEmitted(seq=2, name="paid", target="order-18"), 'signal "paid" to run order-18'),
        (StepCompleted(seq=2, name="load"), 'step "load"'),
        (StepFailed(seq=2, name="load", error={}), 'step "load"'),
        (PatchMarked(seq=2, change="new-tax"), 'patch "new-tax"'),
    ],
)
def test_every_other_command_at_a_number_is_noticed(recorded, shown):
    message = mismatch(charge_then_sleep, *CHARGED, recorded)
    assert f"command 2: the journal has {shown}, the code asked timer" in message


@pytest.mark.parametrize(
    "recorded",
    [
        TaskScheduled(seq=1, handler="orders.ship", id="order-17~1"),
        TaskScheduled(seq=1, handler="orders.charge", id="order-17~other-key"),
    ],
)
def test_another_handler_or_key_of_a_task_is_noticed(recorded):
    assert "command 1" in mismatch(charge_then_sleep, recorded)


def test_another_name_of_a_step_signal_or_target_is_noticed():
    async def steps(machine, _started):
        await machine.step("new-name", int)

    async def signals(machine, _started):
        await machine.await_signal("new-name")

    async def emits(machine, _started):
        await machine.emit_signal("paid", "order-20", None)

    assert 'has step "load", the code asked step "new-name"' in mismatch(steps, StepCompleted(seq=1, name="load"))
    assert 'a wait for signal "new-name"' in mismatch(signals, SignalAwaited(seq=1, name="paid"))
    assert "to run order-20" in mismatch(emits, SignalEmitted(seq=1, name="paid", target="order-18"))


def test_a_command_that_the_code_does_not_ask_any_more_is_noticed():
    async def program(machine, _started):
        await machine.start_task("orders.charge", 1).future

    message = mismatch(program, *CHARGED, TimerStarted(seq=2, due_ms=1, name="cool-off"))
    assert 'command 2: the journal has timer "cool-off", the code did not ask for it' in message


def test_a_missing_record_is_legal_for_steps_only():
    async def program(machine, _started):
        machine.start_timer(5, "new")
        await machine.start_task("orders.charge", 1).future

    message = mismatch(program, TaskScheduled(seq=2, handler="orders.charge", id="order-17~2"))
    assert 'command 1: the journal has nothing, but has command 2, the code asked timer "new"' in message


@pytest.mark.parametrize("event", [TaskCompleted(seq=2), TimerFired(seq=2), SignalDelivered(seq=2)])
def test_an_answer_to_a_command_that_was_not_asked_is_noticed(event):
    assert "command 2: the journal has" in mismatch(charge_then_sleep, *CHARGED[:1], event)


def test_an_answer_of_another_kind_is_noticed():
    assert 'the firing of a timer, the code asked task "orders.charge"' in mismatch(
        charge_then_sleep, *CHARGED[:1], TimerFired(seq=1)
    )


def test_own_commands_that_differ_are_noticed():
    run = Run(two_tasks)
    run.start()
    with pytest.raises(NonDeterminismError, match="command 1"):
        run.machine.activate([TimerStarted(seq=1, due_ms=1)])


def test_user_code_cannot_swallow_a_difference():
    after = []

    async def program(machine, _started):
        try:
            machine.start_task("orders.charge", 1)
        except Exception:
            after.append("swallowed")
        after.append("went on")

    mismatch(program, TimerStarted(seq=1, due_ms=1))
    assert after == []


def test_no_other_code_runs_after_a_difference():
    seen = []

    async def program(machine, _started):
        async def inner():
            machine.start_task("orders.charge", 1)

        try:
            await asyncio.create_task(inner())
        except BaseException as error:
            seen.append(type(error))
            raise

    mismatch(program, TimerStarted(seq=1, due_ms=1))
    assert seen == [GeneratorExit]


def test_a_difference_in_a_timeout_is_noticed_quietly(caplog):
    async def program(machine, _started):
        async def inner():
            await machine.await_signal("x")

        await asyncio.wait_for(inner(), 5)

    with nothing_left():
        mismatch(program, PatchMarked(seq=1, change="x"))
    assert caplog.text == ""


# ---- patches


async def patched_program(machine, _started):
    await machine.start_task("orders.charge", 1).future
    if machine.patched("new-tax"):
        await machine.start_task("orders.tax", 1).future
    await machine.start_task("orders.ship", 1).future
    return machine.patched("new-tax")


async def unpatched_program(machine, _started):
    await machine.start_task("orders.charge", 1).future
    await machine.start_task("orders.ship", 1).future


def test_a_new_run_takes_the_changed_code_and_records_so():
    run = Run(patched_program)
    run.start()
    assert run.complete(1)[0] == MarkPatch(seq=2, change="new-tax")
    run.complete(3)
    run.complete(4)
    assert run.outcome == Completed(True)
    assert run.replay()[1] == Activation((), Completed(True))


def test_a_run_that_was_past_the_change_stays_with_the_old_code():
    run = Run(unpatched_program)
    run.start()
    run.complete(1)
    machine, answer = run.replay(patched_program)
    assert answer.commands == ()
    assert machine.activate([TaskCompleted(at=9, seq=2)]).outcome == Completed(False)


def test_an_open_run_that_had_not_come_this_far_takes_the_changed_code():
    run = Run(unpatched_program)
    run.start()
    machine, _ = run.replay(patched_program)
    assert names(machine.activate([TaskCompleted(at=9, seq=1)]).commands) == ["MarkPatch 2", "StartTask 3"]


def test_a_patch_that_was_recorded_and_is_gone_from_the_code_is_noticed():
    run = Run(patched_program)
    run.start()
    run.complete(1)
    with pytest.raises(NonDeterminismError, match='the journal has patch "new-tax"'):
        run.replay(unpatched_program)


def test_a_second_patch_in_front_of_a_recorded_one_is_old_code_there():
    async def program(machine, _started):
        await machine.start_task("orders.charge", 1).future
        answers = [machine.patched("newer"), machine.patched("new-tax")]
        machine.start_task("orders.tax", 1)
        return answers

    run = Run(patched_program)
    run.start()
    run.complete(1)
    assert run.replay(program)[1].outcome == Completed([False, True])

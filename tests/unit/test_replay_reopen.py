"""`agnt5 runs retry`: what failed at the end is done again under a new id, what the code built on stays."""

from __future__ import annotations

import asyncio

import pytest
from replay_kit import Run, names

from agnt5.contracts.errors import NonDeterminismError, RunCancelledError, TaskFailedError
from agnt5.replay.commands import StartTask
from agnt5.replay.events import CancelRequested, RunFailed, RunReopened, StepFailed, TaskCompleted, TaskScheduled
from agnt5.replay.machine import Machine
from agnt5.replay.outcomes import Activation, Cancelled, Completed, Failed


async def charge_and_ship(machine, _started):
    charged = await machine.start_task("orders.charge", {"n": 1}, key="charge").future
    shipped = await machine.start_task("orders.ship", {"n": 2}).future
    return charged, shipped


def reopened(run: Run) -> tuple:
    """Re-open a failed run: a new machine takes over with the whole journal."""
    assert isinstance(run.outcome, Failed)
    run.journal += [RunFailed(at=run.now_ms, error={}), RunReopened(at=run.now_ms)]
    journal, run.journal = run.journal, []
    run.machine = Machine(run.run_id, run.program)
    return run.feed(*journal)


def test_the_failed_task_is_started_again_under_a_new_id():
    run = Run(charge_and_ship)
    run.start()
    run.complete(1, "paid")
    run.fail(2)
    assert reopened(run) == (StartTask(seq=2, handler="orders.ship", id="order-17~2!1", input={"n": 2}),)
    assert run.machine.waiting_on[0]["id"] == "order-17~2!1"
    run.complete(2, "sent")
    assert run.outcome == Completed(("paid", "sent"))
    assert run.replay()[1] == Activation((), Completed(("paid", "sent")))


def test_a_task_with_a_key_keeps_it():
    run = Run(charge_and_ship)
    run.start()
    run.fail(1)
    assert [command.id for command in reopened(run)] == ["order-17~charge!1"]


def test_each_reopening_gives_a_new_id():
    run = Run(charge_and_ship)
    run.start()
    run.complete(1)
    run.fail(2)
    reopened(run)
    run.fail(2)
    assert [command.id for command in reopened(run)] == ["order-17~2!2"]
    run.complete(2)
    assert isinstance(run.replay()[1].outcome, Completed)


def test_a_crash_before_the_redo_is_journaled_issues_it_again():
    run = Run(charge_and_ship)
    run.start()
    run.complete(1)
    run.fail(2)
    commands = reopened(run)
    run.journal = [event for event in run.journal if not isinstance(event, TaskScheduled) or "!" not in event.id]
    assert run.replay()[1].commands == commands


def test_a_failed_step_is_run_again():
    async def program(machine, _started):
        return await machine.step("load", lambda: 7)

    run = Run(program)
    run.start()
    run.feed(StepFailed(seq=1, name="load", error={"type": "OSError"}))
    assert names(reopened(run)) == ["RunStep 1"]
    run.step_done(1, "load", 7)
    assert run.outcome == Completed(7)
    assert run.replay()[1] == Activation((), Completed(7))


def test_all_failures_that_nothing_was_built_on_are_done_again():
    async def program(machine, _started):
        refs = [machine.start_task("orders.charge", n) for n in range(3)]
        results = await asyncio.gather(*(ref.future for ref in refs), return_exceptions=True)
        if any(isinstance(result, Exception) for result in results):
            raise next(result for result in results if isinstance(result, Exception))
        return results

    run = Run(program)
    run.start()
    run.fail(3)
    run.complete(2, "b")
    run.fail(1)
    assert [command.id for command in reopened(run)] == ["order-17~1!1", "order-17~3!1"]
    run.complete(3, "c")
    run.complete(1, "a")
    assert run.outcome == Completed(["a", "b", "c"])


def test_a_failure_that_the_code_went_on_from_stays():
    async def program(machine, _started):
        try:
            await machine.start_task("orders.charge", 1).future
        except TaskFailedError:
            await machine.start_task("orders.other-card", 1).future
        await machine.start_task("orders.ship", 1).future

    run = Run(program)
    run.start()
    run.fail(1)
    run.complete(2)
    run.fail(3)
    assert [command.id for command in reopened(run)] == ["order-17~3!1"]
    run.complete(3)
    assert run.outcome == Completed(None)


def test_a_child_that_the_code_cancelled_stays_cancelled():
    async def program(machine, _started):
        ref = machine.start_task("orders.charge", 1)
        machine.cancel_task(ref)
        try:
            await ref.future
        except RunCancelledError:
            raise ValueError("no charge") from None

    run = Run(program)
    run.start()
    run.fail(1, "RunCancelledError")
    assert reopened(run) == ()
    assert isinstance(run.outcome, Failed)


def test_a_run_that_ran_out_of_time_goes_on_where_it_was():
    async def program(machine, _started):
        return await machine.start_task("orders.charge", 1).future

    run = Run(program)
    run.start()
    run.feed(CancelRequested(reason="run timeout", deadline=True))
    assert run.outcome == Cancelled("run timeout")
    run.journal += [RunFailed(error={}), RunReopened()]
    machine, answer = run.replay()
    assert answer == Activation((), None)
    assert machine.activate([TaskCompleted(seq=1, result="paid")]).outcome == Completed("paid")


def test_an_error_of_the_workflow_itself_is_gone_once_its_code_is_fixed():
    async def program(machine, _started):
        value = await machine.start_task("orders.charge", 1).future
        if broken:
            raise ValueError("a bug")
        return value

    broken = True
    run = Run(program)
    run.start()
    run.complete(1, "paid")
    broken = False
    reopened(run)
    assert run.outcome == Completed("paid")


def test_a_recorded_redo_of_another_handler_is_noticed():
    run = Run(charge_and_ship)
    run.start()
    run.machine.activate([TaskScheduled(seq=1, handler="orders.charge", id="order-17~charge!1")])
    with pytest.raises(NonDeterminismError):
        run.machine.activate([TaskScheduled(seq=1, handler="orders.charge", id="order-17~chargex")])


def test_a_live_machine_takes_its_own_redo():
    run = Run(charge_and_ship)
    run.start()
    run.fail(1)
    reopened(run)
    assert run.feed(TaskScheduled(seq=1, handler="orders.charge", id="order-17~charge!1")) == ()
    assert names(run.feed(TaskCompleted(seq=1))) == ["StartTask 2"]

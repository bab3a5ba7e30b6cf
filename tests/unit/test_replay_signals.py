"""Signals: buffered when early, in order per name, each consumed once, and none eaten by a cancelled waiter."""

from __future__ import annotations

import asyncio

from replay_kit import Run, names

from agnt5.replay.events import RunStarted, SignalReceived
from agnt5.replay.outcomes import Completed, ContinuedAsNew, Failed


async def three(machine, _started):
    return [await machine.await_signal("paid") for _ in range(3)]


def test_early_signals_wait_in_the_order_of_their_arrival():
    async def program(machine, _started):
        await machine.await_signal("go")
        return [await machine.await_signal("paid") for _ in range(3)]

    run = Run(program)
    run.start()
    for payload in (1, 2, 3):
        run.signal("paid", payload)
    run.signal("go")
    assert run.outcome == Completed([1, 2, 3])


def test_waiters_are_served_in_the_order_of_asking():
    async def program(machine, _started):
        return await asyncio.gather(*(machine.await_signal("paid") for _ in range(3)))

    run = Run(program)
    run.start()
    for payload in (1, 2, 3):
        run.signal("paid", payload)
    assert run.outcome == Completed([1, 2, 3])


def test_names_do_not_mix():
    async def program(machine, _started):
        return await asyncio.gather(machine.await_signal("a"), machine.await_signal("b"))

    run = Run(program)
    run.start()
    run.signal("b", "B")
    run.signal("c", "C")
    run.signal("a", "A")
    assert run.outcome == Completed(["A", "B"])


def test_a_signal_that_was_sent_twice_counts_once():
    run = Run(three)
    run.start()
    run.signal("paid", 1, op="x:1")
    run.signal("paid", 1, op="x:1")
    run.signal("paid", 2, op="x:2")
    run.signal("paid", 3)
    assert run.outcome == Completed([1, 2, 3])


def test_a_waiter_that_timed_out_eats_nothing():
    async def program(machine, _started):
        try:
            await asyncio.wait_for(machine.await_signal("paid"), 1)
        except TimeoutError:
            return await machine.await_signal("paid")

    run = Run(program)
    timer = next(c for c in run.start() if type(c).__name__ == "StartTimer")
    run.fire(timer.seq, timer.due_ms)
    run.signal("paid", "kept")
    assert run.outcome == Completed("kept")


def test_a_waiter_that_is_cancelled_in_the_moment_of_delivery_gives_the_signal_back():
    async def program(machine, _started):
        async def wait(future):
            return await future

        future = machine.await_signal("paid")
        first = asyncio.create_task(wait(future))
        # runs before the callback that wakes the task: the payload is there, and nobody has taken it
        future.add_done_callback(lambda _: first.cancel())
        await asyncio.wait([first])
        return first.cancelled(), await machine.await_signal("paid")

    run = Run(program)
    run.start()
    run.signal("paid", 1)
    assert run.outcome == Completed((True, 1))


def test_a_buffered_signal_goes_back_to_its_place_when_the_waiter_is_cancelled_before_it_runs():
    async def program(machine, _started):
        await machine.await_signal("go")
        waiters = [machine.await_signal("paid"), machine.await_signal("paid")]
        for waiter in waiters:
            waiter.cancel()
        return [await machine.await_signal("paid") for _ in range(3)]

    run = Run(program)
    run.start()
    for payload in (1, 2, 3):
        run.signal("paid", payload)
    run.signal("go")
    assert run.outcome == Completed([1, 2, 3])


def test_a_signal_given_back_goes_to_the_next_waiter():
    async def program(machine, _started):
        await machine.await_signal("go")
        first, second = machine.await_signal("paid"), machine.await_signal("paid")
        first.cancel()
        return await second

    run = Run(program)
    run.start()
    run.signal("paid", 1)
    run.signal("go")
    assert run.outcome == Completed(1)
    assert run.machine.waiting_on == ()


def test_gather_that_is_cancelled_gives_its_delivered_signals_back():
    async def program(machine, _started):
        both = asyncio.gather(machine.await_signal("a"), machine.await_signal("b"))
        await machine.await_signal("stop")
        both.cancel()
        try:
            await both
        except asyncio.CancelledError:
            return await machine.await_signal("a")

    run = Run(program)
    run.start()
    run.signal("a", "back")
    run.signal("stop")
    assert run.outcome == Completed("back")


def test_signals_that_were_not_consumed_go_to_the_next_generation_in_order():
    async def program(machine, _started):
        await machine.await_signal("go")
        machine.await_signal("handed")
        machine.continue_as_new({"round": 2})

    run = Run(program)
    run.start()
    for name in ("x", "handed", "y", "x", "go"):
        run.signal(name, name.upper())
    assert isinstance(run.outcome, ContinuedAsNew)
    assert run.outcome.input == {"round": 2}
    assert [signal.name for signal in run.outcome.carried] == ["x", "handed", "y", "x"]
    run.signal("late", 1)
    assert [signal.name for signal in run.outcome.carried][-1] == "late"


def test_a_signal_after_the_end_is_kept_though_a_waiter_was_left_behind():
    async def program(machine, _started):
        async def wait():
            await machine.await_signal("late")

        async def cleans_up(task):
            try:
                await machine.await_signal("never")
            finally:
                task.cancel()

        asyncio.create_task(cleans_up(asyncio.create_task(wait())))
        await machine.await_signal("go")
        machine.continue_as_new(None)

    run = Run(program)
    run.start()
    run.signal("go")
    run.signal("late", 1)
    assert [signal.name for signal in run.outcome.carried] == ["late"]


def test_continue_as_new_gets_through_except_exception_and_task_groups():
    async def program(machine, _started):
        async def inner():
            try:
                machine.continue_as_new(2)
            except Exception:
                pass

        async with asyncio.TaskGroup() as group:
            group.create_task(inner())

    run = Run(program)
    run.start()
    assert run.outcome == ContinuedAsNew(2, ())


def test_an_error_during_continue_as_new_is_a_failure():
    async def program(machine, _started):
        try:
            machine.continue_as_new(2)
        finally:
            raise ValueError("in cleanup")

    run = Run(program)
    run.start()
    assert isinstance(run.outcome, Failed)


def test_carried_signals_open_the_next_journal():
    run = Run(three)
    run.feed(
        RunStarted(handler="orders.fulfil", kind="workflow", generation=1),
        *(SignalReceived(name="paid", payload=n) for n in (1, 2, 3)),
    )
    assert run.outcome == Completed([1, 2, 3])
    assert names(run.answer.commands) == ["AwaitSignal 1", "AwaitSignal 2", "AwaitSignal 3"]

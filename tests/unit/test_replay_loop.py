"""The loop: asyncio's own tools work inside workflows, in one order, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import sys

import pytest
from replay_kit import Run, names, nothing_left

from agnt5.contracts.errors import WorkflowIOError
from agnt5.replay.commands import CancelTimer, StartTimer
from agnt5.replay.events import CancelRequested, TimerFired
from agnt5.replay.outcomes import Cancelled, Completed, Failed

VAR = contextvars.ContextVar("VAR", default="unset")


def ended(program) -> object:
    """The result of a program that waits for nothing."""
    run = Run(program)
    run.start()
    assert isinstance(run.outcome, Completed), run.outcome
    return run.outcome.result


def test_sleep_is_a_durable_timer_at_an_absolute_time():
    async def program(machine, _started):
        await asyncio.sleep(2.5)
        return machine.now_ms()

    run = Run(program)
    assert run.start() == (StartTimer(seq=1, due_ms=1_002_500),)
    run.fire(1, 1_002_500)
    assert run.outcome == Completed(1_002_500)


@pytest.mark.parametrize(("seconds", "due"), [(0.0001, 1_000_001), (1.0004, 1_001_001), (0.1 + 0.2, 1_000_300)])
def test_a_timer_is_rounded_up_to_whole_milliseconds_but_not_for_floating_point_noise(seconds, due):
    async def program(_machine, _started):
        await asyncio.sleep(seconds)

    run = Run(program)
    assert run.start() == (StartTimer(seq=1, due_ms=due),)


def test_a_timeout_at_an_absolute_loop_time_is_not_rounded_up_by_floating_point_noise():
    async def program(_machine, _started):
        async with asyncio.timeout(0.7):
            await asyncio.Event().wait()

    for at in range(1_700_000_000_000, 1_700_000_000_200):
        run = Run(program)
        run.now_ms = at
        assert run.start() == (StartTimer(seq=1, due_ms=at + 700),)
        run.machine.close()


def test_sleep_zero_yields_without_a_timer():
    seen = []

    async def other():
        seen.append("other")

    async def program(_machine, _started):
        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        seen.append("main")
        await task

    run = Run(program)
    assert run.start() == ()
    assert seen == ["other", "main"]


def test_time_never_goes_back_and_a_fired_timer_is_always_due():
    async def program(machine, _started):
        seen = []
        for _ in range(2):
            await machine.await_signal("tick")
            seen.append(machine.now_ms())
        await asyncio.sleep(1)
        return [*seen, machine.now_ms()]

    run = Run(program)
    run.start()
    run.now_ms = 900
    run.signal("tick")
    run.now_ms = 2_000_000
    run.signal("tick")
    run.feed(TimerFired(seq=3, at=1_999_000))
    assert run.outcome == Completed([1_000_000, 2_000_000, 2_001_000])


def test_asyncio_tools_work():
    async def give(value, after=0.0):
        await asyncio.sleep(after)
        return value

    async def program(machine, _started):
        queue, event, lock = asyncio.Queue(), asyncio.Event(), asyncio.Lock()

        async def worker():
            async with lock:
                item = await queue.get()
            event.set()
            return item

        task = asyncio.create_task(worker(), name="worker")
        assert asyncio.current_task() is not task
        assert task in asyncio.all_tasks()
        await queue.put("item")
        await event.wait()
        async with asyncio.TaskGroup() as group:
            one = group.create_task(give(1))
            two = group.create_task(give(2))
        done, pending = await asyncio.wait([asyncio.ensure_future(give(3))])
        first = [await coming for coming in asyncio.as_completed([give(5, 2), give(4, 1)])]
        shielded = await asyncio.shield(give(6))
        return [await task, one.result(), two.result(), done.pop().result(), len(pending), first, shielded]

    run = Run(program)
    assert names(run.start()) == ["StartTimer 1", "StartTimer 2"]
    due = {command.due_ms: command.seq for command in run.answer.commands}
    run.fire(due[1_001_000], 1_001_000)
    run.fire(due[1_002_000], 1_002_000)
    assert run.outcome == Completed(["item", 1, 2, 3, 0, [4, 5], 6])


def test_a_timeout_that_is_not_needed_is_taken_back():
    async def program(machine, _started):
        async with asyncio.timeout(10):
            return await machine.start_task("orders.charge", 1).future

    run = Run(program)
    run.start()
    assert run.complete(2, "paid") == (CancelTimer(seq=1),)
    assert run.outcome == Completed("paid")


def test_wait_for_times_out():
    async def program(machine, _started):
        try:
            await asyncio.wait_for(machine.await_signal("paid"), 10)
        except TimeoutError:
            return "late"

    run = Run(program)
    timer = next(command for command in run.start() if isinstance(command, StartTimer))
    run.fire(timer.seq, timer.due_ms)
    assert run.outcome == Completed("late")


def test_sets_of_tasks_and_futures_have_one_order():
    async def program(machine, _started):
        order = []

        async def wait(index):
            try:
                await machine.await_signal(f"s{index}")
            finally:
                order.append(index)
                machine.start_task("orders.undo", index)

        async with asyncio.TaskGroup() as group:
            for index in range(40):
                group.create_task(wait(index))
            await asyncio.sleep(0)
            group._abort()
        done, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0, n)) for n in range(40)])
        futures = set()
        for _ in range(40):
            futures.add(asyncio.get_running_loop().create_future())
        return order, [task.result() for task in done], [f.number for f in futures]

    results = []
    for _ in range(4):
        ballast = [object() for _ in range(1_000)]
        run = Run(program)
        run.start()
        results.append((run.outcome, run.answer.commands))
        del ballast
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.create_connection(asyncio.Protocol, "localhost", 1),
        lambda loop: loop.getaddrinfo("localhost", 1),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.add_signal_handler(15, print),
        lambda loop: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
        lambda loop: loop.sock_recv(None, 1),
        lambda loop: loop.run_forever(),
        lambda loop: loop.set_task_factory(None),
    ],
)
def test_everything_that_cannot_be_replayed_is_refused(use):
    async def program(_machine, _started):
        with pytest.raises(WorkflowIOError, match=r"loop\.\w+\(\) inside workflow code.*ctx\.step"):
            use(asyncio.get_running_loop())

    ended(program)


def test_threads_of_asyncio_are_refused():
    async def program(_machine, _started):
        await asyncio.to_thread(print)

    run = Run(program)
    run.start()
    assert isinstance(run.outcome, Failed)
    assert "run_in_executor" in str(run.outcome.error)


def test_async_generators_are_refused_but_not_those_of_context_managers():
    async def numbers():
        yield 1

    @contextlib.asynccontextmanager
    async def manager():
        yield "inside"

    async def program(_machine, _started):
        with pytest.raises(WorkflowIOError, match="async generator .*numbers"):
            async for _ in numbers():
                pass
        async with manager() as value:
            return value

    hooks = sys.get_asyncgen_hooks()
    assert ended(program) == "inside"
    assert sys.get_asyncgen_hooks() == hooks


def test_timers_out_of_range_are_refused_with_a_message():
    async def program(_machine, _started):
        await asyncio.sleep(float("inf"))

    run = Run(program)
    run.start()
    assert "out of range" in str(run.outcome.error)


async def test_it_runs_inside_another_running_loop_and_task():
    outer_loop, outer_task = asyncio.get_running_loop(), asyncio.current_task()
    VAR.set("of the host")

    async def inner():
        return VAR.get()

    async def program(machine, _started):
        assert asyncio.get_running_loop() is not outer_loop
        assert asyncio.current_task() is not outer_task
        await machine.await_signal("go")
        return await asyncio.create_task(inner())

    run = Run(program)
    VAR.set("changed since")
    run.start()
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (outer_loop, outer_task)
    await asyncio.sleep(0)
    run.signal("go")
    assert run.outcome == Completed("of the host")
    assert VAR.get() == "changed since"


async def test_the_outer_loop_is_back_after_an_error_too():
    outer_loop, outer_task = asyncio.get_running_loop(), asyncio.current_task()

    async def program(_machine, _started):
        raise KeyboardInterrupt

    run = Run(program)
    with pytest.raises(KeyboardInterrupt):
        run.start()
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (outer_loop, outer_task)
    await asyncio.sleep(0)


def test_an_endless_loop_is_stopped():
    async def program(_machine, _started):
        while True:
            await asyncio.sleep(0)

    run = Run(program, max_callbacks=1_000)
    run.start()
    assert isinstance(run.outcome, Failed)
    assert "more than 1,000 callbacks ran for one event" in str(run.outcome.error)


def test_a_background_task_that_fails_is_reported_and_fails_nothing(caplog):
    async def boom():
        raise ValueError("in the background")

    async def program(machine, _started):
        asyncio.create_task(boom())
        await machine.await_signal("go")
        return "fine"

    run = Run(program)
    with caplog.at_level(logging.ERROR):
        run.start()
        run.signal("go")
        gc.collect()
    assert run.outcome == Completed("fine")
    assert "in the background" in caplog.text


def test_a_background_failure_is_told_once_at_the_end_and_not_when_parked(caplog):
    async def boom():
        raise ValueError("in the background")

    async def program(machine, _started):
        asyncio.create_task(boom())
        for _ in range(200):
            await asyncio.create_task(asyncio.sleep(0))
        await machine.await_signal("go")

    with caplog.at_level(logging.ERROR):
        run = Run(program)
        run.start()
        run.machine.close()
        gc.collect()
        assert "in the background" not in caplog.text
        run.machine, _ = run.replay()
        run.signal("go")
        gc.collect()
    assert caplog.text.count("ValueError: in the background") == 1


def test_a_handler_for_such_errors_can_be_set():
    seen = []

    async def program(_machine, _started):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: seen.append(context))
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    ended(program)
    assert isinstance(seen[0]["exception"], ZeroDivisionError)


def test_the_rest_is_closed_quietly_when_the_program_ends(caplog):
    closed = []

    async def forever(machine):
        try:
            await machine.await_signal("never")
        finally:
            closed.append("forever")
            await asyncio.sleep(1)

    async def unstarted():
        pass

    async def program(machine, _started):
        asyncio.create_task(forever(machine))
        await asyncio.sleep(0)
        asyncio.create_task(unstarted())
        return "done"

    with nothing_left():
        run = Run(program)
        run.start()
        assert run.outcome == Completed("done")
        assert closed == ["forever"]
        del run
    assert caplog.text == ""


@pytest.mark.parametrize("close", [True, False])
def test_a_parked_machine_is_dropped_quietly(caplog, close):
    async def inner(machine):
        await machine.await_signal("a")

    async def program(machine, _started):
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(inner(machine))
            group.create_task(inner(machine))

    with nothing_left():
        run = Run(program)
        assert len(run.start()) == 3
        if close:
            run.machine.close()
            assert run.machine.replaying
        del run
    assert caplog.text == ""


def test_cleanup_at_close_may_create_tasks_that_never_run(caplog):
    async def never():
        raise AssertionError

    async def program(machine, _started):
        try:
            await machine.await_signal("a")
        finally:
            await asyncio.gather(never(), never())

    with nothing_left():
        run = Run(program)
        run.start()
        run.machine.close()
        del run
    assert caplog.text == ""


def test_cleanup_at_close_cannot_ask_for_anything(caplog):
    async def program(machine, _started):
        try:
            await machine.await_signal("a")
        finally:
            while True:
                try:
                    await machine.start_task("orders.undo", None).future
                except Exception:
                    continue

    run = Run(program)
    run.start()
    run.machine.close()
    assert names(run.answer.commands) == ["AwaitSignal 1"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, type("WorkerShutdown", (SystemExit,), {})])
def test_what_stops_the_host_is_passed_on_and_the_machine_is_of_no_use_then(error):
    async def program(_machine, _started):
        raise error

    run = Run(program)
    with pytest.raises(error):
        run.start()
    with pytest.raises(Exception, match="was interrupted"):
        run.signal("x")


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, type("Odd", (BaseException,), {})])
def test_a_workflow_that_calls_sys_exit_fails_and_harms_nobody(error):
    async def program(_machine, _started):
        raise error("stop")

    run = Run(program)
    run.start()
    assert isinstance(run.outcome, Failed)
    assert type(run.outcome.error) is error


def test_a_cancel_ends_the_program_and_its_cleanup_may_ask_for_more():
    async def program(machine, _started):
        try:
            await machine.start_task("orders.charge", 1).future
        except asyncio.CancelledError:
            await machine.start_task("orders.refund", 1).future
            raise

    run = Run(program)
    run.start()
    assert names(run.cancel("changed my mind")) == ["StartTask 2"]
    assert run.cancel("again") == ()
    assert run.outcome is None
    run.complete(2)
    assert run.outcome == Cancelled("changed my mind")


def test_a_deadline_cancels_again_what_got_over_a_cancel():
    async def program(machine, _started):
        with contextlib.suppress(asyncio.CancelledError):
            await machine.await_signal("x")
        await machine.await_signal("y")

    run = Run(program)
    run.start()
    run.cancel("please")
    assert run.outcome is None
    run.feed(CancelRequested(reason="run timeout", deadline=True))
    assert run.outcome == Cancelled("run timeout")


def test_a_value_returned_after_a_cancel_is_the_result():
    async def program(machine, _started):
        with contextlib.suppress(asyncio.CancelledError):
            await machine.await_signal("x")
        return "all the same"

    run = Run(program)
    run.start()
    run.cancel()
    assert run.outcome == Completed("all the same")


def test_a_cancelled_error_that_nobody_asked_for_is_a_failure():
    async def program(_machine, _started):
        raise asyncio.CancelledError

    run = Run(program)
    run.start()
    assert isinstance(run.outcome, Failed)
    assert isinstance(run.outcome.error, asyncio.CancelledError)

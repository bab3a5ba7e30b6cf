"""ctx.task, ctx.spawn, ctx.parallel and ctx.gather in workflows."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta

import pytest
from contexts import ERROR, Flow, Item, shop_handlers

from agnt5.contracts.errors import (
    InvalidInputError,
    RunCancelledError,
    TaskFailedError,
)
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev
from agnt5.replay.outcomes import Cancelled, Failed
from agnt5.sdk.handles import TaskHandle


@pytest.fixture(autouse=True)
def handlers():
    with shop_handlers() as handlers:
        yield handlers


@pytest.fixture
def price(handlers):
    return handlers["price"]


# ---- ctx.task


def test_a_task_by_name_is_started_when_it_is_called_and_awaited_for_its_result():
    async def fn(ctx):
        handle = ctx.task(service_name="analytics", handler_name="process_data", input={"dataset": "users"})
        assert isinstance(handle, TaskHandle)
        assert (handle.id, handle.status()) == ("order-17~1", "running")
        result = await handle
        assert handle.status() == "completed"
        return result

    flow = Flow(fn)
    assert flow.commands == [
        cmd.StartTask(seq=1, handler="analytics.process_data", id="order-17~1", input={"dataset": "users"})
    ]
    flow.feed(ev.TaskCompleted(seq=1, result=[1]))
    assert flow.end() == [1]


def test_a_task_may_be_given_as_function_address_or_handler(price, handlers):
    async def fn(ctx):
        ctx.task(price, "a", qty=2)
        ctx.task(price, sku="a")
        ctx.task("shop.price", input={"sku": "a"})
        ctx.task("shop", "price", {"sku": "a"})
        ctx.task(price.__agnt5__, "a", 3)
        ctx.task(price, input={"sku": "b"})
        ctx.task(handlers["quoted"], input={"x": 1})
        ctx.task("svc", "nothing")
        await asyncio.sleep(1)

    started = [c for c in Flow(fn).commands if isinstance(c, cmd.StartTask)]
    assert [(c.handler, c.input) for c in started] == [
        ("shop.price", {"sku": "a", "qty": 2}),
        ("shop.price", {"sku": "a"}),
        ("shop.price", {"sku": "a"}),
        ("shop.price", {"sku": "a"}),
        ("shop.price", {"sku": "a", "qty": 3}),
        ("shop.price", {"sku": "b"}),
        ("shop.quoted", {"input": {"x": 1}}),
        ("svc.nothing", None),
    ]


def test_options_of_a_task_go_along_as_data():
    async def fn(ctx):
        await ctx.task("a", "b", timeout=timedelta(minutes=1), retries=5, priority=9, key="k")

    (command,) = Flow(fn).commands
    assert command.id == "order-17~k"
    assert command.options["timeout_ms"] == 60_000
    assert command.options["priority"] == 9
    assert command.options["retries"]["max_attempts"] == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ctx, price: ctx.task("a", "b", dataset=1), "found 'dataset', expected (service_name, handler_name"),
        (lambda ctx, price: ctx.task("a b", "c"), "expected 'service.handler'"),
        (lambda ctx, price: ctx.task("nodot"), "expected 'service.handler'"),
        (lambda ctx, price: ctx.task(print), "print is not a handler"),
        (lambda ctx, price: ctx.task(price), "parameter 'sku' is missing"),
        (lambda ctx, price: ctx.task(price, "a", 1, 2), "3 positional arguments were given, it takes 2"),
        (lambda ctx, price: ctx.task("a", "b", timeout=0), "ctx.task: timeout: expected a duration above 0"),
        (lambda ctx, price: ctx.task("a", "b", priority=11), "priority: expected a number from 0 to 9"),
        (lambda ctx, price: ctx.task("a", "b", retries=0), "max_attempts"),
        (lambda ctx, price: ctx.spawn(lambda: 1), "is not a handler"),
        (lambda ctx, price: ctx.spawn("far.away", 1, 2), "give them by name"),
    ],
)
def test_a_call_that_cannot_be_is_refused_before_anything_starts(call, message, price):
    async def fn(ctx):
        call(ctx, price)

    flow = Flow(fn)
    assert not flow.commands
    assert isinstance(flow.outcome, Failed)
    assert isinstance(flow.outcome.error, InvalidInputError)
    assert message in str(flow.outcome.error)


def test_a_workflow_leaves_types_to_the_child_so_that_an_annotation_may_change(price):
    async def fn(ctx):
        ctx.task(price, sku=5)
        ctx.spawn(price, 5)
        await asyncio.sleep(1)

    assert [c.input for c in Flow(fn).commands[:2]] == [{"sku": 5}, {"sku": 5}]


def test_a_result_has_the_form_of_the_callees_annotation(price):
    async def fn(ctx):
        one = await ctx.task("shop", "price", {"sku": "a"})
        other = await ctx.spawn(price, "b")
        assert isinstance(one, Item) and isinstance(other, Item)
        return [one.sku, other.sku]

    flow = Flow(fn)
    flow.feed(ev.TaskCompleted(seq=1, result={"sku": "a"}))
    flow.feed(ev.TaskCompleted(seq=2, result={"sku": "b"}))
    assert flow.end() == ["a", "b"]


def test_a_result_of_another_form_is_an_error_that_says_so(price):
    async def fn(ctx):
        await ctx.task(price, "a")

    flow = Flow(fn)
    flow.feed(ev.TaskCompleted(seq=1, result={"nope": 1}))
    assert "shop.price: the result at result.sku: field required" in str(flow.end().error)


@pytest.mark.parametrize("kind", ["ValueError", "RunTimeoutError", "WorkerLostError"])
def test_the_default_stands_for_a_final_failure(kind):
    async def fn(ctx):
        return await ctx.task("a", "b", default={"ok": False})

    flow = Flow(fn)
    flow.feed(ev.TaskFailed(seq=1, error=ERROR | {"type": kind}))
    assert flow.end() == {"ok": False}


def test_the_default_may_be_none_and_does_not_stand_for_a_cancel():
    async def fn(ctx):
        assert await ctx.task("a", "b", default=None) is None
        with pytest.raises(RunCancelledError):
            await ctx.task("a", "c", default=None)

    flow = Flow(fn)
    flow.feed(ev.TaskFailed(seq=1, error=ERROR))
    flow.feed(ev.TaskFailed(seq=2, error={"type": "RunCancelledError", "message": "", "where": ""}))
    assert flow.end() is None


def test_without_default_the_failure_comes_out():
    async def fn(ctx):
        handle = ctx.task("a", "b")
        with pytest.raises(TaskFailedError, match="ValueError: no"):
            await handle
        return handle.status()

    flow = Flow(fn)
    flow.feed(ev.TaskFailed(seq=1, error=ERROR))
    assert flow.end() == "failed"


def test_a_timeout_around_a_task_cancels_the_child():
    async def fn(ctx):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await ctx.task("a", "b")
        return "late"

    flow = Flow(fn)
    (task, timer) = sorted(flow.commands, key=lambda c: type(c).__name__)
    assert flow.feed(ev.TimerFired(seq=timer.seq)) == [cmd.CancelTask(seq=3, target=task.seq, id=task.id)]
    assert flow.end() == "late"


def test_a_timeout_around_a_spawned_child_leaves_it_alone(price):
    async def fn(ctx):
        handle = ctx.spawn(price, "a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await handle.result()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await handle
        return (await handle.result()).sku

    flow = Flow(fn)
    assert not [c for c in flow.feed(ev.TimerFired(seq=2)) if isinstance(c, cmd.CancelTask)]
    assert not [c for c in flow.feed(ev.TimerFired(seq=3)) if isinstance(c, cmd.CancelTask)]
    flow.feed(ev.TaskCompleted(seq=1, result={"sku": "a"}))
    assert flow.end() == "a"


def test_cancelling_a_workflow_cancels_the_tasks_it_awaits_and_spares_the_spawned(price):
    async def fn(ctx):
        await ctx.parallel(ctx.task("a", "b"), ctx.spawn(price, "a"), ctx.task("a", "c"))

    flow = Flow(fn)
    asked = flow.feed(ev.CancelRequested(reason="enough"))
    assert [c.target for c in asked if isinstance(c, cmd.CancelTask)] == [1, 3]
    assert isinstance(flow.end(), Cancelled)


def test_a_spawned_child_is_cancelled_when_asked(price):
    async def fn(ctx):
        handle = ctx.spawn(price, "a")
        handle.cancel()
        with pytest.raises(RunCancelledError):
            await handle.result()
        handle.cancel()
        return handle.status()

    flow = Flow(fn)
    assert [type(c) for c in flow.commands] == [cmd.StartTask, cmd.CancelTask]
    flow.feed(ev.TaskFailed(seq=1, error={"type": "RunCancelledError", "message": "", "where": ""}))
    assert flow.end() == "cancelled"


def test_handles_work_wherever_asyncio_takes_a_future():
    async def fn(ctx):
        first, second = ctx.task("a", "b"), ctx.task("a", "c")
        done, pending = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({second}, {first})
        rest = await asyncio.gather(first, asyncio.wait_for(ctx.task("a", "d"), 10))
        return [second.result(), *rest]

    flow = Flow(fn)
    flow.feed(ev.TaskCompleted(seq=2, result=2))
    started = flow.commands[0]
    flow.feed(ev.TaskCompleted(seq=started.seq, result=3), ev.TaskCompleted(seq=1, result=1))
    assert flow.end() == [2, 1, 3]


def test_sets_of_handles_iterate_in_the_order_of_starting():
    async def fn(ctx):
        done, _ = await asyncio.wait([ctx.task("a", "b", {"n": n}) for n in range(12)])
        return [handle.result() for handle in done]

    flow = Flow(fn)
    flow.feed(*(ev.TaskCompleted(seq=seq, result=seq) for seq in reversed(range(1, 13))))
    assert flow.end() == list(range(1, 13))


def test_a_failure_that_nobody_awaits_is_quiet(caplog):
    async def fn(ctx):
        ctx.task("a", "b")
        ctx.spawn("a.c")
        await ctx.sleep(1)

    flow = Flow(fn)
    flow.feed(ev.TaskFailed(seq=1, error=ERROR), ev.TaskFailed(seq=2, error=ERROR), ev.TimerFired(seq=3))
    assert flow.end() is None
    del flow
    gc.collect()
    assert not caplog.records


def test_the_same_key_is_the_same_child(price):
    async def fn(ctx):
        one, other = ctx.spawn(price, "a", key="17"), ctx.spawn(price, "a", key="17")
        assert one.id == other.id == "order-17~=17"
        return [(await one).sku, (await other).sku]

    flow = Flow(fn)
    assert len(flow.commands) == 1
    flow.feed(ev.TaskCompleted(seq=1, result={"sku": "a"}))
    assert flow.end() == ["a", "a"]


# ---- parallel and gather


def test_parallel_and_gather_keep_order_and_names():
    async def fn(ctx):
        listed = await ctx.parallel(ctx.task("a", "b"), ctx.task("a", "c"), ctx.sleep(1))
        named = await ctx.gather(db=ctx.task("a", "d"), api=ctx.task("a", "e"))
        return [listed, named, list(named), await ctx.parallel(), await ctx.gather()]

    flow = Flow(fn)
    flow.feed(ev.TaskCompleted(seq=2, result="c"), ev.TimerFired(seq=3), ev.TaskCompleted(seq=1, result="b"))
    flow.feed(ev.TaskCompleted(seq=5, result="e"), ev.TaskCompleted(seq=4, result="d"))
    assert flow.end() == [["b", "c", None], {"db": "d", "api": "e"}, ["db", "api"], [], {}]


def test_parallel_waits_for_all_and_then_raises_the_first_error_in_order():
    async def fn(ctx):
        try:
            await ctx.parallel(ctx.task("a", "b"), ctx.task("a", "c"), ctx.task("a", "d"))
        except TaskFailedError as error:
            return error.message

    flow = Flow(fn)
    flow.feed(ev.TaskFailed(seq=3, error=ERROR | {"message": "third"}))
    flow.feed(ev.TaskFailed(seq=2, error=ERROR | {"message": "second"}))
    assert flow.outcome is None
    flow.feed(ev.TaskCompleted(seq=1, result=1))
    assert flow.end() == "second"


def test_parallel_may_return_its_errors():
    async def fn(ctx):
        found = await ctx.parallel(ctx.task("a", "b"), ctx.task("a", "c"), return_exceptions=True)
        return [type(one).__name__ for one in found]

    flow = Flow(fn)
    flow.feed(ev.TaskFailed(seq=1, error=ERROR), ev.TaskCompleted(seq=2, result=1))
    assert flow.end() == ["TaskFailedError", "int"]


def test_a_list_in_place_of_awaitables_is_explained():
    async def fn(ctx):
        await ctx.parallel([ctx.task("a", "b")])

    assert "found list at position 0; a list is given as ctx.parallel(*tasks)" in str(Flow(fn).outcome.error)

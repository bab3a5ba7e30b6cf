"""What functions see, and what all contexts share."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from contexts import T0, Flow, Item, function_ctx, shop_handlers

from agnt5 import Context
from agnt5.contracts.errors import (
    InvalidInputError,
    RunTimeoutError,
    WrongContextError,
)
from agnt5.replay import events as ev
from agnt5.replay.outcomes import ContinuedAsNew
from agnt5.sdk.handles import SpawnHandle


@pytest.fixture(autouse=True)
def handlers():
    with shop_handlers() as handlers:
        yield handlers


@pytest.fixture
def price(handlers):
    return handlers["price"]


# ---- steps


def test_a_step_of_a_workflow_is_asked_once_and_its_value_comes_from_the_journal():
    def fetch(url) -> list[Item]: ...

    async def fn(ctx):
        found = await ctx.step("fetch", fetch, "http://x")
        return [type(one).__name__ for one in found]

    flow = Flow(fn)
    assert [(c.name, c.seq) for c in flow.commands] == [("fetch", 1)]
    flow.feed(ev.StepCompleted(seq=1, name="fetch", result=[{"sku": "a"}]))
    assert flow.end() == ["Item"]


async def test_a_step_takes_every_sort_of_function_and_names_itself_to_it():
    ctx, port = function_ctx()

    async def coro(n, *, more=0):
        await asyncio.sleep(0)
        return [ctx.step_id, n + more]

    def plain(n):
        return [ctx.step_id, n]

    assert ctx.step_id == "3"
    assert await ctx.step("one", coro, 1, more=2) == ["one", 3]
    assert await ctx.step("two", plain, 2) == ["two", 2]
    assert await ctx.step("three", lambda: coro(3)) == ["three", 3]
    assert await ctx.parallel(ctx.step("a", coro, 1), ctx.step("b", coro, 2)) == [["a", 1], ["b", 2]]
    assert ctx.step_id == "3"
    assert [ask[2] for ask in port.asked] == [True, False, False, True, True]


async def test_a_step_without_a_name_or_a_function_is_refused():
    ctx, port = function_ctx()

    async def fetch(): ...

    with pytest.raises(InvalidInputError, match="expected a function, found coroutine; give the function itself"):
        ctx.step("fetch", fetch())
    with pytest.raises(InvalidInputError, match=r"expected a name, for example ctx.step\('fetch', fn\)"):
        ctx.step(fetch, fetch)
    assert not port.asked


# ---- what else a workflow has


def test_a_workflow_goes_on_as_new_with_arguments_or_one_input():
    async def by_name(ctx):
        ctx.continue_as_new(cursor=5)

    async def by_place(ctx):
        ctx.continue_as_new(5, 6)

    async def whole(ctx):
        ctx.continue_as_new({"cursor": 5})

    async def wrong(ctx):
        ctx.continue_as_new("x")

    assert Flow(by_name).end() == ContinuedAsNew({"cursor": 5}, ())
    assert Flow(by_place).end() == ContinuedAsNew({"cursor": 5, "total": 6}, ())
    assert Flow(whole).end() == ContinuedAsNew({"cursor": 5}, ())
    assert "parameter 'cursor'" in str(Flow(wrong).outcome.error)


def test_time_chance_and_patches_replay_the_same():
    async def fn(ctx):
        values = [ctx.now().isoformat(), ctx.random().random(), str(ctx.uuid()), ctx.patched("tax")]
        await ctx.sleep(5)
        passed = ctx.now() - datetime.fromtimestamp(T0 / 1000, UTC)
        return [*values, passed >= timedelta(seconds=5), ctx.now().tzinfo is UTC]

    flow = Flow(fn)
    flow.feed(ev.TimerFired(seq=2))
    assert flow.end()[3:] == [True, True, True]


def test_logs_are_silent_while_replaying_and_carry_the_run(caplog):
    caplog.set_level(logging.INFO, "agnt5.run")

    async def fn(ctx):
        ctx.log().info("one", extra={"n": 1})
        await ctx.sleep(1)
        ctx.log().warning("two %s", "three", extra={"attempt": "mine"})

    flow = Flow(fn, attempt=2)
    flow.feed(ev.TimerFired(seq=1))
    assert [record.getMessage() for record in caplog.records] == ["one", "two three"]
    one, two = caplog.records
    assert one.name == "agnt5.run.shop.flow"
    assert (one.run_id, one.step_id, one.attempt, one.service, one.handler, one.n) == (
        "order-17",
        None,
        2,
        "shop",
        "flow",
        1,
    )
    assert two.attempt == "mine"
    flow.end()
    assert len(caplog.records) == 2


# ---- functions


async def test_a_function_spawns_children_and_says_when_it_waits(price):
    ctx, port = function_ctx()
    handle = ctx.spawn(price, "a", key="item-1")
    assert isinstance(handle, SpawnHandle)
    assert port.asked == [("task", "shop.price", {"sku": "a"}, "item-1")]
    assert not port.waits
    waiting = asyncio.ensure_future(handle.result())
    await asyncio.sleep(0)
    assert [ref.id for ref in port.waits] == [handle.id] == ["r~item-1"]
    port.waits[0].future.set_result({"sku": "a"})
    assert await waiting == Item(sku="a")
    assert await handle == Item(sku="a")
    assert len(port.waits) == 1
    assert handle.status() == "completed"


async def test_a_function_checks_types_before_it_starts_a_child(price):
    ctx, port = function_ctx()
    with pytest.raises(InvalidInputError, match="shop.price: parameter 'sku': input should be a valid string"):
        ctx.spawn(price, 5)
    assert not port.asked


async def test_children_of_other_services_are_spawned_by_address():
    ctx, port = function_ctx()
    ctx.spawn("far.away", {"n": 1})
    ctx.spawn("far.away", n=1)
    ctx.spawn("far.away")
    assert [asked[2] for asked in port.asked] == [{"n": 1}, {"n": 1}, {}]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ctx: ctx.task("a", "b"), "ctx.task is for workflows, and 'shop.price' is a function: start the child"),
        (lambda ctx: ctx.task(service_name="a", handler_name="b"), "ctx.spawn"),
        (lambda ctx: ctx.continue_as_new(1), "make it a @workflow"),
        (lambda ctx: ctx.patched("x"), "functions are not replayed"),
    ],
)
async def test_what_only_workflows_have_names_the_alternative(call, message):
    ctx, _ = function_ctx()
    with pytest.raises(WrongContextError) as caught:
        call(ctx)
    assert message in str(caught.value)


async def test_a_function_cannot_wait_for_a_signal():
    ctx, _ = function_ctx()
    with pytest.raises(WrongContextError, match="make the handler a @workflow, or send a signal with ctx.signal.emit"):
        await ctx.signal("ok", timeout_ms=5)


async def test_a_plain_def_in_a_thread_is_told_to_be_async(price):
    ctx, port = function_ctx(headers={"X": "1"})

    def sync() -> list[Any]:
        with pytest.raises(WrongContextError, match="ctx.spawn: 'shop.price' is a plain `def`"):
            ctx.spawn(price, "a")
        ctx.log().info("fine")
        return [ctx.run_id, ctx.headers()["x"], ctx.now().year]

    assert await asyncio.to_thread(sync) == ["r~3", "1", 2026]
    assert not port.asked


async def test_properties_and_headers():
    ctx, _ = function_ctx(headers={"User-Agent": "curl", "X-Correlation-Id": "7"}, attempt=1)
    assert (ctx.run_id, ctx.step_id, ctx.attempt, ctx.component_type) == ("r~3", "3", 1, "function")
    assert (ctx.object_id, ctx.method_name) == (None, None)
    headers = ctx.headers()
    assert headers["user-agent"] == headers["USER-AGENT"] == "curl"
    assert headers.get("x-correlation-id") == "7"
    assert headers.get("nope", "unknown") == "unknown"
    assert "USER-agent" in headers
    assert dict(headers) == {"user-agent": "curl", "x-correlation-id": "7"}
    with pytest.raises(TypeError):
        headers["a"] = "b"
    assert function_ctx(run_id="root")[0].step_id is None
    assert isinstance(ctx, Context)
    assert ctx.uuid() != ctx.uuid()


async def test_timeouts_are_failures_of_their_own_kind(price):
    ctx, port = function_ctx()
    handle = ctx.spawn(price, "a")
    waiting = asyncio.ensure_future(handle.result())
    await asyncio.sleep(0)
    port.waits[0].future.set_exception(RunTimeoutError("5 s", type="RunTimeoutError"))
    with pytest.raises(RunTimeoutError):
        await waiting
    assert handle.status() == "failed"

"""ctx.signal, ctx.timer and ctx.sleep."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from contexts import T0, Flow, function_ctx

from agnt5.contracts.errors import (
    InvalidInputError,
    RunNotFoundError,
)
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev

# ---- signals


def test_a_signal_is_waited_for_and_early_ones_are_kept():
    async def fn(ctx):
        first = await ctx.signal("paid")
        await ctx.sleep(1)
        return [first, await ctx.signal("paid", timeout_ms=1000), await ctx.signal("paid")]

    flow = Flow(fn)
    flow.feed(ev.SignalReceived(name="paid", payload=1, op="x"))
    flow.feed(ev.SignalReceived(name="paid", payload=2, op="y"), ev.SignalReceived(name="paid", payload=3, op="z"))
    flow.feed(ev.TimerFired(seq=2))
    assert flow.end() == [1, 2, 3]


def test_a_signal_wait_that_times_out_gives_its_default_and_leaves_later_signals_alone():
    async def fn(ctx):
        assert await ctx.signal("ok", timeout_ms=1000) is None
        assert await ctx.signal("ok", timeout_ms=1000, default={"approved": False}) == {"approved": False}
        await ctx.sleep(5)
        return await ctx.signal("ok")

    flow = Flow(fn)
    timer = next(c for c in flow.commands if isinstance(c, cmd.StartTimer))
    assert (timer.due_ms, timer.name) == (T0 + 1000, "signal:ok")
    flow.feed(ev.TimerFired(seq=timer.seq))
    timer = next(c for c in flow.commands if isinstance(c, cmd.StartTimer))
    flow.feed(ev.TimerFired(seq=timer.seq), ev.SignalReceived(name="ok", payload="late", op="x"))
    flow.feed(ev.TimerFired(seq=next(c for c in flow.commands if isinstance(c, cmd.StartTimer)).seq))
    assert flow.end() == "late"


def test_a_signal_that_came_early_needs_no_timer():
    async def fn(ctx):
        await ctx.sleep(1)
        return await ctx.signal("ok", timeout_ms=1000)

    flow = Flow(fn)
    flow.feed(ev.SignalReceived(name="ok", payload=1, op="x"))
    assert flow.feed(ev.TimerFired(seq=1)) == [cmd.AwaitSignal(seq=2, name="ok")]
    assert flow.end() == 1


def test_a_signal_that_wins_takes_its_timer_back():
    async def fn(ctx):
        return await ctx.signal("ok", timeout_ms=1000)

    flow = Flow(fn)
    timer = next(c for c in flow.commands if isinstance(c, cmd.StartTimer))
    asked = flow.feed(ev.SignalReceived(name="ok", payload=1, op="x"))
    assert asked == [cmd.CancelTimer(seq=timer.seq)]
    assert flow.end() == 1


@pytest.mark.parametrize("signal_first", [True, False])
def test_nothing_is_lost_when_signal_and_timeout_come_in_one_activation(signal_first):
    async def fn(ctx):
        first = await ctx.signal("ok", timeout_ms=1000, default="none")
        return [first, await ctx.signal("ok", timeout_ms=1000, default="none")]

    flow = Flow(fn)
    timer = next(c for c in flow.commands if isinstance(c, cmd.StartTimer))
    both = [ev.SignalReceived(name="ok", payload=1, op="x"), ev.TimerFired(seq=timer.seq)]
    flow.feed(*(both if signal_first else reversed(both)))
    if signal_first:
        flow.feed(ev.TimerFired(seq=next(c for c in flow.commands if isinstance(c, cmd.StartTimer)).seq))
    assert flow.end() == ([1, "none"] if signal_first else ["none", 1])


def test_a_cancelled_wait_with_timeout_leaves_no_waiter_that_eats_a_signal():
    async def fn(ctx):
        waiting = asyncio.create_task(ctx.signal("ok", timeout_ms=60_000))
        await ctx.sleep(1)
        waiting.cancel()
        return await ctx.signal("ok")

    flow = Flow(fn)
    sleep = next(c for c in flow.commands if isinstance(c, cmd.StartTimer) and c.name == "sleep")
    flow.feed(ev.TimerFired(seq=sleep.seq))
    flow.feed(ev.SignalReceived(name="ok", payload=1, op="x"))
    assert flow.end() == 1


def test_a_workflow_signals_another_run_and_learns_of_a_refusal():
    async def fn(ctx):
        await ctx.signal.emit("go", {"n": 1}, target_workflow_id="order-18")
        with pytest.raises(RunNotFoundError):
            await ctx.signal.emit("go", target_workflow_id="nobody")

    flow = Flow(fn)
    assert flow.commands == [cmd.EmitSignal(seq=1, name="go", target="order-18", payload={"n": 1})]
    flow.feed(ev.SignalDelivered(seq=1))
    flow.feed(ev.SignalRefused(seq=2, error={"type": "RunNotFoundError", "message": "no run 'nobody'"}))
    assert flow.end() is None


async def test_a_function_emits_signals():
    ctx, port = function_ctx()
    await ctx.signal.emit("ok", target_workflow_id="w-1", payload={"approved": True})
    assert port.asked == [("emit", "ok", "w-1", {"approved": True})]
    with pytest.raises(InvalidInputError, match=r"ctx.signal.emit\('ok'\): target_workflow_id: expected a run id"):
        await ctx.signal.emit("ok", target_workflow_id="")
    with pytest.raises(InvalidInputError, match="ctx.signal.emit: name"):
        await ctx.signal.emit("", target_workflow_id="w-1")


# ---- timers


def test_timers_and_sleeps_are_durable_and_absolute():
    async def fn(ctx):
        await ctx.parallel(
            ctx.timer(delay_ms=5000),
            ctx.sleep(30),
            ctx.sleep(timedelta(days=2)),
            ctx.timer(cron="0 0 * * *"),
            ctx.timer(cron="0 0 * * *", timezone="Asia/Kathmandu"),
        )

    found = [(c.name, c.due_ms - T0) for c in Flow(fn).commands]
    assert found[:3] == [("timer", 5000), ("sleep", 30_000), ("sleep", 172_800_000)]
    midnight = lambda due: datetime.fromtimestamp((T0 + due) / 1000, UTC).strftime("%H:%M")
    assert [midnight(due) for _, due in found[3:]] == ["00:00", "18:15"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ctx: ctx.timer(delay_ms=-1), "ctx.timer: delay_ms: expected milliseconds, a number from 0, found -1"),
        (lambda ctx: ctx.timer(), "expected either delay_ms or cron"),
        (lambda ctx: ctx.timer(5, "* * * * *"), "expected either delay_ms or cron"),
        (lambda ctx: ctx.timer(cron="often"), "ctx.timer: cron: 'often' is no cron expression"),
        (lambda ctx: ctx.timer(cron="* * * * *", timezone="Mars"), "expected an IANA time zone"),
        (lambda ctx: ctx.timer(5, timezone="UTC"), "only together with cron"),
        (lambda ctx: ctx.sleep(-1), "ctx.sleep"),
        (lambda ctx: ctx.sleep(None), "ctx.sleep"),
        (lambda ctx: ctx.sleep(float("nan")), "ctx.sleep"),
    ],
)
async def test_a_wait_without_sense_is_refused(call, message):
    ctx, port = function_ctx()
    with pytest.raises(InvalidInputError) as caught:
        await call(ctx)
    assert message in str(caught.value)
    assert not port.asked

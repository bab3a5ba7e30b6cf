"""Async generators in workflow code: refused, except where a library's are kept until the workflow ends."""

import asyncio

from contexts import T0, Flow

from agnt5.replay import events as ev
from agnt5.replay.loop import generators_kept

ended = []


async def numbers():
    try:
        yield 1
        yield 2
    finally:
        ended.append("closed")


async def test_what_is_left_of_a_kept_generator_is_closed_when_the_workflow_is_dropped():
    async def fn(ctx):
        with generators_kept():
            assert await anext(aiter(numbers())) == 1
        assert ended == []  # nobody holds it any more, and yet it was not closed by the collector
        return await ctx.step("go", lambda: 1)

    ended.clear()
    flow = Flow(fn)
    assert ended == []
    flow.feed(ev.StepCompleted(seq=1, name="go", result=1, at=T0))
    assert flow.outcome.result == 1
    flow.machine.close()
    assert ended == ["closed"]


async def test_a_generator_that_waits_while_it_is_closed_is_dropped_there():
    async def waits():
        try:
            yield 1
        finally:
            ended.append("closing")
            await asyncio.sleep(1)
            ended.append("never")

    async def fn(ctx):
        with generators_kept():
            await anext(aiter(waits()))
        await ctx.signal("go")

    ended.clear()
    flow = Flow(fn)
    flow.machine.close()  # nothing is told of it, as the collector would
    assert ended == ["closing"]


def test_generators_of_the_workflow_itself_are_refused():
    async def fn(ctx):
        with generators_kept():
            pass
        async for _ in numbers():
            pass

    assert "'numbers'" in str(Flow(fn).outcome)


def test_many_finished_generators_are_forgotten():
    async def fn(ctx):
        with generators_kept():
            for _ in range(200):
                async for _ in numbers():
                    pass
        return len(ctx._port._loop._generators)

    ended.clear()
    assert Flow(fn).outcome.result < 100

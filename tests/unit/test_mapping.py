"""ctx.map: order, bounds, errors, and the keys under which items are found again."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from functools import partial

import pytest
from contexts import ERROR, Flow, NoHost, Recorder, Ref, shop_handlers
from pydantic import BaseModel

from agnt5 import entity, function
from agnt5.contracts.errors import InvalidInputError, RunCancelledError, TaskFailedError
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev
from agnt5.replay.outcomes import Cancelled, Failed
from agnt5.sdk import mapping
from agnt5.sdk.contexts import FunctionContext
from agnt5.sdk.port import RunInfo


@pytest.fixture(autouse=True)
def handlers():
    with shop_handlers() as handlers:

        @function(service="shop")
        async def one(ctx, item): ...

        yield handlers | {"one": one}


@pytest.fixture
def price(handlers):
    return handlers["price"]


class Mapped(Flow):
    """A workflow whose steps are done at once, and whose children a test ends."""

    def feed(self, *events):
        self.started = getattr(self, "started", [])
        self.steps = getattr(self, "steps", [])
        while True:
            commands = super().feed(*events)
            self.started += [c for c in commands if isinstance(c, cmd.StartTask)]
            self.cancelled = [c for c in commands if isinstance(c, cmd.CancelTask)]
            steps = [c for c in commands if isinstance(c, cmd.RunStep)]
            if not steps:
                return self.started
            events = [ev.StepCompleted(seq=c.seq, name=c.name, result=asyncio.run(c.fn())) for c in steps]
            self.steps += [(event.name, event.result) for event in events]

    def done(self, at, result=None):
        return self.feed(ev.TaskCompleted(seq=self.started[at].seq, result=result))

    def fails(self, at, **error):
        return self.feed(ev.TaskFailed(seq=self.started[at].seq, error=ERROR | error))

    @property
    def ids(self):
        return [c.id for c in self.started]


# ---- children of workflows


def test_each_item_is_a_child_run_under_its_place_and_results_come_in_order(handlers):
    flow = Mapped(lambda ctx: ctx.map(handlers["one"], ["a", "b", "c", "d"], 2))
    assert [(c.id, c.handler, c.input) for c in flow.started] == [
        ("order-17~map1.0", "shop.one", {"item": "a"}),
        ("order-17~map1.1", "shop.one", {"item": "b"}),
    ]
    flow.done(1, 11)
    assert flow.ids == ["order-17~map1.0", "order-17~map1.1", "order-17~map1.2"]
    flow.done(2, 12)
    flow.done(0, 10)
    assert len(flow.ids) == 4
    flow.done(3, 13)
    assert flow.end() == [10, 11, 12, 13]
    assert flow.steps == [
        ("map:one", {"map": "map1", "total": 4, "concurrency": 2, "of": "runs"}),
        ("map:one", {"map": "map1", "done": 4, "failed": 0, "ended": True}),
    ]


def test_an_item_is_the_input_by_the_usual_rule(price):
    class Order(BaseModel):
        sku: str
        qty: int

    items = [{"sku": "a", "qty": 2}, Order(sku="b", qty=3)]
    assert [c.input for c in Mapped(lambda ctx: ctx.map(price, items)).started] == [
        {"sku": "a", "qty": 2}, {"sku": "b", "qty": 3},
    ]  # fmt: skip
    unknown = Mapped(lambda ctx: ctx.map("svc.elsewhere", [{"x": 1}, "y"]))
    assert [(c.handler, c.input) for c in unknown.started] == [("svc.elsewhere", {"x": 1}), ("svc.elsewhere", "y")]
    assert unknown.steps[0][0] == "map:elsewhere"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_order_children_end_in_no_more_than_the_limit_are_open_and_it_replays(handlers, seed):
    chance = random.Random(seed)
    count, limit = chance.randint(1, 30), chance.randint(1, 8)
    flow = Mapped(lambda ctx: ctx.map(handlers["one"], range(count), limit))
    ended = set()
    while flow.outcome is None:
        still_open = [at for at in range(len(flow.started)) if at not in ended]
        assert len(still_open) == min(limit, count - len(ended))
        at = chance.choice(still_open)
        ended.add(at)
        flow.done(at, at * 10)
    assert flow.end() == [at * 10 for at in range(count)]


def test_results_have_the_form_of_the_return_annotation(price):
    async def fn(ctx):
        (item,) = await ctx.map(price, [{"sku": "a"}])
        return type(item).__name__

    flow = Mapped(fn)
    flow.done(0, {"sku": "a"})
    assert flow.end() == "Item"


def test_the_first_error_in_order_is_raised_once_all_open_ones_have_ended_and_none_is_begun(handlers):
    flow = Mapped(lambda ctx: ctx.map(handlers["one"], range(10), 3))
    flow.fails(1, message="second")
    assert flow.outcome is None
    flow.fails(0, message="first")
    flow.done(2)
    assert len(flow.started) == 3
    assert isinstance(flow.outcome, Failed)
    assert isinstance(flow.outcome.error, TaskFailedError)
    assert "first" in str(flow.outcome.error)
    assert flow.steps[-1][1] == {"map": "map1", "done": 1, "failed": 2, "ended": True}


def test_with_return_exceptions_all_are_done_and_errors_are_in_the_list(price):
    async def fn(ctx):
        items = [{"sku": "a"}, {"no": 1}, {"sku": "c"}]
        return [type(one).__name__ for one in await ctx.map(price, items, 1, return_exceptions=True)]

    flow = Mapped(fn)
    flow.fails(0)
    flow.done(1, {"sku": "c"})
    assert flow.ids == ["order-17~map1.0", "order-17~map1.2"]  # what does not fit is not started
    assert flow.end() == ["TaskFailedError", "InvalidInputError", "Item"]


def test_cancelling_the_run_cancels_the_open_children_and_begins_none(handlers):
    flow = Mapped(lambda ctx: ctx.map(handlers["one"], range(10), 3))
    flow.done(0)
    flow.feed(ev.CancelRequested(reason="enough"))
    assert sorted(c.id for c in flow.cancelled) == [f"order-17~map1.{at}" for at in (1, 2, 3)]
    for at in (1, 2, 3):
        flow.fails(at, type="RunCancelledError")
    assert isinstance(flow.end(), Cancelled)
    assert len(flow.started) == 4


def test_a_child_that_somebody_else_cancels_is_an_error_of_its_item(handlers):
    flow = Mapped(lambda ctx: ctx.map(handlers["one"], range(2)))
    flow.fails(0, type="RunCancelledError")
    flow.done(1)
    assert isinstance(flow.outcome, Failed)
    assert isinstance(flow.outcome.error, RunCancelledError)


def test_maps_are_numbered_in_the_run_and_within_items(handlers):
    one = handlers["one"]

    async def fn(ctx):
        await ctx.map(one, [0])
        await ctx.map(lambda item: ctx.map(one, [item]), [1, 2])

    flow = Mapped(fn)
    flow.done(0)
    assert flow.ids == ["order-17~map1.0", "order-17~map2.0.map1.0", "order-17~map2.1.map1.0"]
    flow.done(2)
    flow.done(1)
    assert flow.end() is None


def test_a_key_names_an_item_whatever_its_place(price):
    flow = Mapped(lambda ctx: ctx.map(price, [{"sku": "b"}, {"sku": "a"}], key=lambda item: item["sku"]))
    assert flow.ids == ["order-17~map1.b", "order-17~map1.a"]


def test_calls_in_a_workflow_may_be_tasks(price):
    flow = Mapped(lambda ctx: ctx.map(lambda sku: ctx.task(price, sku, qty=2), ["a", "b"], 1))
    flow.done(0, {"sku": "a"})
    flow.done(1, {"sku": "b"})
    assert [item.sku for item in flow.outcome.result] == ["a", "b"]
    assert [c.input for c in flow.started] == [{"sku": "a", "qty": 2}, {"sku": "b", "qty": 2}]


# ---- functions


@dataclass
class Port(Recorder):
    """A function's port: steps and children with their keys; a child ends when the test says so."""

    keys: list[tuple[str, str]] = field(default_factory=list)
    said: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    children: list[Ref] = field(default_factory=list)

    def start_task(self, handler, input, *, key=None, options=None):  # noqa: A002
        self.children.append(super().start_task(handler, input, key=key, options=options))
        return self.children[-1]

    def step(self, name, fn, key=""):
        if name.startswith("map:"):
            self.notes.append(key)
            return asyncio.ensure_future(self._say(fn))
        self.keys.append((name, key))
        return super().step(name, fn, key)

    async def _say(self, fn):
        self.said.append(await fn())
        return self.said[-1]


def run(fn, attempt=0):
    """What `fn(ctx, port)` returns in a function."""
    port = Port()
    info = RunInfo(run_id="r", handler="shop.price", kind="function", attempt=attempt)
    return asyncio.run(fn(FunctionContext(info, port, NoHost()), port)), port


def keys_of(items, **options):
    async def fn(ctx, port):
        task = asyncio.ensure_future(ctx.map("shop.one", items, **options))
        while not task.done():
            await asyncio.sleep(0)
            for child in port.children:
                if not child.future.done():
                    child.future.set_result(None)
        return await task

    _, port = run(fn)
    return [asked[3] for asked in port.asked]


def test_a_functions_child_is_found_by_its_place_and_its_content():
    first, second = keys_of(["a", "b"]), keys_of(["x", "b"])
    assert [key.rpartition(".")[0] for key in first] == ["map1.0", "map1.1"]
    assert first[0] != second[0]  # another item at this place is another child, never the result of the earlier one
    assert first[1] == second[1]
    assert keys_of(["a", "b"], key=str) == ["map1.a", "map1.b"]


def test_a_waiting_function_says_what_it_waits_for():
    async def fn(ctx, port):
        task = asyncio.ensure_future(ctx.map("shop.one", [1, 2, 3], 2))
        while not task.done():
            await asyncio.sleep(0)
            assert len([c for c in port.children if not c.future.done()]) <= 2
            if port.waits and not port.waits[-1].future.done():
                port.waits[-1].future.set_result(port.waits[-1].seq)
            elif pending := [c for c in port.children if not c.future.done()]:
                pending[0].future.set_result(pending[0].seq)
        return await task

    result, port = run(fn)
    assert result == [1, 2, 3]
    assert len(port.waits) == 3


def test_a_function_of_one_item_is_called_in_the_run_no_more_at_a_time_than_allowed():
    now_open = most_open = 0

    async def double(item):
        nonlocal now_open, most_open
        now_open += 1
        most_open = max(most_open, now_open)
        await asyncio.sleep(0)
        now_open -= 1
        return item * 2

    result, port = run(lambda ctx, _: ctx.map(double, range(100), 7))
    assert result == [item * 2 for item in range(100)]
    assert most_open == 7
    assert port.said[0] == {"map": "map1", "total": 100, "concurrency": 7, "of": "calls"}
    assert [said["done"] for said in port.said[1:]] == [*range(5, 100, 5), 100]
    assert len(port.said) <= mapping.NOTES + 1


def test_partial_functions_and_async_iterables_will_do():
    async def add(one, other):
        return one + other

    async def numbers():
        for n in range(3):
            yield n

    result, _ = run(lambda ctx, _: ctx.map(partial(add, 10), numbers()))
    assert result == [10, 11, 12]


def test_what_an_item_asks_for_is_found_under_the_item():
    async def work(ctx, item):
        await ctx.step("fetch", str, item)
        ctx.spawn("shop.one", item)
        ctx.spawn("shop.one", item, key="mine")
        await asyncio.sleep(0)
        await ctx.step("parse", str, item)
        ctx.spawn("shop.one", item)

    async def fn(ctx, port):
        await ctx.step("before", str)
        await ctx.map(lambda item: work(ctx, item), ["a", "b"])
        await ctx.step("after", str)
        ctx.spawn("shop.one", "last")

    _, port = run(fn)
    assert sorted(port.keys) == sorted(
        [("before", ""), ("after", "")] + [(name, f"map1.{at}") for at in (0, 1) for name in ("fetch", "parse")]
    )
    asked = [(asked[2]["item"], asked[3]) for asked in port.asked if asked[0] == "task"]
    assert sorted(asked, key=str) == sorted(
        [("a", "map1.0.child1"), ("b", "map1.1.child1"), ("a", "mine"), ("b", "mine"), ("a", "map1.0.child2"),
         ("b", "map1.1.child2"), ("last", None)], key=str,
    )  # fmt: skip


def test_errors_of_calls_stop_the_map_and_are_told_again_by_a_later_attempt():
    async def bad(item):
        if item == 1:
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match="1"):
        run(lambda ctx, _: ctx.map(bad, range(5), 1))
    result, port = run(lambda ctx, _: ctx.map(bad, range(3), 1, return_exceptions=True))
    assert [type(one).__name__ for one in result] == ["int", "ValueError", "int"]
    assert port.said[-1] == {"map": "map1", "done": 2, "failed": 1, "ended": True}


def test_tools_and_entities_that_items_call_are_found_under_the_item_whichever_is_faster():
    def fetch() -> int:
        return 7

    def asked(waits):
        async def work(ctx, item):
            for _ in range(waits[item]):
                await asyncio.sleep(0)
            caller = ctx.tools.caller
            for _ in range(2):  # a provider that numbers the calls of each answer anew
                await caller.outcome(tool, "call_0", caller.key(tool, "call_0"), {})
            ctx.entity("Counter", "c-1").add(item)

        async def fn(ctx, _):
            nonlocal tool
            tool = ctx.tools.register("fetch", fetch)
            await ctx.map(lambda item: work(ctx, item), range(2))

        tool = None
        _, port = run(fn)
        assert len(set(port.keys)) == 4
        return sorted(port.keys), sorted(one[2:] for one in port.asked if one[0] == "call")

    assert asked([0, 5]) == asked([5, 0])
    assert asked([0, 5])[1] == [("Counter/c-1", 0, "map1.0"), ("Counter/c-1", 1, "map1.1")]


def test_notes_of_an_earlier_attempt_stand_unless_something_had_failed():
    async def some(item):
        if item < 0:
            raise ValueError(item)
        return item

    def notes(items, attempt):
        return run(lambda ctx, _: ctx.map(some, items, return_exceptions=True), attempt)[1].notes

    assert notes([1, 2], 0) == notes([1, 2], 1)
    first, second = notes([1, -2], 0), notes([1, -2], 1)
    assert first[0] == second[0]
    assert first[-1] != second[-1]
    assert notes([1, 2, 3], 0)[0] != notes([1, 2], 0)[0]


def test_a_cancelled_wait_begins_nothing_further():
    begun = []

    async def wait(item):
        begun.append(item)
        await asyncio.Event().wait()

    async def fn(ctx, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ctx.map(wait, range(10), 2, return_exceptions=True)
        assert len(asyncio.all_tasks()) == 1

    run(fn)
    assert begun == [0, 1]


def test_what_no_handler_may_catch_ends_the_map_at_once():
    class Stop(BaseException):
        pass

    begun = []

    async def stop(item):
        begun.append(item)
        await asyncio.sleep(0)
        if item == 0:
            raise Stop

    async def fn(ctx, _):
        with pytest.raises(Stop):
            await ctx.map(stop, range(10), 2, return_exceptions=True)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    run(fn)
    assert begun == [0, 1]


def test_what_an_item_waits_for_may_be_cancelled_without_the_map():
    async def cancelled(item):
        if item == 0:
            raise asyncio.CancelledError
        return item

    result, _ = run(lambda ctx, _: ctx.map(cancelled, range(2), return_exceptions=True))
    assert isinstance(result[0], asyncio.CancelledError)
    assert result[1] == 1


# ---- what is given


def refused(items=(1,), fn="shop.one", **options):
    with pytest.raises(InvalidInputError) as error:
        run(lambda ctx, _: ctx.map(fn, items, **options))
    return str(error.value)


def test_nothing_to_do_is_nothing_recorded():
    result, port = run(lambda ctx, _: ctx.map("shop.one", []))
    assert (result, port.said, port.asked) == ([], [], [])


def test_what_is_no_list_of_items_is_refused():
    assert "a set has no order" in refused({"a", "b"})
    assert "found str" in refused("abc")
    assert "found dict" in refused({"a": 1})
    assert "found int" in refused(7)


def test_too_many_items_are_refused_with_a_way_out():
    said = refused(range(4501))
    assert "more than 4,500 items" in said
    assert "Map parts of them" in said
    assert "more than 9,000" in refused(iter(int, 1), fn=asyncio.sleep)


def test_other_mistakes_are_explained():
    assert "expected a whole number from 1, found 0" in refused(concurrency=0)
    assert "found True" in refused(concurrency=True)
    assert "found list" in refused("shop.one", fn=[1])
    assert "key(items[1]) is 'a', as that of items[0]" in refused(["a", "a"], key=str)
    assert "key(items[0]): a non-empty string is needed, found 3" in refused([3], key=lambda item: item)
    said = refused([1, 2], fn=str, return_exceptions=True)
    assert "str(item) returned str" in said
    assert "@function" in said
    assert "ctx.step('str', str, item)" in said


def test_a_method_of_an_entity_needs_a_key():
    kind = entity("MapCounter")

    @kind.write
    async def add(ctx, by: int): ...

    assert "ctx.entity('MapCounter', key).add(item)" in refused(fn=add)


def test_a_handler_that_is_decorated_is_run_and_not_called(handlers):
    @function(service="shop")
    def plain(ctx, n: int) -> int:
        raise AssertionError

    flow = Mapped(lambda ctx: ctx.map(plain, [1]))
    assert flow.started[0].handler == "shop.plain"

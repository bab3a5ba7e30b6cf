"""The state of entities on their own context, and calls of entities from every context."""

from __future__ import annotations

import asyncio
import copy
import inspect

import pytest
from contexts import Item, entity_ctx, function_ctx, shop_handlers, workflow_ctx
from pydantic import BaseModel

from agnt5 import Context, entity
from agnt5.contracts.errors import (
    ConfigurationError,
    EntityDeadlockError,
    InvalidInputError,
    RunCancelledError,
    SerializationError,
    TaskFailedError,
    WrongContextError,
)
from agnt5.sdk.handles import SpawnHandle, TaskHandle


@pytest.fixture(autouse=True)
def cart():
    """The type Cart, known to this process."""
    with shop_handlers():
        Cart = entity("Cart")

        @Cart.write
        async def put(ctx: Context, sku: str, qty: int = 1) -> Item: ...

        @Cart.read
        async def total(ctx: Context) -> int: ...

        yield Cart


CONTEXTS = [function_ctx, workflow_ctx, entity_ctx]


# ---- state


async def test_a_method_reads_and_writes_its_entitys_state():
    ctx, port = entity_ctx({"profile": {"name": "ann"}, "temp": 1})
    profile = await ctx.get("profile", {})
    profile["age"] = 7
    assert await ctx.get("profile") == {"name": "ann"}
    ctx.set("profile", profile)
    ctx.delete("temp")
    assert await ctx.get("temp", "gone") == "gone"
    assert await ctx.keys() == ["profile"]
    assert port.state.changes() == ({"profile": b'{"name":"ann","age":7}'}, ["temp"])
    ctx.clear()
    assert await ctx.keys() == []


async def test_a_method_has_its_state_as_an_object():
    class State(BaseModel):
        count: int = 0

    ctx, port = entity_ctx({"count": 3}, model=State)
    ctx.state.count += 1
    assert await ctx.get("count") == 4
    assert port.state.changes() == ({"count": b"4"}, [])
    with pytest.raises(ConfigurationError, match="ctx.state needs a model"):
        _ = entity_ctx()[0].state


async def test_a_read_method_sees_and_does_not_write():
    ctx, _ = entity_ctx({"a": 1}, writable=False)
    assert await ctx.get("a") == 1
    with pytest.raises(
        WrongContextError, match=r"ctx.set\('a', ...\): a read method may not write; make it @Counter.w"
    ):
        ctx.set("a", 2)


async def test_a_method_knows_its_entity():
    ctx, _ = entity_ctx()
    assert isinstance(ctx, Context)
    assert (ctx.component_type, ctx.object_id, ctx.method_name) == ("entity", "c-1", "add")


@pytest.mark.parametrize("make", [function_ctx, workflow_ctx])
@pytest.mark.parametrize(
    ("name", "use", "instead"),
    [
        ("get", lambda ctx: ctx.get("a"), "asks an entity"),
        ("keys", lambda ctx: ctx.keys(), "asks an entity"),
        ("state", lambda ctx: ctx.state, "asks an entity"),
        ("set", lambda ctx: ctx.set("a", 1), "has an entity change what it keeps"),
        ("delete", lambda ctx: ctx.delete("a"), "has an entity change what it keeps"),
        ("clear", lambda ctx: ctx.clear(), "has an entity change what it keeps"),
    ],
)
async def test_state_is_for_entities(make, name, use, instead):
    ctx, _ = make()
    with pytest.raises(WrongContextError) as caught:
        use(ctx)
    kind = ctx.component_type
    assert f"ctx.{name} is for methods of entities, and " in str(caught.value)
    assert f"is a {kind}: await ctx.entity(type, key).method(...) {instead}" in str(caught.value)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda ctx: ctx.task("a", "b"), "'Counter.add' is a method of an entity: start the child with ctx.spawn"),
        (lambda ctx: ctx.patched("x"), "methods of entities are not replayed"),
        (lambda ctx: ctx.continue_as_new(), "what lasts is the entity's state"),
    ],
)
async def test_what_only_workflows_have_names_the_alternative_to_entities(use, message):
    with pytest.raises(WrongContextError) as caught:
        use(entity_ctx()[0])
    assert message in str(caught.value)


# ---- calls


async def test_a_function_calls_an_entity_and_says_when_it_waits():
    ctx, port = function_ctx()
    handle = ctx.entity("Cart", "c-1").put("a", qty=2)
    assert isinstance(handle, SpawnHandle)
    assert port.asked == [("call", "Cart.put", "Cart/c-1", {"sku": "a", "qty": 2})]
    assert (handle.id, handle.status(), port.waits) == ("Cart/c-1~@1", "running", [])
    waiting = asyncio.ensure_future(handle)
    await asyncio.sleep(0)
    assert [ref.id for ref in port.waits] == [handle.id]
    port.waits[0].future.set_result({"sku": "a"})
    assert await waiting == Item(sku="a")
    assert await handle.result() == Item(sku="a")
    assert handle.status() == "completed"


async def test_a_waiting_function_that_is_cancelled_leaves_the_call_alone_and_cancel_ends_it():
    ctx, port = entity_ctx()
    handle = ctx.entity("Cart", "c-1").total()
    waiting = asyncio.ensure_future(handle.result())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(port.asked) == 1
    handle.cancel()
    assert port.asked[1:] == [("cancel", 1)]
    port.waits[0].future.set_exception(RunCancelledError("", type="RunCancelledError"))
    with pytest.raises(RunCancelledError):
        await handle


async def test_a_workflow_gets_a_task_handle_whose_wait_cancels_the_call():
    ctx, port = workflow_ctx()
    handle = ctx.entity("Cart", "c-1").total()
    assert isinstance(handle, TaskHandle)
    waiting = asyncio.ensure_future(ctx.parallel(handle))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert port.asked == [("call", "Cart.total", "Cart/c-1", {}), ("cancel", 1)]


@pytest.mark.parametrize("make", CONTEXTS)
async def test_a_type_is_given_by_name_or_object_or_class(make, cart):
    @entity(name="Notes")
    class Notebook:
        @entity.write
        async def note(self, ctx, text: str): ...

    ctx, port = make()
    ctx.entity(cart, "c-1").total()
    ctx.entity(Notebook, "n-1").note("hi")
    ctx.entity("Notes", "n-1").note(text="hi")
    assert [asked[1:] for asked in port.asked] == [
        ("Cart.total", "Cart/c-1", {}),
        ("Notes.note", "Notes/n-1", {"text": "hi"}),
        ("Notes.note", "Notes/n-1", {"text": "hi"}),
    ]


@pytest.mark.parametrize("make", CONTEXTS)
async def test_methods_that_are_not_known_here_take_names_or_one_input(make):
    ctx, port = make()
    far = ctx.entity("Far", "f-1")
    far.away({"n": 1})
    far.away(n=1)
    far.away()
    far.away([1])
    assert [asked[3] for asked in port.asked] == [{"n": 1}, {"n": 1}, {}, [1]]
    with pytest.raises(InvalidInputError, match="Far.away: its parameters are not known in this process, so give th"):
        far.away(1, 2)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda ctx: ctx.entity("Cart", "c").put(), "Cart.put: parameter 'sku' is missing"),
        (lambda ctx: ctx.entity("Cart", "c").put("a", size=1), "Cart.put: unknown parameter 'size'"),
        (lambda ctx: ctx.entity("Cart", "c").put("a", 1, 2), "Cart.put: 3 positional arguments were given"),
        (
            lambda ctx: ctx.entity("Cart", "c").puts("a"),
            "'Cart' has no method 'puts' (did you mean 'put'?); it has put, t",
        ),
        (lambda ctx: ctx.entity("Cart", "c").write("a"), "'Cart' has no method 'write'; it has put, total"),
        (lambda ctx: ctx.entity("Cart", ""), "entity key: a non-empty string is needed, found ''"),
        (lambda ctx: ctx.entity("Cart", 17), "entity key: a non-empty string is needed, found 17"),
        (lambda ctx: ctx.entity("Cart", "a b"), "entity key 'a b': the character ' ' is not allowed"),
        (lambda ctx: ctx.entity("Cart", "k" * 199), "type and key have 204 characters, at most 200"),
        (lambda ctx: ctx.entity("a b", "c"), "entity type 'a b'"),
        (lambda ctx: ctx.entity(Item, "c"), "Item is no type of entities"),
        (lambda ctx: ctx.entity(None, "c"), "None is no type of entities"),
        (lambda ctx: ctx.entity("shop", "c").price("a"), "shop.price is a function, no method of an entity"),
        (lambda ctx: ctx.spawn("Cart.put", "a"), "needs a key: ctx.entity('Cart', key).put(...)"),
    ],
)
@pytest.mark.parametrize("make", CONTEXTS)
async def test_a_call_that_cannot_be_is_refused_before_anything_starts(make, use, message):
    ctx, port = make()
    with pytest.raises(InvalidInputError) as caught:
        use(ctx)
    assert message in str(caught.value)
    assert not port.asked


@pytest.mark.parametrize(
    "use",
    [
        lambda ctx, put: ctx.task("Cart", "put", {"sku": "a"}),
        lambda ctx, put: ctx.task(put, "a"),
        lambda ctx, put: ctx.task(put, input={"sku": "a"}),
    ],
)
async def test_a_method_is_no_task(use, cart):
    ctx, port = workflow_ctx()
    with pytest.raises(
        InvalidInputError, match=r"Cart.put is a method of an entity, which needs a key: ctx.entity\('C"
    ):
        use(ctx, cart.handlers["put"])
    assert not port.asked


async def test_types_of_arguments_are_checked_in_functions_and_left_to_the_method_in_workflows():
    for make in (function_ctx, entity_ctx):
        with pytest.raises(InvalidInputError, match="Cart.put: parameter 'sku': input should be a valid string"):
            make()[0].entity("Cart", "c").put(5)
    ctx, port = workflow_ctx()
    ctx.entity("Cart", "c").put(5)
    assert port.asked == [("call", "Cart.put", "Cart/c", {"sku": 5})]


async def test_an_input_goes_along_as_it_is_when_the_call_is_made():
    ctx, port = function_ctx()
    items = [1]
    ctx.entity("Far", "f").away(items=items)
    items.append(2)
    assert port.asked[0][3] == {"items": [1]}
    with pytest.raises(SerializationError, match=r"input of Far.away.items"):
        ctx.entity("Far", "f").away(items=[object()])


async def test_failures_of_a_call_come_out_as_they_are():
    ctx, port = function_ctx()
    for error in (TaskFailedError("no", type="ValueError"), EntityDeadlockError("Cart/c", type="EntityDeadlockError")):
        waiting = asyncio.ensure_future(ctx.entity("Cart", "c").total().result())
        await asyncio.sleep(0)
        port.waits[-1].future.set_exception(error)
        with pytest.raises(type(error)) as caught:
            await waiting
        assert caught.value is error


async def test_a_result_of_another_form_is_an_error_that_says_so():
    ctx, port = workflow_ctx()
    handle = ctx.entity("Cart", "c").total()
    handle._ref.future.set_result("many")
    with pytest.raises(InvalidInputError, match="Cart.total: the result: input should be a valid integer"):
        await handle


async def test_a_plain_def_in_a_thread_is_told_to_be_async():
    ctx, port = function_ctx()

    def sync():
        with pytest.raises(WrongContextError, match="ctx.entity: 'shop.price' is a plain `def`"):
            ctx.entity("Cart", "c").total()

    await asyncio.to_thread(sync)
    assert not port.asked


async def test_what_looks_into_a_proxy_takes_it_for_no_call():
    ctx, port = function_ctx()
    proxy = ctx.entity("Far", "f-1")
    assert repr(proxy) == "<entity Far/f-1>"
    assert not inspect.isawaitable(proxy)
    assert not hasattr(proxy, "_private")
    assert not hasattr(proxy, "__iter__")
    assert repr(copy.copy(proxy)) == repr(proxy)
    assert not port.asked
    assert proxy.send.__name__ == "send"

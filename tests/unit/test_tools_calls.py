"""ctx.tools: what can be registered, and how its handlers are called."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from contexts import T0, Flow, Item, entity_ctx, function_ctx, shop_handlers, workflow_ctx
from pydantic import BaseModel
from tools_kit import drive

from agnt5 import Context, entity, tool
from agnt5.contracts.errors import InvalidInputError, StepFailedError, WrongContextError
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}}


@pytest.fixture(autouse=True)
def handlers():
    with shop_handlers() as handlers:
        Cart = entity("Cart")

        @Cart.write
        async def add(ctx: Context, sku: str, qty: int = 1) -> int:
            """Put something into the cart.

            :param qty: How many.
            """

        yield {**handlers, "add": add}


def search(query: str, since: date | None = None) -> list[str]:
    """Search the web."""
    return [query, repr(since)]


async def asearch(query: str, since: date | None = None) -> list[str]:
    return [query, repr(since)]


# ---- registering


def test_a_tool_is_registered_by_position_or_by_name_as_the_specification_has_it():
    ctx, _ = function_ctx()
    one = ctx.tools.register("one", search, "Look it up", SCHEMA)
    two = ctx.tools.register("two", handler=search, description="Look it up", schema=SCHEMA, approval=True)
    assert (one.name, one.description, one.schema, one.approval) == ("one", "Look it up", SCHEMA, False)
    assert (two.description, two.schema, two.approval) == ("Look it up", SCHEMA, True)
    assert [made.name for made in ctx.tools] == ["one", "two"]


def test_what_is_left_out_is_derived():
    ctx, _ = function_ctx()
    made = ctx.tools.register("web", search)
    assert (made.name, made.description) == ("web", "Search the web.")
    assert made.schema["required"] == ["query"]


def test_a_name_has_one_handler():
    ctx, _ = function_ctx()
    ctx.tools.register("web", search)
    again = ctx.tools.register("web", search, "Better said")
    assert ctx.tools["web"] is again
    assert again.description == "Better said"
    with pytest.raises(InvalidInputError, match="'web'.*this run has a tool of that name, with another handler"):
        ctx.tools.register("web", asearch)
    cart = ctx.entity("Cart", "c1")
    ctx.tools.register("add", cart.add)
    ctx.tools.register("add", ctx.entity("Cart", "c1").add)
    with pytest.raises(InvalidInputError, match="another handler"):
        ctx.tools.register("add", ctx.entity("Cart", "c2").add)


def test_handlers_of_services_and_entities_tell_their_schema(handlers):
    ctx, _ = function_ctx()
    price = ctx.tools.register("price", handlers["price"])
    assert (list(price.schema["properties"]), price.schema["required"]) == (["sku", "qty"], ["sku"])
    assert ctx.tools.register("same", "shop.price").schema == price.schema
    add = ctx.tools.register("add", ctx.entity("Cart", "c1").add)
    assert add.description == "Put something into the cart."
    assert add.schema["properties"]["qty"] == {"type": "integer", "default": 1, "description": "How many."}


def test_a_handler_that_is_not_known_here_needs_a_schema():
    ctx, _ = function_ctx()
    with pytest.raises(InvalidInputError, match="no code of 'far.away' is known to this process.*give schema="):
        ctx.tools.register("far", "far.away")
    with pytest.raises(InvalidInputError, match=r"no code of 'Basket.add'"):
        ctx.tools.register("far", ctx.entity("Basket", "b1").add)
    assert ctx.tools.register("far", "far.away", schema=SCHEMA).handler == "far.away"


def test_a_method_needs_an_entity(handlers):
    ctx, _ = function_ctx()
    with pytest.raises(InvalidInputError, match=r"give ctx.entity\('Cart', key\).add"):
        ctx.tools.register("add", handlers["add"])


def test_tools_and_what_can_be_one_are_handlers_too():
    ctx, _ = function_ctx()
    made = tool(approval=True)(search)
    assert ctx.tools.register("search", made) is made
    other = ctx.tools.register("other", made, "Said otherwise")
    assert (other.name, other.description, other.approval) == ("other", "Said otherwise", True)
    assert other.schema == made.schema
    assert ctx.tools.register("third", made, schema=SCHEMA).schema == SCHEMA

    class Agent:
        def as_tool(self):
            return made

    assert ctx.tools.register("fourth", Agent()).handler is search


@pytest.mark.parametrize(
    ("handler", "said"),
    [(3, "expected a function, found int"), (None, "found NoneType"), ("no address", "expected 'service.handler'")],
)
def test_what_cannot_be_called_is_refused(handler, said):
    ctx, _ = function_ctx()
    with pytest.raises(InvalidInputError, match=said):
        ctx.tools.register("x", handler)
    assert list(ctx.tools) == []


def test_a_handler_without_a_derivable_schema_is_refused_when_it_is_registered():
    def odd(thing: asyncio.Lock): ...

    ctx, _ = function_ctx()
    with pytest.raises(InvalidInputError, match="tool 'odd': no schema can be derived: parameter 'thing'"):
        ctx.tools.register("odd", odd)
    assert ctx.tools.register("odd", odd, schema=SCHEMA).parameters is None


# ---- calling what is registered


@pytest.mark.parametrize("fn", [search, asearch, lambda query, since=None: asearch(query, since)])
async def test_a_handler_is_always_awaitable_and_a_recorded_step(fn):
    ctx, port = function_ctx()
    ctx.tools.register("web", fn)
    assert await ctx.tools.handler("web")(query="x") == ["x", "None"]
    assert [one[:2] for one in port.asked] == [("step", "tool:web")]


@pytest.mark.parametrize("schema", [None, {"properties": {"query": {}, "since": {"format": "date"}}}])
async def test_arguments_are_converted_whether_the_schema_is_derived_or_given(schema):
    ctx, _ = function_ctx()
    ctx.tools.register("web", search, schema=schema)
    handler = ctx.tools.handler("web")
    assert await handler(query="x", since="2026-02-03") == ["x", "datetime.date(2026, 2, 3)"]
    assert await handler(query="x", since=date(2026, 2, 3)) == ["x", "datetime.date(2026, 2, 3)"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "tool 'web': arguments: 'query' is a required property"),
        ({"query": 3}, "tool 'web': arguments.query: 3 is not of type 'string'"),
        ({"query": "x", "page": 3}, r"tool 'web': .*'page' was unexpected"),
        ({"query": "x", "since": "soon"}, "tool 'web': arguments.since: 'soon'"),
        ({"query": object()}, "arguments of tool 'web'.query"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_before_anything_is_called(arguments, said):
    ctx, port = function_ctx()
    ctx.tools.register("web", search)
    with pytest.raises(InvalidInputError, match=said):
        await ctx.tools.handler("web")(**arguments)
    assert port.asked == []


def test_an_unknown_name_lists_the_known_ones():
    ctx, _ = function_ctx()
    with pytest.raises(InvalidInputError, match="no tool 'web' is registered in this run; there are: none"):
        ctx.tools.handler("web")
    ctx.tools.register("search", search)
    ctx.tools.register("other", search)
    with pytest.raises(InvalidInputError, match=r"did you mean 'search'\?\); there are: other, search"):
        ctx.tools.handler("serch")


async def test_what_a_tool_raises_comes_out():
    def broken(query: str):
        raise ValueError("no such page")

    ctx, _ = function_ctx()
    ctx.tools.register("web", broken)
    with pytest.raises(ValueError, match="no such page"):
        await ctx.tools.handler("web")(query="x")


async def test_a_handler_that_takes_the_context_gets_this_runs_own():
    async def look(ctx: Context, query: str, since: date | None = None):
        return [ctx, query, since]

    ctx, port = function_ctx()
    ctx.tools.register("look", look)
    found = await ctx.tools.handler("look")(query="x", since="2026-02-03")
    assert found == [ctx, "x", date(2026, 2, 3)]
    assert list(ctx.tools["look"].schema["properties"]) == ["query", "since"]
    assert port.asked == []


async def test_a_handler_of_a_service_is_a_child_run(handlers):
    ctx, port = function_ctx()
    ctx.tools.register("price", handlers["price"])
    waiting = asyncio.ensure_future(ctx.tools.handler("price")(sku="a", qty=2))
    await asyncio.sleep(0)
    assert port.asked == [("task", "shop.price", {"sku": "a", "qty": 2}, None)]
    (ref,) = port.waits  # the slot is given back
    ref.future.set_result({"sku": "a"})
    assert await waiting == Item(sku="a")


@pytest.mark.parametrize("make", [function_ctx, workflow_ctx, entity_ctx])
async def test_a_method_of_an_entity_is_called(make):
    ctx, port = make()
    ctx.tools.register("add", ctx.entity("Cart", "c1").add)
    waiting = asyncio.ensure_future(ctx.tools.handler("add")(sku="a"))
    await asyncio.sleep(0)
    assert port.asked == [("call", "Cart.add", "Cart/c1", {"sku": "a"})]
    waiting.cancel()


def test_in_a_workflow_tools_are_steps_and_tasks():
    async def fn(ctx):
        ctx.tools.register("web", search)
        ctx.tools.register("price", "shop.price")
        handler = ctx.tools.handler
        return [await handler("web")(query="x", since="2026-02-03"), (await handler("price")(sku="a")).sku]

    flow = drive(Flow(fn), price={"sku": "a"})
    assert flow.end() == [["x", "datetime.date(2026, 2, 3)"], "a"]
    assert [type(one).__name__ for one in flow.journal] == [
        "RunStarted", "StepCompleted", "TaskScheduled", "TaskCompleted",
    ]  # fmt: skip


def test_a_failed_tool_of_a_workflow_is_a_failed_step():
    def broken(query: str):
        raise ValueError("no such page")

    async def fn(ctx):
        ctx.tools.register("web", broken)
        try:
            await ctx.tools.handler("web")(query="x")
        except StepFailedError as error:
            return error.message

    flow = Flow(fn)
    assert flow.commands[0].name == "tool:web"
    assert isinstance(flow.commands[0], cmd.RunStep)
    flow.feed(ev.StepFailed(at=T0, seq=1, name="tool:web", error={"type": "ValueError", "message": "no such page"}))
    assert flow.end() == "no such page"


def test_a_plain_def_can_register_but_not_await():
    ctx, _ = function_ctx()
    ctx.tools.register("web", search)
    handler = ctx.tools.handler("web")
    with pytest.raises(WrongContextError, match="make it `async def`"):
        handler(query="x").send(None)


class Found(BaseModel):
    title: str


async def test_a_result_comes_in_the_form_of_the_annotation():
    def find(query: str) -> Found:
        return Found(title=query)

    ctx, _ = function_ctx()
    ctx.tools.register("find", find)
    assert await ctx.tools.handler("find")(query="x") == Found(title="x")

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agnt5.contracts.errors import ConfigurationError, HandlerNotFoundError, InvalidInputError
from agnt5.contracts.runs import Kind
from agnt5.registry import Handler, HandlerOptions, Registry, default_registry, isolated

if TYPE_CHECKING:
    from decimal import Decimal


class Size(Enum):
    SMALL = "s"


class Item(BaseModel):
    sku: str
    qty: int = 1


@dataclass
class Address:
    city: str


def handler(fn: Any, name: str | None = None) -> Handler:
    return Handler.of(fn, service="orders", name=name or fn.__name__, kind=Kind.FUNCTION, options=HandlerOptions())


async def plain(ctx, data): ...


async def typed(ctx, item: Item, size: Size = Size.SMALL, at: datetime | None = None, to: Address | None = None): ...


async def nothing(ctx): ...


async def optional(ctx, limit: int = 10): ...


async def open_ended(ctx, first, **rest: Any) -> None: ...


# ---- binding


def test_a_dict_of_parameter_names_is_spread():
    found = handler(typed).bind({"item": {"sku": "a", "qty": "2"}, "size": "s", "at": "2026-01-02T03:04:05Z"})
    assert found["item"] == Item(sku="a", qty=2)
    assert found["size"] is Size.SMALL
    assert isinstance(found["at"], datetime)
    assert "to" not in found


def test_dataclasses_are_built_and_models_pass_as_they_are():
    item = Item(sku="a")
    found = handler(typed).bind({"item": item, "to": {"city": "Bonn"}})
    assert found == {"item": item, "to": Address("Bonn")}


@pytest.mark.parametrize("value", [5, "x", [1], {"other": 1}, {"data": 1, "other": 2}, {}, None])
def test_a_handler_with_one_parameter_takes_anything_else_whole(value):
    assert handler(plain).bind(value) == {"data": value}


def test_a_dict_with_exactly_the_one_parameter_is_spread():
    assert handler(plain).bind({"data": {"a": 1}}) == {"data": {"a": 1}}


def test_no_input_is_fine_where_nothing_is_required():
    assert handler(nothing).bind(None) == {}
    assert handler(nothing).bind({}) == {}
    assert handler(optional).bind(None) == {}
    assert handler(optional).bind({"limit": 3}) == handler(optional).bind(3) == {"limit": 3}


def test_open_ended_handlers_take_more_names_but_never_their_context():
    assert handler(open_ended).bind({"first": 1, "a": 2, "return": 3}) == {"first": 1, "a": 2, "return": 3}
    with pytest.raises(InvalidInputError, match="unknown parameter 'ctx'"):
        handler(open_ended).bind_call((), {"first": 1, "ctx": 2})


@pytest.mark.parametrize(
    ("fn", "value", "message"),
    [
        (typed, {"itm": 1}, "orders.typed: unknown parameter 'itm' (did you mean 'item'?); expected item, size"),
        (typed, {"size": "s"}, "orders.typed: parameter 'item' is missing; found 'size'"),
        (typed, None, "orders.typed: expected an object with item, size (optional), at (optional)"),
        (typed, [1], "found list"),
        (nothing, {"a": 1}, "orders.nothing: unknown parameter 'a'; expected no input"),
        (nothing, 5, "orders.nothing: expected an object with no input, found int"),
        (optional, {"limit": "many"}, "orders.optional: parameter 'limit': input should be a valid integer"),
        (typed, {"item": {"sku": "a", "qty": "x"}}, "parameter 'item' at item.qty: input should be a valid integer"),
        (typed, {"item": {"sku": "a", "qty": "x"}}, "found 'x' (str)"),
        (typed, {"item": {}}, "at item.sku: field required"),
        (typed, {"item": {"sku": "a"}, "size": "xl"}, "parameter 'size': input should be 's', found 'xl' (str)"),
    ],
)
def test_input_that_does_not_fit_is_refused_with_handler_parameter_and_what_is_expected(fn, value, message):
    with pytest.raises(InvalidInputError) as caught:
        handler(fn).bind(value)
    assert message in str(caught.value)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_binding_any_data_either_works_or_is_invalid_input(value):
    for fn in (plain, typed, nothing, optional, open_ended):
        try:
            assert isinstance(handler(fn).bind(value), dict)
        except InvalidInputError as error:
            assert str(error).startswith(f"orders.{fn.__name__}: ")


# ---- calls


def test_a_call_becomes_an_input_that_binds_to_the_same():
    h = handler(typed)
    item = Item(sku="a")
    assert h.bind_call((item,), {"size": "s"}) == {"item": item, "size": "s"}
    assert h.bind(h.bind_call((item,), {})) == {"item": item}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, 2, 3, 4, 5), {}, "5 positional arguments were given, it takes 4"),
        ((Item(sku="a"),), {"item": 1}, "parameter 'item' was given twice"),
        ((), {"size": "s"}, "parameter 'item' is missing"),
        ((), {"nope": 1}, "unknown parameter 'nope'"),
        ((5,), {}, "parameter 'item': input should be"),
    ],
)
def test_a_call_that_python_would_refuse_is_refused(args, kwargs, message):
    with pytest.raises(InvalidInputError, match="orders.typed") as caught:
        handler(typed).bind_call(args, kwargs)
    assert message in str(caught.value)


def test_without_check_a_call_is_bound_by_name_only():
    assert handler(typed).bind_call((5,), {}, check=False) == {"item": 5}


# ---- annotations


def test_an_annotation_that_exists_for_type_checkers_only_is_refused_when_it_is_needed():
    async def pay(ctx, amount: Decimal, note): ...

    with pytest.raises(ConfigurationError, match="'Decimal' of parameter 'amount' .* outside `if TYPE_CHECKING`"):
        handler(pay).bind({"amount": 1, "note": ""})


def test_a_type_without_json_form_is_refused():
    class Socket: ...

    async def send(ctx, socket: Socket):
        return Socket

    with pytest.raises(ConfigurationError, match="parameter 'socket' has the type .*Socket.*no JSON form"):
        handler(send).bind({"socket": 1})


def test_a_local_model_is_found_through_the_closure():
    class Local(BaseModel):
        n: int

    async def use(ctx, it: Local) -> Local:
        return Local(n=it.n)

    assert handler(use).bind({"n": 1}) == {"it": Local(n=1)}
    assert handler(use).coerce_result({"n": 1}) == Local(n=1)


def test_results_come_back_by_return_annotation():
    async def items(ctx) -> list[Item]: ...
    async def unsaid(ctx): ...
    async def stream(ctx) -> AsyncIterator[Item]:
        yield Item(sku="a")

    def sync_stream(ctx) -> Iterator[int]:
        yield 1

    async def unknown(ctx) -> Decimal: ...

    assert handler(items).coerce_result([{"sku": "a"}]) == [Item(sku="a")]
    assert handler(unsaid).coerce_result([{"sku": "a"}]) == [{"sku": "a"}]
    assert handler(stream).coerce_result([{"sku": "a"}]) == [Item(sku="a")]
    assert handler(sync_stream).coerce_result(["1", 2]) == [1, 2]
    assert handler(unknown).coerce_result("1.5") == "1.5"
    with pytest.raises(InvalidInputError, match=r"orders.items: the result at result\[0\].sku: field required"):
        handler(items).coerce_result([{}])


def test_what_a_function_is():
    async def coro(ctx): ...
    async def agen(ctx):
        yield 1

    def sync(ctx): ...
    def gen(ctx):
        yield 1

    found = [(handler(fn).is_async, handler(fn).is_stream) for fn in (coro, agen, sync, gen)]
    assert found == [(True, False), (True, True), (False, False), (False, True)]


def test_a_handler_describes_itself_in_json():
    async def ship(ctx, item: Item, note="") -> Size:
        """Send an item.

        More.
        """

    told = json.loads(json.dumps(handler(ship).describe()))
    assert (told["service"], told["name"], told["kind"], told["doc"]) == ("orders", "ship", "function", "Send an item.")
    assert [(p["name"], p["required"]) for p in told["parameters"]] == [("item", True), ("note", False)]
    assert told["parameters"][0]["schema"]["properties"]["qty"]["type"] == "integer"
    assert told["parameters"][1]["schema"] == {}
    assert told["result"]["enum"] == ["s"] or told["result"]["const"] == "s"


# ---- registry


def test_another_function_with_the_same_address_is_refused_with_both_places():
    def other(ctx): ...

    registry = Registry()
    registry.add(handler(plain))
    with pytest.raises(ConfigurationError, match=r"'orders\.plain' is defined twice: .*\(plain\) and .*other\); give"):
        registry.add(handler(other, "plain"))


def test_reloading_a_module_replaces_its_handlers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = tmp_path / "reloaded_orders.py"
    source = "from agnt5 import function\n\n@function\ndef ship(ctx{}): ...\n"
    module.write_text(source.format(""))
    with isolated() as registry:
        loaded = importlib.import_module("reloaded_orders")
        module.write_text("# moved down\n" + source.format(", a, b"))
        importlib.invalidate_caches()
        importlib.reload(loaded)
        assert len(registry) == 1
        assert [p.name for p in registry.get("reloaded_orders.ship").parameters] == ["a", "b"]
    del sys.modules["reloaded_orders"]


def test_one_function_may_be_registered_again():
    registry = Registry()
    registry.add(handler(plain))
    registry.add(handler(plain))
    assert len(registry) == 1


def test_a_notebook_cell_that_runs_again_replaces_its_handlers():
    registry = Registry()
    for cell in ("<cell 1>", "<cell 2>"):
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile("def ship(ctx): ...", cell, "exec"), names)
        registry.add(handler(names["ship"]))
    assert [h.place for h in registry] == ["<cell 2>:1 (ship)"]


def test_a_script_may_be_imported_by_its_own_name_too(tmp_path):
    script = tmp_path / "shop.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from agnt5 import function
        @function
        def ship(ctx): ...
        if __name__ == "__main__":
            import shop
            print(ship.__agnt5__.address, shop.ship.__agnt5__.address)
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["shop.ship", "shop.ship"], done.stderr


def test_an_unknown_address_says_what_there_is():
    registry = Registry()
    registry.add(handler(plain))
    with pytest.raises(HandlerNotFoundError, match=r"'orders.nope' .* service 'orders' has orders.plain"):
        registry.get("orders.nope")
    with pytest.raises(HandlerNotFoundError, match="no module of service 'billing' is imported"):
        registry.get("billing.x")
    assert registry.find("orders.nope") is None
    assert registry.services == ["orders"]


def test_an_isolated_registry_leaves_the_outer_one_alone():
    outer = default_registry()
    with isolated() as inner:
        assert default_registry() is inner
        assert len(inner) == 0
    assert default_registry() is outer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lambda: None, "the first parameter of a handler is its context"),
        (lambda: lambda *, ctx: None, "the first parameter of a handler is its context"),
        (lambda: lambda ctx, *items: None, "parameter 'items' cannot be given by name"),
        (lambda: lambda ctx, a, /: None, "parameter 'a' cannot be given by name"),
    ],
)
def test_signatures_that_no_input_can_fill_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        handler(make(), "it")


def test_a_forgotten_context_is_noticed():
    def add(a: int, b: int): ...

    with pytest.raises(ConfigurationError, match=r"expected \(ctx, a, b\), found \(a, b\)"):
        handler(add)

"""Types of entities and their methods: how they are defined, and what is refused where it is written."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import textwrap
from datetime import timedelta
from typing import Any

import pytest
from contexts import entity_ctx
from pydantic import BaseModel, ConfigDict, RootModel

import agnt5
from agnt5 import Context, RetryPolicy, entity, function
from agnt5.contracts.errors import ConfigurationError, InvalidInputError
from agnt5.contracts.runs import Kind
from agnt5.registry import isolated
from agnt5.sdk.decorators import handler_of
from agnt5.sdk.entities import EntityType, type_name


@pytest.fixture(autouse=True)
def registry():
    with isolated() as registry:
        yield registry


class Totals(BaseModel):
    count: int = 0


# ---- entity("Name")


async def test_a_type_has_methods_that_stay_plain_functions(registry):
    Counter = entity("Counter", state=Totals)

    @Counter.write
    async def add(ctx: Context, amount: int = 1) -> int:
        """Adds up.

        More words."""
        total = await ctx.get("count", 0) + amount
        ctx.set("count", total)
        return total

    @Counter.read
    async def total(ctx: Context) -> int: ...

    @Counter.method(name="reset", retries=2, timeout=timedelta(seconds=3), run_timeout=60, priority=1)
    async def start_again(ctx: Context) -> None: ...

    ctx, port = entity_ctx({"count": 4})
    assert await add(ctx, 2) == 6
    assert port.state.changes() == ({"count": b"6"}, [])
    assert isinstance(Counter, EntityType)
    assert (Counter.name, Counter.state) == ("Counter", Totals)
    assert {name: h.mode for name, h in Counter.handlers.items()} == {"add": "write", "total": "read", "reset": "write"}
    handler = registry.get("Counter.add")
    assert handler is add.__agnt5__ is handler_of(add) is Counter.handlers["add"]
    assert (handler.kind, handler.service, handler.state_model, handler.fn) == (Kind.ENTITY, "Counter", Totals, add)
    reset = Counter.handlers["reset"].options
    assert (reset.retries, reset.timeout_ms, reset.run_timeout_ms, reset.priority) == (
        RetryPolicy(max_attempts=2),
        3000,
        60_000,
        1,
    )


def test_a_method_tells_its_mode_and_the_form_of_the_state():
    Counter = entity("Counter", state=Totals)
    Bare = entity("Bare")

    @Counter.read
    async def total(ctx: Context) -> int: ...

    @Bare.write
    async def note(ctx: Context, text: str) -> None: ...

    @function
    def plain(ctx): ...

    told = total.__agnt5__.describe()
    assert (told["kind"], told["mode"], told["state"]) == ("entity", "read", Totals.model_json_schema())
    told = note.__agnt5__.describe()
    assert (told["kind"], told["mode"], told["state"]) == ("entity", "write", {})
    assert told["parameters"][0]["schema"] == {"type": "string"}
    assert "mode" not in plain.__agnt5__.describe()
    assert plain.__agnt5__.mode is None


def test_methods_of_a_type_may_be_spread_over_modules():
    @entity("Counter", state=Totals).write
    async def add(ctx): ...

    again = entity("Counter", state=Totals)

    @again.read
    async def total(ctx): ...

    @function(service="Counter")
    async def of_a_service_of_that_name(ctx): ...

    assert sorted(again.handlers) == ["add", "total"]


# ---- @entity on a class


async def test_a_class_is_a_type_and_each_call_gets_a_fresh_instance(registry):
    @entity
    class Chat:
        class State(BaseModel):
            turns: int = 0

        def __init__(self, greeting: str = "hi") -> None:
            self.greeting = greeting

        @entity.write
        async def send(self, ctx: Context, text: str) -> str:
            ctx.state.turns += 1
            self.greeting += "!"
            return f"{self.greeting} {text}"

        @entity.read
        async def turns(ctx: Context) -> int:  # noqa: N805
            return ctx.state.turns

        @entity.read
        async def bound_to(ctx, context: dict) -> dict:  # noqa: N805
            return context

        @staticmethod
        @entity.read(name="twice")
        async def doubled(ctx: Context, by: int = 2) -> int:
            return ctx.state.turns * by

        async def helper(self): ...

    assert sorted(h.address for h in registry) == ["Chat.bound_to", "Chat.send", "Chat.turns", "Chat.twice"]
    assert registry.get("Chat.turns").mode == "read"
    assert await registry.get("Chat.bound_to").fn(None, context={"a": 1}) == {"a": 1}
    handler = registry.get("Chat.send")
    assert (handler.mode, handler.state_model) == ("write", Chat.State)
    assert [p.name for p in handler.parameters] == ["text"]
    assert inspect.iscoroutinefunction(handler.fn)
    assert handler.bind({"text": "x"}) == {"text": "x"}
    with pytest.raises(InvalidInputError, match=r"Chat.send: parameter 'text': input should be a valid string"):
        handler.bind({"text": 1})
    assert "test_entities.py:" in handler.place
    ctx, port = entity_ctx({"turns": 1}, model=Chat.State)
    assert await handler.fn(ctx, text="a") == "hi! a"
    assert await handler.fn(ctx, text="b") == "hi! b"
    assert await registry.get("Chat.turns").fn(ctx) == 3
    assert await registry.get("Chat.twice").fn(ctx, by=3) == 9
    assert await Chat("yo").send(ctx, "c") == "yo! c"
    assert handler_of(Chat.send) is handler
    assert handler_of(Chat.doubled).address == "Chat.twice"
    assert type_name(Chat) == "Chat"


def test_a_class_may_have_another_name_and_a_model_from_elsewhere(registry):
    @entity(name="Basket", state=Totals)
    class ShoppingBasket:
        @entity.write
        async def put(self, ctx): ...

    assert registry.get("Basket.put").state_model is Totals
    assert type_name(ShoppingBasket) == "Basket"


def test_methods_of_base_classes_count(registry):
    class Notes:
        @entity.write
        async def note(self, ctx, text: str): ...

        @entity.read
        async def notes(self, ctx): ...

        @entity.read
        async def hidden(self, ctx): ...

    @entity
    class Order(Notes):
        hidden = None

        @entity.write(name="note")
        async def note(self, ctx, text: str, author: str = ""): ...

    @entity
    class Special(Order):
        pass

    assert sorted(h.address for h in registry) == ["Order.note", "Order.notes", "Special.note", "Special.notes"]
    assert [p.name for p in registry.get("Special.note").parameters] == ["text", "author"]
    assert handler_of(Order.note).address == "Order.note"
    assert (type_name(Order), type_name(Special)) == ("Order", "Special")

    class Undecorated(Special): ...

    with pytest.raises(InvalidInputError, match="Undecorated is no type of entities"):
        type_name(Undecorated)
    with pytest.raises(InvalidInputError, match="is not a handler"):
        handler_of(Order.notes)
    with pytest.raises(InvalidInputError, match="Notes is no type of entities: give its name, what entity"):
        type_name(Notes)


def test_an_override_without_decorator_is_noticed():
    class Base:
        @entity.write
        async def add(self, ctx): ...

    with pytest.raises(
        ConfigurationError, match=r"Sub.add overrides an .* write @entity.write above it, or add = None"
    ):

        @entity
        class Sub(Base):
            async def add(self, ctx): ...


# ---- @entity.write in a module


@pytest.mark.parametrize(
    ("module", "name"),
    [("user_profile", "UserProfile"), ("a.b.shopping_cart", "ShoppingCart"), ("carts", "Carts"), ("myAPI", "MyAPI")],
)
def test_a_function_of_a_module_belongs_to_the_type_that_is_named_after_it(registry, module, name):
    space: dict[str, Any] = {"__name__": module, "entity": entity}
    exec("@entity.write\nasync def update(ctx, age: int): ...\n@entity.read\nasync def show(ctx): ...", space)
    assert sorted(h.address for h in registry) == [f"{name}.show", f"{name}.update"]
    assert space["update"].__agnt5__.mode == "write"


def test_in_a_script_the_type_is_named_after_the_file(tmp_path):
    script = tmp_path / "user_profile.py"
    script.write_text(
        textwrap.dedent("""
        from pydantic import BaseModel
        from agnt5 import entity
        class State(BaseModel):
            age: int = 0
        X = entity("X", state=State)
        @X.read
        async def age(ctx): ...
        @X.write
        async def grow(ctx): ...
        @entity.write
        async def update(ctx): ...
        if __name__ == "__main__":
            import user_profile
            print(update.__agnt5__.address, user_profile.update.__agnt5__.address, sorted(X.handlers))
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.stdout.split(maxsplit=2)[:2] == ["UserProfile.update"] * 2, done.stderr


def test_a_module_that_is_loaded_again_replaces_its_methods(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source = (
        "from pydantic import BaseModel\nfrom agnt5 import entity\nclass S(BaseModel):\n    n: int = 0\n"
        "X = entity('X', state=S)\n@X.write\nasync def one(ctx{}): ...\n@X.read\nasync def two(ctx): ...\n"
    )
    module = tmp_path / "reloaded_entities.py"
    module.write_text(source.format(""))
    with isolated() as registry:
        loaded = importlib.import_module("reloaded_entities")
        module.write_text("# moved down\n" + source.format(", a"))
        importlib.invalidate_caches()
        importlib.reload(loaded)
        assert len(registry) == 2
        assert [p.name for p in registry.get("X.one").parameters] == ["a"]
        assert registry.get("X.two").state_model is loaded.S
    del sys.modules["reloaded_entities"]


def test_a_module_whose_name_is_no_name_has_to_say_one():
    space: dict[str, Any] = {"__name__": "17up", "entity": entity}
    with pytest.raises(ConfigurationError, match=r"module '17up' makes no entity type; write X = entity\(\"X\"\)"):
        exec("@entity.write\nasync def update(ctx): ...", space)


def test_a_function_of_a_module_joins_the_type_with_its_model(registry):
    space: dict[str, Any] = {"__name__": "user_profile", "entity": entity, "Totals": Totals}
    exec(
        "X = entity('UserProfile', state=Totals)\n@X.write\nasync def one(ctx): ...\n"
        "@entity.write\nasync def two(ctx): ...",
        space,
    )
    assert registry.get("UserProfile.two").state_model is Totals


# ---- what is refused


def sync(ctx): ...


async def fine(ctx): ...


async def agen(ctx):
    yield 1


def gen(ctx):
    yield 1


async def no_context(): ...


async def _hidden(ctx): ...


class Chat:
    def talk(self, ctx): ...


@pytest.mark.parametrize(
    ("fn", "options", "message"),
    [
        (sync, {}, "sync is a `def`; a method of an entity is an `async def`: it awaits its state"),
        (gen, {}, "gen is a `def`; a method of an entity is an `async def`"),
        (no_context, {}, "the first parameter of a handler is its context"),
        (_hidden, {}, "method name '_hidden': it is called as ._hidden(...), so it has to be a Python name"),
        (fine, {"name": "add-one"}, "method name 'add-one': it is called as .add-one(...)"),
        (fine, {"name": "import"}, "method name 'import'"),
        (fine, {"name": "a b"}, "handler name 'a b'"),
        (fine, {"timeout": -1}, "number of seconds is needed, found -1"),
        (fine, {"retries": "x"}, "retries: expected a RetryPolicy"),
        (fine, {"priority": 99}, "priority: expected a number from 0 to 9"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(registry, fn, options, message):
    for decorator in (entity("X").write, entity.read):
        with pytest.raises(ConfigurationError) as caught:
            decorator(**options)(fn)
        assert message in str(caught.value)
        assert "test_entities.py:" in str(caught.value)
    assert len(registry) == 0


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: entity("X").write(service="y"), "@X.write: option 'service' is not known; there are name, retries"),
        (lambda: entity.read(cron="* * * * *"), "@entity.read: option 'cron' is not known"),
        (lambda: entity("X").write(5), "@X.write: expected an `async def`, found 5"),
        (lambda: entity("a b"), "entity type 'a b': letters, digits, _ and - are allowed"),
        (lambda: entity(""), "entity type ''"),
        (lambda: entity(fine), "entity: expected a class or the name of a type"),
        (lambda: entity(name="X")(fine), "@entity(...): expected a class, found <function fine"),
        (lambda: entity(Chat), "Chat: an entity without methods; decorate them with @entity.write or @entity.read"),
        (lambda: entity("X", state=dict), "state: expected a pydantic model (a subclass of BaseModel), found"),
        (lambda: entity("X", state=Totals()), "state: expected a pydantic model"),
        (lambda: entity("X", state=RootModel[int]), "state: expected a pydantic model"),
    ],
)
def test_what_cannot_be_is_refused(use, message):
    with pytest.raises(ConfigurationError) as caught:
        use()
    assert message in str(caught.value)


def test_a_state_model_needs_defaults_and_declared_fields():
    class Bare(BaseModel):
        count: int

    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    with pytest.raises(ConfigurationError, match="entity type 'X': field 'count' of the state model .*Bare has no def"):
        entity("X", state=Bare)
    with pytest.raises(ConfigurationError, match="Open allows extra fields, which would not be stored"):
        entity("X", state=Open)


def test_a_type_has_one_state_model():
    class Other(BaseModel):
        count: int = 0

    entity("X", state=Totals).write(fine)
    for state in (Other, None):

        async def more(ctx): ...

        with pytest.raises(ConfigurationError) as caught:
            entity("X", state=state).read(more)
        assert "entity type 'X' has" in str(caught.value)
        assert "test_entities.Totals in " in str(caught.value)
        assert "test_entities.py:" in str(caught.value)


def test_two_models_of_one_class_are_refused():
    with pytest.raises(ConfigurationError, match="two state models: state=.* and the class State; give one of them"):

        @entity(state=Totals)
        class Chat:
            class State(BaseModel): ...

            @entity.write
            async def send(self, ctx): ...


def test_one_name_is_one_method():
    X = entity("X")
    X.write(fine)
    with pytest.raises(
        ConfigurationError,
        match=r"'X.fine' is defined twice: .*\(fine\) and .*other\); give one of them another name=$",
    ):

        @X.read(name="fine")
        async def other(ctx): ...


def test_a_name_that_a_module_defines_twice_is_noticed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "from agnt5 import entity\nX = entity('X')\n@X.write\nasync def add(ctx): ...\n"
    (tmp_path / "copied_entities.py").write_text(text + "@X.read\nasync def add(ctx, more): ...\n")
    with pytest.raises(ConfigurationError, match=r"'X.add' is defined twice: .*py:3 \(add\) and .*py:5 \(add\)"):
        importlib.import_module("copied_entities")


def test_a_method_of_a_class_that_needs_arguments_is_refused():
    with pytest.raises(ConfigurationError, match=r"Chat\(\) has to work without arguments \(missing a required arg.*m"):

        @entity
        class Chat:
            def __init__(self, model): ...

            @entity.write
            async def send(self, ctx): ...


def test_a_type_decorates_functions_of_modules_only():
    X = entity("X")
    with pytest.raises(ConfigurationError, match="@X.write is for functions of a module; in a class write @entity.wri"):

        class Chat:
            @X.write
            async def send(self, ctx): ...


def test_entity_is_public_and_cheap_to_import():
    assert agnt5.entity is entity
    code = "import sys, agnt5; agnt5.entity; print(*(name in sys.modules for name in ('redis', 'celery', 'pydantic')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False"] * 3, done.stderr

"""Tools as models see them: schemas from signatures and docstrings, and what is said of arguments that do not fit."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from agnt5 import Context, InvalidInputError, Tool, tool
from agnt5.llm.docstrings import read
from agnt5.llm.tools import ARGUMENTS_LIMIT, DEPTH_LIMIT


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    city: str
    zip: int | None = None


@dataclass
class Point:
    x: int
    y: int = 0


def book(
    when: date,
    colour: Colour,
    kind: Literal["a", "b"] = "a",
    to: Address | None = None,
    tags: list[str] = ["x"],
    limit: Annotated[int, Field(ge=1, le=10, description="How many")] = 5,
    anything=None,
):
    """Book a table.

    More that the model need not know.

    Args:
        when: The day.
        colour (Colour): What colour
            it has: any will do.
        limit: Not taken, the annotation says it.
    """
    return when, colour, kind, to, tags, limit, anything


# ---- schemas


def test_a_schema_says_types_defaults_choices_and_what_the_docstring_says():
    schema = tool(book).schema
    assert schema["type"] == "object"
    assert schema["required"] == ["when", "colour"]
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "when": {"type": "string", "format": "date", "description": "The day."},
        "colour": {"$ref": "#/$defs/Colour", "description": "What colour it has: any will do."},
        "kind": {"enum": ["a", "b"], "type": "string", "default": "a"},
        "to": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}], "default": None},
        "tags": {"type": "array", "items": {"type": "string"}, "default": ["x"]},
        "limit": {"type": "integer", "minimum": 1, "maximum": 10, "default": 5, "description": "How many"},
        "anything": {"default": None},
    }
    assert schema["$defs"]["Colour"]["enum"] == ["red", "blue"]
    assert schema["$defs"]["Address"]["required"] == ["city"]


def test_the_form_for_providers_has_name_description_and_parameters():
    made = tool(book)
    assert made.spec() == {
        "type": "function",
        "function": {"name": "book", "description": "Book a table.", "parameters": made.schema},
    }
    bare = tool(name="ping")(lambda: None)
    assert bare.spec()["function"]["parameters"] == {
        "type": "object", "properties": {}, "additionalProperties": False,
    }  # fmt: skip


def test_arguments_come_in_the_types_of_the_function():
    converted = tool(book).parameters.convert(
        {"when": "2026-02-03", "colour": "blue", "to": {"city": "Rome"}, "tags": ["a"]}
    )
    assert converted == {
        "when": date(2026, 2, 3), "colour": Colour.BLUE, "to": Address(city="Rome"), "tags": ["a"],
    }  # fmt: skip

    def more(gap: timedelta, price: Decimal, number: UUID, at: Point, many: set[int], pair: tuple[int, str]): ...

    given = {
        "gap": "PT5M", "price": "1.50", "number": "a" * 32, "at": {"x": 1}, "many": [1, 2], "pair": [1, "b"],
    }  # fmt: skip
    made = tool(more)
    assert made.fault(given | {"number": str(UUID("a" * 32))}) == ""
    assert made.parameters.convert(given) == {
        "gap": timedelta(minutes=5), "price": Decimal("1.50"), "number": UUID("a" * 32), "at": Point(1), "many": {1, 2},
        "pair": (1, "b"),
    }  # fmt: skip


@pytest.mark.parametrize("annotation", ["Context", "agnt5.Context", Context, "WorkflowContext"])
def test_the_context_is_none_of_the_models_business(annotation):
    async def one(run, query: str): ...

    one.__annotations__["run"] = annotation
    assert list(tool(one).schema["properties"]) == ["query"]

    async def two(ctx, query: str): ...

    assert list(tool(two).schema["properties"]) == ["query"]


def test_a_parameter_that_only_sounds_like_a_context_is_the_models():
    def three(context: str, query: str): ...

    assert list(tool(three).schema["properties"]) == ["context", "query"]


def test_names_that_pydantic_keeps_for_itself_are_parameters_like_others():
    def odd(schema: int, model_config: str, _hidden: int = 0, copy: bool = False): ...

    made = tool(odd)
    assert list(made.schema["properties"]) == ["schema", "model_config", "_hidden", "copy"]
    assert made.parameters.convert({"schema": 1, "model_config": "x", "_hidden": 2}) == {
        "schema": 1, "model_config": "x", "_hidden": 2,
    }  # fmt: skip


def test_a_function_that_takes_any_keyword_has_an_open_schema():
    def free(query: str, *rest: int, **more: Any): ...

    made = tool(free)
    assert made.schema["additionalProperties"] is True
    assert list(made.schema["properties"]) == ["query"]
    assert made.fault({"query": "x", "other": 1}) == ""
    assert made.parameters.convert({"query": "x", "other": 1}) == {"query": "x", "other": 1}


class Search:
    """Objects of this class search."""

    def __call__(self, query: str) -> str:
        """Search for it."""
        return query

    def find(self, query: str, page: int = 1):
        """Find a page."""


def test_methods_partials_and_callable_objects_are_functions_too():
    assert list(tool(Search().find).schema["properties"]) == ["query", "page"]
    assert tool(Search().find).description == "Find a page."
    assert tool(name="search")(Search()).description == "Search for it."
    assert tool(name="search")(Search()).schema["required"] == ["query"]
    partial = tool(name="third")(functools.partial(Search().find, page=3))
    assert partial.schema["required"] == ["query"]
    assert partial.schema["properties"]["page"]["default"] == 3


def test_a_schema_is_derived_when_it_is_needed_so_that_later_definitions_count():
    def early(thing: Later): ...  # noqa: F821

    made = tool(early)
    early.__globals__["Later"] = Address
    try:
        assert made.schema["properties"]["thing"] == {"$ref": "#/$defs/Address"}
    finally:
        del early.__globals__["Later"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(a: object()): ...", "parameter 'a' has the type"),
        ("def f(a: 'Unknown'): ...", "'Unknown' of parameter 'a' is not known"),
        ("def f(a, /): ...", "parameter 'a' cannot be given by name"),
        ("from collections.abc import Callable\ndef f(a: Callable[[], int]): ...", "no schema can be derived"),
    ],
)
def test_types_without_a_json_form_are_refused_with_the_parameter(code, said):
    space: dict[str, Any] = {"__name__": "m"}
    exec(compile(code, "m.py", "exec", dont_inherit=True), space)
    with pytest.raises(InvalidInputError, match="tool 'f'.*" + said):
        _ = tool(space["f"]).schema


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "x" * 65, "<lambda>", 7, "a\n"])
def test_names_that_providers_do_not_take_are_refused(name):
    with pytest.raises(InvalidInputError, match="1 to 64 letters"):
        Tool(name=name)
    with pytest.raises(InvalidInputError, match="1 to 64 letters"):
        tool(name=name or "!")(book)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array"}, "schema of an object"),
        ({"type": "objekt"}, "no JSON Schema, at type"),
        ("x", "expected a JSON Schema"),
        (None, "schema of an object"),
    ],
)
def test_a_schema_that_is_none_of_an_object_is_refused(schema, said):
    with pytest.raises(InvalidInputError, match=f"tool 'a': schema: .*{said}"):
        Tool(name="a", schema=schema)


def test_a_schema_may_be_a_model_and_need_not_say_that_it_is_of_an_object():
    assert Tool(name="a", schema=Address).schema["required"] == ["city"]
    assert Tool(name="a", schema={"required": ["q"]}).schema == {
        "type": "object", "properties": {}, "required": ["q"],
    }  # fmt: skip


@pytest.mark.parametrize("target", [3, "text", int, None])
def test_what_is_no_function_is_no_tool(target):
    with pytest.raises(InvalidInputError, match="tool 'x': expected a function, found"):
        tool(name="x")(target)


def test_a_sync_function_cannot_take_the_context():
    def look(ctx, query: str): ...

    with pytest.raises(InvalidInputError, match="tool 'look': it takes the run's context, so it has to be `async def`"):
        tool(look)


def test_a_tool_is_called_as_the_plain_function():
    @tool(approval=True, description="Doubles.")
    def double(n: int) -> int:
        return 2 * n

    assert (double(4), double.approval, double.description, double.name) == (8, True, "Doubles.", "double")


# ---- what is wrong with arguments


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"when": "2026-02-03", "colour": "red"}, ""),
        ({"colour": "red"}, "'when' is a required property; expected when, colour, kind (optional), to (opt"),
        ({"when": "soon", "colour": "red"}, "arguments.when: 'soon' is not a 'date'"),
        ({"when": "2026-02-03", "colour": "green"}, "arguments.colour: 'green' is not one of ['red', 'blue']"),
        ({"when": "2026-02-03", "colour": "red", "limit": 11}, "arguments.limit: 11 is greater than the maximum"),
        ({"when": "2026-02-03", "colour": "red", "limitt": 1}, "('limitt' was unexpected)"),
        ({"when": "2026-02-03", "colour": "red", "tags": ["a", 1]}, "arguments.tags[1]: 1 is not of type 'string'"),
        ({"when": "2026-02-03", "colour": "red", "to": {}}, "arguments.to"),
        (["when"], "arguments: expected an object with when, colour,"),
        ("{}", "found str"),
        (None, "found NoneType"),
        ({"when": float("nan")}, "arguments.when: nan has no JSON form"),
    ],
)
def test_a_model_is_told_what_does_not_fit_and_what_would(arguments, said):
    found = tool(book).fault(arguments)
    assert said in found
    assert bool(found) is bool(said)


def test_arguments_have_a_size_and_a_depth_that_no_schema_takes_away():
    free = Tool(name="free")
    assert free.fault({"a": "x" * (ARGUMENTS_LIMIT - 8)}) == ""
    assert "at most 262,144 are allowed" in free.fault({"a": "x" * (ARGUMENTS_LIMIT - 7)})
    deep: Any = 1
    for _ in range(DEPTH_LIMIT - 1):
        deep = [deep]
    assert free.fault({"a": deep}) == ""
    assert "more than 50 levels" in free.fault({"a": [deep]})
    for _ in range(100_000):
        deep = [deep]
    assert "more than 50 levels" in free.fault({"a": deep})
    while isinstance(deep, list):  # or its end would be one deep recursion
        deep = deep[0]


def test_a_schema_elsewhere_is_not_fetched():
    made = Tool(name="a", schema={"properties": {"x": {"$ref": "http://192.0.2.1/schema.json"}}})
    assert "refers to 'http://192.0.2.1/schema.json'" in made.fault({"x": 1})


# ---- docstrings


GOOGLE = """Find it.

    Second paragraph.

    Args:
        query: What to look for:
            a word or two.

            And more of it.
        max_results (int, optional): How many.
        **more: Others.
        nothing:

    Returns:
        found: What was found.
    """
NUMPY = """
    Find it.

    Parameters
    ----------
    query : str
        What to look for:
        a word or two.
    x, y : int, optional
        A place.
    silent

    Returns
    -------
    found : list
        What was found.
    """
SPHINX = """Find it,
    and quickly.

    :param query: What to look for:
        a word or two.
    :param int max_results: How many.
    :type max_results: int
    :returns: What was found.
    :rtype: list
    """


@pytest.mark.parametrize(
    ("text", "summary", "parameters"),
    [
        (
            GOOGLE,
            "Find it.",
            {"query": "What to look for: a word or two. And more of it.", "max_results": "How many.",
             "more": "Others."},
        ),
        (NUMPY, "Find it.", {"query": "What to look for: a word or two.", "x": "A place.", "y": "A place."}),
        (SPHINX, "Find it, and quickly.", {"query": "What to look for: a word or two.", "max_results": "How many."}),
        (None, "", {}),
        ("", "", {}),
        ("Args:\n    a: First.\n    b: Second.\n", "", {"a": "First.", "b": "Second."}),
        (":param a: First.", "", {"a": "First."}),
        ("Note: this is no section.\n\nArguments are free.", "Note: this is no section.", {}),
        ("A line\nand another\n\n\nArgs:\n  a: x\n not in: it", "A line and another", {"a": "x"}),
    ],
)  # fmt: skip
def test_docstrings_of_three_styles_are_read(text, summary, parameters):
    docs = read(text)
    assert (docs.summary, docs.parameters) == (summary, parameters)


# ---- imports


def test_defining_a_tool_loads_no_pydantic():
    code = """
import sys
from agnt5 import tool
@tool(approval=True)
def search(query: str, limit: int = 5):
    '''Search.'''
assert search.description == "Search."
heavy = {"celery", "kombu", "redis", "litellm", "pydantic", "pydantic_core", "jsonschema"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""A tool as a model sees it, and the check of what a model calls it with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from agnt5.contracts.errors import InvalidInputError, SerializationError

if TYPE_CHECKING:
    from agnt5.llm.tool_schemas import Parameters

ARGUMENTS_LIMIT = 262_144
"""Bytes of JSON that the arguments of one call may have."""

DEPTH_LIMIT = 50
"""Levels of nesting that the arguments of one call may have."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTEXTS = frozenset({"Context", "FunctionContext", "WorkflowContext", "EntityContext"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Tool:
    """Something that a model may call. `schema` is the JSON Schema of its arguments, an object.

    `handler` is what is called; the model never sees it. With `approval` people are asked before each call
    (`ctx.llm.run_tools` in workflows). Raises `InvalidInputError` for a name that providers do not take (letters,
    digits, _ and -, at most 64), and for a schema that is none, or not of an object.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    handler: Any = None
    approval: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_tool_name(self.name))
        object.__setattr__(self, "schema", _object_schema(self.schema, f"tool {self.name!r}: schema"))

    @cached_property
    def parameters(self) -> Parameters | None:
        """What its function takes, to convert arguments to its types; None where that cannot be told."""
        from agnt5.llm.tool_schemas import parameters_of  # noqa: PLC0415 - needs pydantic

        try:
            return parameters_of(self.handler, leave_out=int(takes_context(self.handler)), where=f"tool {self.name!r}")
        except (InvalidInputError, TypeError, ValueError):  # the schema was given, and says what is taken
            return None

    def spec(self) -> dict[str, Any]:
        """The tool in the form that LiteLLM takes for every provider."""
        function = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": function}

    def fault(self, arguments: Any) -> str:
        """What is wrong with a model's arguments, in words that a model can act on; empty where they fit.

        More than `ARGUMENTS_LIMIT` bytes or `DEPTH_LIMIT` levels do not fit, whatever the schema says.
        """
        from agnt5 import codec, forms  # noqa: PLC0415 - loaded on first use

        if not isinstance(arguments, dict):
            return f"arguments: expected an object with {self._expected()}, found {type(arguments).__name__}"
        if _depth(arguments) > DEPTH_LIMIT:
            return f"arguments: nested more than {DEPTH_LIMIT} levels deep; give them flatter"
        try:
            size = len(codec.dumps(arguments, what="arguments"))
        except SerializationError as error:
            return str(error)
        if size > ARGUMENTS_LIMIT:
            return f"arguments: {size:,} bytes of JSON, at most {ARGUMENTS_LIMIT:,} are allowed; give less"
        found = forms.faults(self.schema, arguments, "arguments")
        return f"{'; '.join(found)}; expected {self._expected()}" if found else ""

    def _expected(self) -> str:
        required = set(self.schema.get("required", ()))
        names = [name if name in required else f"{name} (optional)" for name in self.schema["properties"]]
        return ", ".join(names) or "no arguments"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler as it is: nothing is checked or recorded."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"


class FunctionTool(Tool):
    """A tool whose schema is derived from its function, when it is first needed.

    `leave_out` is how many first parameters are none of the model's business. Raises what `parameters_of` does.
    """

    def __init__(
        self, *, name: str, description: str, handler: Any, approval: bool, fn: Callable[..., Any], leave_out: int
    ) -> None:
        values = {"description": description, "handler": handler, "approval": approval}
        for attribute, value in {"name": check_tool_name(name), **values, "_fn": fn, "_leave_out": leave_out}.items():
            object.__setattr__(self, attribute, value)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Derived from the function's signature and docstring."""
        return self.parameters.schema

    @cached_property
    def parameters(self) -> Parameters:
        """The function's parameters."""
        from agnt5.llm.tool_schemas import parameters_of  # noqa: PLC0415 - needs pydantic

        return parameters_of(self._fn, leave_out=self._leave_out, where=f"tool {self.name!r}")

    def but(self, **values: Any) -> FunctionTool:
        """The same with other values of what a tool is."""
        return FunctionTool(**values, fn=self._fn, leave_out=self._leave_out)

    _fn: Callable[..., Any]
    _leave_out: int


@overload
def tool(fn: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, schema: dict[str, Any] | None = None,
    approval: bool = False,
) -> Callable[[Callable[..., Any]], Tool]: ...  # fmt: skip
def tool(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a tool, for `tools=[...]` of `ctx.llm.generate`, `ctx.llm.run_tools` and agents.

    `name` is the function's, `description` the first paragraph of its docstring, and `schema` derived from its
    signature, unless given; a first parameter that is called `ctx` or annotated `Context` gets the run's context.
    With `approval` people are asked before each call. Called directly it is the plain function. Raises
    `InvalidInputError` where it is written for what is no tool, and at first use for types without a JSON form.
    """
    return function_tool(fn, **options) if fn is not None else lambda target: function_tool(target, **options)


def function_tool(
    fn: Any, *, name: str | None = None, description: str | None = None, schema: dict[str, Any] | None = None,
    approval: bool = False,
) -> Tool:  # fmt: skip
    """The tool of a callable. The rules are those of `tool`."""
    own = getattr(fn, "__name__", None) or type(fn).__name__
    where = f"tool {name or own!r}"
    if not callable(fn) or isinstance(fn, type):
        if inspect.iscoroutine(fn):
            fn.close()
        raise InvalidInputError(f"{where}: expected a function, found {type(fn).__name__}: {fn!r}")
    leave_out = int(takes_context(fn))
    if leave_out and not is_async(fn):
        raise InvalidInputError(f"{where}: it takes the run's context, so it has to be `async def`")
    told = description_of(fn) if description is None else description
    if schema is not None:
        return Tool(name=name or own, description=told, schema=schema, handler=fn, approval=approval)
    return FunctionTool(name=name or own, description=told, handler=fn, approval=approval, fn=fn, leave_out=leave_out)


def takes_context(fn: Callable[..., Any]) -> bool:
    """Whether a function's first parameter is the run's context: called `ctx`, or annotated `Context`."""
    try:
        first = next(iter(inspect.signature(fn).parameters.values()), None)
    except (TypeError, ValueError):  # builtins without a signature
        return False
    if first is None or first.kind in {first.VAR_POSITIONAL, first.VAR_KEYWORD, first.KEYWORD_ONLY}:
        return False
    annotation = first.annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return first.name in {"ctx", "_ctx"} or text.rpartition(".")[2].strip() in _CONTEXTS


def description_of(fn: Callable[..., Any]) -> str:
    """The first paragraph of a function's docstring."""
    from agnt5.llm.docstrings import read  # noqa: PLC0415 - only functions without a description need it

    own = inspect.getdoc(fn) if inspect.isroutine(fn) else getattr(type(fn).__call__, "__doc__", None)
    return read(own).summary


def check_tool_name(name: Any) -> str:
    """A name that every provider takes, or `InvalidInputError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"tool name {name!r}: expected 1 to 64 letters, digits, _ or -, which is what models take; give name=..."
        )
    return name


def is_async(fn: Any) -> bool:
    """Whether calling it gives a coroutine, as far as can be told before."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def _object_schema(schema: Any, what: str) -> dict[str, Any]:
    if schema == {}:
        return {"type": "object", "properties": {}}
    from agnt5 import forms  # noqa: PLC0415 - loaded on first use

    checked, _ = forms.schema_of(schema, what)
    if checked is None or checked.get("type", "object") != "object":
        raise InvalidInputError(f"{what}: expected the schema of an object with the arguments, found {schema!r}")
    return {"type": "object", "properties": {}, **checked}


def _depth(value: Any) -> int:
    """How deep a JSON value is nested, counted no further than one past the limit."""
    depth, level = 0, [value]
    while depth <= DEPTH_LIMIT and (level := [one for one in level if isinstance(one, dict | list)]):
        depth += 1
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
    return depth

"""`ctx.tools`: what models may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from difflib import get_close_matches
from typing import Any

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.runs import Kind
from agnt5.llm.tools import FunctionTool, Tool, description_of, function_tool
from agnt5.registry import Handler
from agnt5.sdk.context import Context
from agnt5.sdk.decorators import handler_of
from agnt5.sdk.entity_calls import EntityMethod
from agnt5.sdk.tool_calls import Caller


class Tools:
    """`ctx.tools`. Made by the context. Iterates over the run's registered tools."""

    def __init__(self, ctx: Context) -> None:
        self._tools: dict[str, Tool] = {}
        self.caller = Caller(ctx)

    def register(
        self, name: str, handler: Any, description: str | None = None, schema: dict[str, Any] | None = None,
        *, approval: bool = False,
    ) -> Tool:  # fmt: skip
        """Register a tool for this run, and give it back for `tools=[...]`.

        `handler` is one of:

        - a function, sync or async: each call is a recorded step `tool:<name>`, as `ctx.step` makes them;
        - an async function whose first parameter is called `ctx` or annotated `Context`: it gets the run's context,
          and what it does with that is recorded;
        - a handler (`@function`, `@workflow`, or the address "service.handler"): each call is a child run;
        - a method of one entity, `ctx.entity("Cart", "c-1").add`;
        - another `Tool`, or an agent.

        `description` is by default the first paragraph of its docstring. `schema`, the JSON Schema of the arguments
        (or a pydantic model), is derived from the signature and the docstring when it is left out. With `approval`
        people are asked before each call by `ctx.llm.run_tools`. Raises `InvalidInputError` for a bad name, handler
        or schema, for types without a JSON form, and for a name that another handler has.
        """
        made = tool_of(handler, name=name, description=description, schema=schema, approval=approval)
        made.spec()  # a schema that cannot be derived is told here
        known = self._tools.get(name)
        if known is not None and not _same(known.handler, made.handler):
            raise InvalidInputError(
                f"ctx.tools.register({name!r}): this run has a tool of that name, with another handler "
                f"({known.handler!r}); give this one another name"
            )
        self._tools[name] = made
        return made

    def handler(self, name: str) -> Callable[..., Awaitable[Any]]:
        """The handler of a registered tool: always awaitable, called with the arguments by name.

        `await ctx.tools.handler(call.name)(**call.arguments)` checks the arguments against the tool's schema, converts
        them to the types of its function, and calls it as `register` says. Raises `InvalidInputError` for an unknown
        name, and when called for arguments that do not fit; a tool's own error comes out as that of `ctx.step` does.
        """
        tool = self[name]

        async def call(**arguments: Any) -> Any:
            return await self.caller.value(tool, arguments)

        call.__name__ = call.__qualname__ = name
        return call

    def __getitem__(self, name: str) -> Tool:
        if (found := self._tools.get(name)) is not None:
            return found
        close = get_close_matches(str(name), self._tools, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        known = ", ".join(sorted(self._tools)) or "none"
        raise InvalidInputError(f"ctx.tools: no tool {name!r} is registered in this run{hint}; there are: {known}")

    def __iter__(self) -> Iterator[Tool]:
        return iter(list(self._tools.values()))


def tool_of(
    target: Any, *, name: str | None = None, description: str | None = None, schema: dict[str, Any] | None = None,
    approval: bool = False,
) -> Tool:  # fmt: skip
    """The tool that something is, or becomes. The rules are those of `Tools.register`."""
    if not isinstance(target, Tool) and callable(made := getattr(target, "as_tool", None)):
        target = made()
    if isinstance(target, Tool):
        return _renamed(target, name, description, schema, approval=approval)
    if isinstance(target, EntityMethod):
        return _remote(target, target.target, target.__name__, name, description, schema, approval=approval)
    if isinstance(target, Handler | str) or isinstance(getattr(target, "__agnt5__", None), Handler):
        found = handler_of(target)
        if isinstance(found, Handler) and found.kind is Kind.ENTITY:
            raise InvalidInputError(
                f"{found.address} is a method of an entity, which needs a key: "
                f"give ctx.entity({found.service!r}, key).{found.name}"
            )
        own = found.name if isinstance(found, Handler) else found.partition(".")[2]
        return _remote(found, found, own, name, description, schema, approval=approval)
    return function_tool(target, name=name, description=description, schema=schema, approval=approval)


def _renamed(
    tool: Tool, name: str | None, description: str | None, schema: dict[str, Any] | None, *, approval: bool
) -> Tool:
    if (name in {None, tool.name}) and description is None and schema is None and (tool.approval or not approval):
        return tool
    values: dict[str, Any] = {
        "name": name or tool.name,
        "description": tool.description if description is None else description,
        "handler": tool.handler,
        "approval": tool.approval or approval,
    }
    if schema is None and isinstance(tool, FunctionTool):
        return tool.but(**values)
    return Tool(**values, schema=tool.schema if schema is None else schema)


def _remote(
    handler: Any, target: Handler | str, own: str, name: str | None, description: str | None,
    schema: dict[str, Any] | None, *, approval: bool,
) -> Tool:  # fmt: skip
    """The tool of what runs as a run of its own; its schema is derived where its code is known here."""
    values: dict[str, Any] = {"name": name or own, "handler": handler, "approval": approval}
    if isinstance(target, str):
        if schema is None:
            raise InvalidInputError(
                f"tool {values['name']!r}: no code of {target!r} is known to this process, so that its parameters are "
                "not either; give schema=, the JSON Schema of its arguments"
            )
        return Tool(**values, description=description or "", schema=schema)
    values["description"] = description_of(target.fn) if description is None else description
    return FunctionTool(**values, fn=target.fn, leave_out=1) if schema is None else Tool(**values, schema=schema)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, EntityMethod) and isinstance(other, EntityMethod):
        return (one.entity, one.target) == (other.entity, other.target)
    return bool(one == other)

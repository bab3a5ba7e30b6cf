"""Classes as types of entities: which of their functions are methods, and how these are called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from agnt5.contracts.errors import ConfigurationError
from agnt5.registry import Mode
from agnt5.signatures import named_context, place_of

_MARK = "__agnt5_method__"


@dataclass(frozen=True, slots=True)
class Marked:
    """What a method's decorator was told. `label` is how it was written, for errors."""

    mode: Mode
    label: str
    options: Mapping[str, Any]


def mark(fn: Callable[..., Any], marked: Marked) -> None:
    """Leave a function to the decorator of its class."""
    setattr(fn, _MARK, marked)


def in_class_body(fn: Callable[..., Any]) -> bool:
    """Whether a function is defined in the body of a class."""
    return "." in fn.__qualname__.rpartition("<locals>.")[2]


def check_async(fn: Any, label: str) -> None:
    """Raise `ConfigurationError` unless it is an `async def`, with or without `yield`."""
    if not inspect.isfunction(fn):
        raise ConfigurationError(f"{label}: expected an `async def`, found {fn!r}; options are given by name")
    if not (inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)):
        raise ConfigurationError(
            f"{place_of(fn)}: {label}: {fn.__name__} is a `def`; a method of an entity is an `async def`: "
            "it awaits its state, and a thread could outlive the entity's lock"
        )


def marked_methods(cls: type, where: str) -> dict[str, tuple[Callable[..., Any], Marked]]:
    """The functions of a class and its bases that bear a method's decorator, by attribute.

    A base's method that the class overrides without a decorator is an error, unless it is set to None.
    """
    found: dict[str, tuple[Callable[..., Any], Marked]] = {}
    for base in reversed(cls.__mro__):
        for attribute, value in vars(base).items():
            fn = value.__func__ if isinstance(value, staticmethod) else value
            marked = getattr(fn, _MARK, None) if inspect.isfunction(fn) else None
            if marked is not None:
                found[attribute] = (fn, marked)
            elif attribute in found and value is None:
                del found[attribute]
            elif attribute in found:
                raise ConfigurationError(
                    f"{where}: {base.__qualname__}.{attribute} overrides an entity's method without a decorator; "
                    f"write {found[attribute][1].label} above it, or {attribute} = None to leave the method out"
                )
    return found


def bound(cls: type, attribute: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """A method as a function of its context and input: one with `self` gets a fresh instance for each call."""
    signature = inspect.signature(fn)
    parameters = list(signature.parameters.values())
    if isinstance(inspect.getattr_static(cls, attribute), staticmethod) or not _takes_self(parameters):
        return fn
    try:
        inspect.signature(cls).bind()
    except ValueError:
        pass  # a class on a builtin one, which does not tell
    except TypeError as error:
        raise ConfigurationError(
            f"{place_of(fn)}: {cls.__qualname__}() has to work without arguments ({error}): "
            "each call gets a fresh instance, and what lasts belongs into the state"
        ) from None

    call: Any
    if inspect.isasyncgenfunction(fn):

        @functools.wraps(fn)
        async def stream(ctx: Any, /, **arguments: Any) -> AsyncGenerator[Any]:
            async with aclosing(fn(cls(), ctx, **arguments)) as chunks:
                async for chunk in chunks:
                    yield chunk

        call = stream
    else:

        @functools.wraps(fn)
        async def once(ctx: Any, /, **arguments: Any) -> Any:
            return await fn(cls(), ctx, **arguments)

        call = once
    call.__signature__ = signature.replace(parameters=parameters[1:])
    return cast("Callable[..., Any]", call)


def model_in(cls: type, state: type | None, where: str) -> type | None:
    """The state model of a class: what its decorator was given, or the class `State` in it."""
    nested: type | None = getattr(cls, "State", None)
    if state is not None and nested is not None and nested is not state:
        raise ConfigurationError(f"{where}: two state models: state={state!r} and the class State; give one of them")
    return nested if state is None else state


def _takes_self(parameters: list[inspect.Parameter]) -> bool:
    if not parameters:
        return False
    first, *rest = parameters
    return first.name == "self" or (bool(rest) and named_context(rest[0]) and not named_context(first))

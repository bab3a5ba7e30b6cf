"""Handlers and where to find them: what the decorators register and what workers, clients and contexts look up.

Inert on import. Pydantic is loaded when the first input is bound, not when a handler is defined.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agnt5.contracts.errors import ConfigurationError, HandlerNotFoundError, InvalidInputError
from agnt5.contracts.ids import check_name, split_address
from agnt5.contracts.runs import Kind
from agnt5.signatures import Parameter, Signature, Types, file_of, place_of, schema_of

if TYPE_CHECKING:
    from pydantic import BaseModel

Mode = Literal["write", "read"]
"""What an entity's method does to the state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerOptions:
    """What a handler's author chose. `retries` is a `RetryPolicy`, which this layer only passes on.

    `timeout_ms` is for each attempt, `run_timeout_ms` for the run with all its attempts and waits. The last
    five are for workflows on a schedule.
    """

    retries: Any = None
    timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    priority: int | None = None
    cron: str | None = None
    timezone: str = "UTC"
    overlap: str = "skip"
    catch_up: str = "latest"
    input: Any = None

    def describe(self) -> dict[str, Any]:
        """The options that were set, as JSON data, without `input`."""
        names = ("timeout_ms", "run_timeout_ms", "priority", "cron")
        data = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.retries is not None:
            data["retries"] = self.retries.to_data()
        if self.cron is not None:
            data |= {"timezone": self.timezone, "overlap": self.overlap, "catch_up": self.catch_up}
        return data


@dataclass(frozen=True, kw_only=True, eq=False)
class Handler:
    """A decorated function with its address. Made by `Handler.of`.

    A method of an entity has the entity's type as its service, a `mode`, and the type's `state_model` if it has one.
    """

    service: str
    name: str
    kind: Kind
    fn: Callable[..., Any]
    options: HandlerOptions
    signature: Signature
    mode: Mode | None = None
    state_model: type[BaseModel] | None = None

    @classmethod
    def of(
        cls, fn: Callable[..., Any], *, service: str, name: str, kind: Kind, options: HandlerOptions,
        mode: Mode | None = None, state_model: type[BaseModel] | None = None,
    ) -> Handler:  # fmt: skip
        """The handler of a function. Raises `ConfigurationError` for a signature that cannot be called."""
        return cls(
            service=check_name(service, "service"),
            name=check_name(name, "handler name"),
            kind=kind,
            fn=fn,
            options=options,
            signature=Signature.of(fn),
            mode=mode,
            state_model=state_model,
        )

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters after the context."""
        return self.signature.parameters

    @property
    def address(self) -> str:
        """`service.name`, which is also its Celery task name."""
        return f"{self.service}.{self.name}"

    @functools.cached_property
    def is_async(self) -> bool:
        """True for `async def`, with or without `yield`."""
        return inspect.iscoroutinefunction(self.fn) or inspect.isasyncgenfunction(self.fn)

    @functools.cached_property
    def is_stream(self) -> bool:
        """True when it yields: the run's result is then the list of chunks."""
        return inspect.isgeneratorfunction(self.fn) or inspect.isasyncgenfunction(self.fn)

    @functools.cached_property
    def types(self) -> Types:
        """Its annotations, resolved on first use."""
        return Types(self.fn, self.address, self.is_stream)

    @property
    def place(self) -> str:
        """Where it is defined: `workers/orders.py:12 (fulfil)`."""
        return place_of(self.fn)

    def bind(self, value: Any) -> dict[str, Any]:
        """The keyword arguments (without ctx) that an input means, checked and converted by annotation.

        A dict whose keys are parameters is spread over them; otherwise a handler with one parameter gets the
        input whole; None is no input where nothing is required. Raises `InvalidInputError` that names the
        handler, the parameter, what was found and what is expected.
        """
        return self.types.enforce(self.bind_names(value))

    def bind_names(self, value: Any) -> dict[str, Any]:
        """As `bind`, but without a look at the annotations."""
        if isinstance(value, dict) and self.signature.fault(value) is None:
            return value
        if value is None and not any(p.required for p in self.parameters):
            return {}
        if len(self.parameters) == 1:
            return {self.parameters[0].name: value}
        if isinstance(value, dict):
            raise InvalidInputError(f"{self.address}: {self.signature.fault(value)}")
        raise InvalidInputError(
            f"{self.address}: expected an object with {self.signature}, found {type(value).__name__}"
        )

    def bind_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, check: bool = True) -> dict[str, Any]:
        """The input that calling the handler as `handler(ctx, *args, **kwargs)` means; values stay as given.

        Raises `InvalidInputError` as Python raises TypeError, and with `check` also for values that do not fit
        the annotations.
        """
        if len(args) > len(self.parameters):
            raise InvalidInputError(
                f"{self.address}: {len(args)} positional arguments were given, "
                f"it takes {len(self.parameters)} ({self.signature})"
            )
        given = dict(zip((p.name for p in self.parameters), args, strict=False))
        if twice := given.keys() & kwargs.keys():
            raise InvalidInputError(f"{self.address}: parameter {min(twice)!r} was given twice")
        given |= kwargs
        if fault := self.signature.fault(given):
            raise InvalidInputError(f"{self.address}: {fault}")
        if check:
            self.types.enforce(given)
        return given

    def coerce_result(self, value: Any) -> Any:
        """A result as JSON gave it, in the form of the return annotation; unchanged where there is none.

        Raises `InvalidInputError` when the value does not fit the annotation.
        """
        return self.types.result(value)

    def describe(self) -> dict[str, Any]:
        """JSON data about the handler, which workers announce and pages show; `mode` and `state` of entities only."""
        data: dict[str, Any] = {
            "service": self.service,
            "name": self.name,
            "kind": self.kind.value,
            "stream": self.is_stream,
            "doc": (inspect.getdoc(self.fn) or "").partition("\n")[0],
            "parameters": [
                {"name": p.name, "required": p.required, "schema": self.types.schema(p.name)} for p in self.parameters
            ],
            "result": self.types.schema("return"),
            "options": self.options.describe(),
        }
        if self.kind is Kind.ENTITY:
            data |= {"mode": self.mode, "state": {} if self.state_model is None else schema_of(self.state_model)}
        return data


class Registry:
    """Handlers by address. Filled by the decorators when modules are imported."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._loads: dict[str, object] = {}

    def add(self, handler: Handler) -> Handler:
        """Register a handler. The same function defined again (reload) replaces its older self.

        Raises `ConfigurationError` with both places when another function has the address.
        """
        known, load = self._handlers.get(handler.address), _load_of(handler.fn)
        again = load is not None and self._loads.get(handler.address) is load
        if known is not None and not _same_function(known.fn, handler.fn, again=again):
            other = "name=" if handler.kind is Kind.ENTITY else "name= or service="
            raise ConfigurationError(
                f"handler {handler.address!r} is defined twice: {known.place} and {handler.place}; "
                f"give one of them another {other}"
            )
        self._handlers[handler.address] = handler
        self._loads[handler.address] = load
        return handler

    def find(self, address: str) -> Handler | None:
        """The handler of an address, or None when this process does not have it."""
        return self._handlers.get(address)

    def get(self, address: str) -> Handler:
        """The handler of an address; raises `HandlerNotFoundError` that says what there is."""
        handler = self._handlers.get(address)
        if handler is None:
            service, _ = split_address(address)
            near = sorted(a for a in self._handlers if a.startswith(f"{service}."))
            there = (
                f"service {service!r} has {', '.join(near)}"
                if near
                else f"no module of service {service!r} is imported"
            )
            raise HandlerNotFoundError(f"handler {address!r} is not known to this process: {there}")
        return handler

    @property
    def services(self) -> list[str]:
        """All services that have a handler, sorted."""
        return sorted({handler.service for handler in self})

    def __iter__(self) -> Iterator[Handler]:
        return iter(list(self._handlers.values()))

    def __len__(self) -> int:
        return len(self._handlers)

    def __contains__(self, address: object) -> bool:
        return address in self._handlers


_current = Registry()


def default_registry() -> Registry:
    """The registry that the decorators fill."""
    return _current


@contextmanager
def isolated() -> Iterator[Registry]:
    """An empty default registry for the time of a test."""
    global _current  # noqa: PLW0603 - the decorators have no other way to be told
    outer, _current = _current, Registry()
    try:
        yield _current
    finally:
        _current = outer


def _load_of(fn: Callable[..., Any]) -> object | None:
    """What stands for one loading of a function's module (a reload is another); None where that cannot be told."""
    if fn.__module__ == "__main__" or "<locals>" in fn.__qualname__:
        return None
    return getattr(sys.modules.get(fn.__module__), "__spec__", None)


def _same_function(one: Callable[..., Any], other: Callable[..., Any], *, again: bool) -> bool:
    """The same definition, maybe loaded again: by reload, or once as `__main__` and once by its name.

    `again` is whether both come from one loading of their module: then they are two definitions of one name.
    """
    if again:
        return inspect.unwrap(one) is inspect.unwrap(other)
    if one.__qualname__ != other.__qualname__:
        return False
    if one.__module__ == other.__module__:
        return True
    return file_of(one) == file_of(other)

"""Orchestration APIs: `ctx.task`, `ctx.spawn`, `ctx.step`, `ctx.parallel`, `ctx.gather`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import CodeType, FunctionType
from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import check_open
from agnt5.contracts.runs import Kind
from agnt5.registry import Handler
from agnt5.retry import RetryPolicy
from agnt5.sdk.decorators import check_priority, duration_ms, handler_of, retry_policy
from agnt5.sdk.port import CommandPort
from agnt5.signatures import Types
from agnt5.telemetry.current import STEP


@dataclass(frozen=True, slots=True)
class Call:
    """A child to start: which handler, with what input."""

    handler: str
    input: Any
    callee: Handler | None

    def data(self) -> Any:
        """The input as it is now, in its JSON form: what the caller changes in it later does not reach the child.

        Raises `SerializationError` that says which part has no JSON form.
        """
        return codec.loads(codec.dumps(self.input, what=f"input of {self.handler}"))

    @property
    def coerce(self) -> Callable[[Any], Any] | None:
        """How its result is brought into the form of its return annotation, where that is known here."""
        return None if self.callee is None else self.callee.coerce_result


def call_by_name(
    service_name: str,
    handler_name: Any,
    input: Any,  # noqa: A002 - the spec's name
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Call:
    """A call of `service_name`, `handler_name`; or of "service.handler" in one. `...` is what was not given."""
    if args or kwargs:
        extra = repr(next(iter(kwargs))) if kwargs else f"{len(args)} more positional arguments"
        raise InvalidInputError(
            f"ctx.task({service_name!r}, ...): found {extra}, expected (service_name, handler_name, input); "
            "the handler's arguments are given as input={...}"
        )
    address = service_name if handler_name is ... else f"{service_name}.{handler_name}"
    target = _child(address)
    return Call(address, None if input is ... else input, target if isinstance(target, Handler) else None)


def call_with_input(fn: Any, input: Any, kwargs: Mapping[str, Any]) -> Call:  # noqa: A002
    """A call of a decorated handler with `input=`: one of its parameters if it is called so, else the input."""
    target = _child(fn)
    assert isinstance(target, Handler)
    if kwargs or any(p.name == "input" for p in target.parameters):
        return call_of(target, (), {"input": input, **kwargs}, check=False)
    return Call(target.address, input, target)


def call_of(
    fn: Callable[..., Any] | Handler | str, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, check: bool
) -> Call:
    """A call of a handler as `fn(ctx, *args, **kwargs)`."""
    return call_bound(_child(fn), args, kwargs, check=check)


def call_bound(target: Handler | str, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, check: bool) -> Call:
    """A call with these arguments; of an address only, which is not known here, with names or one whole input."""
    if isinstance(target, Handler):
        return Call(target.address, target.bind_call(args, kwargs, check=check), target)
    if args and (kwargs or len(args) > 1):
        raise InvalidInputError(
            f"{target}: its parameters are not known in this process, so give them by name, "
            f"or one input; found {len(args)} positional arguments"
        )
    return Call(target, args[0] if args else dict(kwargs), None)


def _child(target: Any) -> Handler | str:
    """What may be a child: a method of an entity needs an entity."""
    found = handler_of(target)
    if isinstance(found, Handler) and found.kind is Kind.ENTITY:
        raise InvalidInputError(
            f"{found.address} is a method of an entity, which needs a key: "
            f"ctx.entity({found.service!r}, key).{found.name}(...)"
        )
    return found


def call_options(
    *,
    timeout: timedelta | float | None,
    retries: RetryPolicy | int | None,
    priority: int | None,
) -> dict[str, Any]:
    """What one call asks beyond its handler's own options, as JSON data for the child's record."""
    policy = retry_policy(retries)
    asked = {
        "timeout_ms": duration_ms(timeout, "ctx.task: timeout"),
        "retries": None if policy is None else policy.to_data(),
        "priority": check_priority(priority),
    }
    return {name: value for name, value in asked.items() if value is not None}


def continuation(handler: Handler, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The input of the next generation: arguments of the workflow, or one input for all of them."""
    if not kwargs and len(args) == 1 and isinstance(args[0], dict) and args[0]:
        whole: dict[str, Any] = args[0]
        if handler.signature.fault(whole) is None:
            handler.bind(whole)
            return whole
    return handler.bind_call(args, kwargs)


# ---- steps


class StepResult(Awaitable[Any]):
    """A step that was started; awaiting it gives its value in the form of its function's return annotation."""

    def __init__(self, future: asyncio.Future[Any], coerce: Callable[[Any], Any] | None) -> None:
        self._future = future
        self._coerce = coerce

    def __await__(self) -> Any:
        value = yield from self._future.__await__()
        return value if self._coerce is None else self._coerce(value)


def start_step(
    port: CommandPort, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any],
    *, key: str = "",
) -> StepResult:  # fmt: skip
    """Start `fn(*args, **kwargs)` as the step `name`. The rules are those of `Context.step`.

    `key` tells steps of one name apart where their order may change between attempts (functions).
    """
    checked: Any = name
    if not isinstance(checked, str) or not checked:
        raise InvalidInputError(f"ctx.step: expected a name, for example ctx.step('fetch', fn), found {name!r}")
    check_open(name, "the name of a step")
    _check_callable(name, fn)
    return StepResult(port.step(name, _named(name, fn, args, kwargs), key), _step_types(fn))


def _check_callable(name: str, fn: Any) -> None:
    if callable(fn):
        return
    if inspect.iscoroutine(fn):
        fn.close()
    raise InvalidInputError(
        f"ctx.step({name!r}): expected a function, found {type(fn).__name__}; give the function itself, "
        f"ctx.step({name!r}, fetch, url), or a lambda, since a recorded step is not called again"
    )


def _named(name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], Any]:
    """`fn` without arguments, which sees `ctx.step_id == name`. Async functions stay recognisable as such."""

    async def run_async() -> Any:
        token = STEP.set(name)
        try:
            return await fn(*args, **kwargs)
        finally:
            STEP.reset(token)

    async def finish(awaitable: Awaitable[Any]) -> Any:
        token = STEP.set(name)
        try:
            return await awaitable
        finally:
            STEP.reset(token)

    def run() -> Any:
        token = STEP.set(name)
        try:
            value = fn(*args, **kwargs)
        finally:
            STEP.reset(token)
        return finish(value) if inspect.isawaitable(value) else value

    return run_async if inspect.iscoroutinefunction(fn) else run


_types: dict[CodeType, Types] = {}
"""Of functions without a closure only: those of others may mean another annotation each time."""


def _step_types(fn: Callable[..., Any]) -> Callable[[Any], Any] | None:
    plain = inspect.unwrap(getattr(fn, "__func__", fn))
    if not inspect.isfunction(plain) or "return" not in plain.__annotations__:
        return None
    if plain.__closure__:
        return _types_of(plain).result
    if plain.__code__ not in _types:
        _types[plain.__code__] = _types_of(plain)
    return _types[plain.__code__].result


def _types_of(plain: FunctionType) -> Types:
    return Types(plain, f"step function {plain.__qualname__}")


# ---- waiting for several


async def parallel(awaitables: tuple[Awaitable[Any], ...], *, return_exceptions: bool) -> list[Any]:
    """Wait for all, then raise the first error in order. The rules are those of `Context.parallel`."""
    for place, one in enumerate(awaitables):
        if not inspect.isawaitable(one):
            raise InvalidInputError(
                f"ctx.parallel: expected awaitables such as ctx.task(...), found {type(one).__name__} "
                f"at position {place}; a list is given as ctx.parallel(*tasks)"
            )
    results = await asyncio.gather(*awaitables, return_exceptions=True) if awaitables else []
    if not return_exceptions:
        for result in results:
            if isinstance(result, BaseException):
                raise result
    return list(results)

"""`@function` and `@workflow`: they check, register, and give back the function itself."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from agnt5.contracts.clock import to_ms
from agnt5.contracts.errors import ConfigurationError, InvalidInputError
from agnt5.contracts.ids import split_address
from agnt5.contracts.runs import Kind
from agnt5.registry import Handler, HandlerOptions, Mode, default_registry
from agnt5.retry import BackoffPolicy, RetryPolicy
from agnt5.sdk.cron import check_cron, zone
from agnt5.signatures import place_of

if TYPE_CHECKING:
    from pydantic import BaseModel

F = TypeVar("F", bound=Callable[..., Any])

Overlap = Literal["skip", "allow", "cancel_previous"]
CatchUp = Literal["latest", "all", "none"]

MAX_PRIORITY = 9
_MARK = "__agnt5__"
_CHOICES = {"overlap": ("skip", "allow", "cancel_previous"), "catch_up": ("latest", "all", "none")}


@overload
def function(fn: F, /) -> F: ...
@overload
def function(
    *,
    service: str | None = None,
    name: str | None = None,
    retries: RetryPolicy | int | None = None,
    backoff: BackoffPolicy | None = None,
    timeout: timedelta | float | None = None,
    run_timeout: timedelta | float | None = None,
    priority: int | None = None,
) -> Callable[[F], F]: ...
def function(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a handler: `def`, `async def`, or either with `yield`, which streams.

    `service` is the last part of the module's name and `name` the function's, unless given. `retries` is a
    `RetryPolicy` or a number of attempts, `backoff` its growth; `timeout` bounds each attempt and
    `run_timeout` the whole run, as a timedelta or in seconds; `priority` is 0 to 9, 0 first, as Celery
    has it on Redis. Called directly it is the plain function.

    A run of it that crashes is tried again from the start; what it did in `ctx.step`, `ctx.spawn` and
    `ctx.llm` is not done again. Raises `ConfigurationError` where it is written when something is wrong.
    """
    return _decorate(fn, Kind.FUNCTION, options)


@overload
def workflow(fn: F, /) -> F: ...
@overload
def workflow(
    *,
    service: str | None = None,
    name: str | None = None,
    retries: RetryPolicy | int | None = None,
    backoff: BackoffPolicy | None = None,
    timeout: timedelta | float | None = None,
    run_timeout: timedelta | float | None = None,
    priority: int | None = None,
    cron: str | None = None,
    timezone: str = "UTC",
    overlap: Overlap = "skip",
    catch_up: CatchUp = "latest",
    input: Any = None,
) -> Callable[[F], F]: ...
def workflow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make an `async def` a workflow: code that survives crashes and waits for days without holding a worker.

    The first options are those of `@function`. With `cron` (in `timezone`) beat starts a run with `input` at
    each time; `overlap` says what happens while the previous run is open ("skip", "allow" or
    "cancel_previous"), `catch_up` which missed times are made up for after an outage ("latest", "all", "none").

    After a crash its code runs again from the start, with the journal's answers, and goes on where it was.
    So it has to be deterministic: take time, randomness and I/O from ctx. Raises `ConfigurationError` where it
    is written when something is wrong.
    """
    return _decorate(fn, Kind.WORKFLOW, options)


def handler_of(target: Any) -> Handler | str:
    """The handler of a decorated function or of an address; an address that this process does not know is returned.

    Raises `InvalidInputError` for anything else.
    """
    if isinstance(target, Handler):
        return target
    if isinstance(target, str):
        split_address(target)
        return default_registry().find(target) or target
    found = getattr(target, _MARK, None)
    if isinstance(found, Handler):
        return found
    called = getattr(target, "__qualname__", None) or repr(target)
    raise InvalidInputError(
        f"{called} is not a handler: decorate it with @function, @workflow or @entity.write, or give 'service.handler'"
    )


def retry_policy(retries: RetryPolicy | int | None, backoff: BackoffPolicy | None = None) -> RetryPolicy | None:
    """A policy from what users write: a number is that many attempts, `backoff` its growth."""
    value: Any = retries
    if value is None:
        return None if backoff is None else RetryPolicy(backoff=backoff)
    if isinstance(value, RetryPolicy):
        return value.with_backoff(backoff)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"retries: expected a RetryPolicy or a number of attempts, found {value!r}")
    return RetryPolicy(max_attempts=value).with_backoff(backoff)


def check_priority(priority: Any) -> int | None:
    """A priority from 0 to 9, or None."""
    if priority is None:
        return None
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
        raise InvalidInputError(f"priority: expected a number from 0 to {MAX_PRIORITY}, found {priority!r}")
    return priority


def duration_ms(value: timedelta | float | None, what: str) -> int | None:
    """A timeout in milliseconds; zero is refused, since nothing ends in no time."""
    ms = to_ms(value, what)
    if ms == 0:
        raise InvalidInputError(f"{what}: expected a duration above 0, found {value!r}; None means no bound")
    return ms


def refuse_unknown(label: str, kind: Kind, options: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for an option that handlers of this kind do not have."""
    known = _OPTIONS[kind]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"{label}: option {name!r} is not known; there are {', '.join(known)}")


def build_handler(
    fn: Callable[..., Any], kind: Kind, given: Mapping[str, Any], *, service: str | None = None,
    mode: Mode | None = None, state_model: type[BaseModel] | None = None,
) -> Handler:  # fmt: skip
    """The handler of a function with the options that were given; `service` is by default that of its module.

    Raises `ConfigurationError` that begins with the function's place.
    """
    where, name = place_of(fn), given.get("name")
    try:
        handler = Handler.of(
            fn,
            service=default_service(fn) if service is None else service,
            name=fn.__name__ if name is None else name,
            kind=kind,
            options=_options(given),
            mode=mode,
            state_model=state_model,
        )
        if handler.options.cron is not None:
            _check_schedule(handler)
    except ConfigurationError as error:
        raise (error if str(error).startswith(where) else ConfigurationError(f"{where}: {error}")) from None
    except (InvalidInputError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return handler


def default_service(fn: Callable[..., Any]) -> str:
    """The last part of the module's name, as Celery names tasks; for a script the name of its file."""
    module = fn.__module__
    if module == "__main__":
        module = _script_name()
    service = module.rpartition(".")[2]
    if not re.match(r"^[A-Za-z_][A-Za-z0-9_-]*$", service):
        raise ConfigurationError(
            f"the module name {service!r} is no service name (letters, digits, _ and -); give service=..."
        )
    return service


def _decorate(fn: Callable[..., Any] | None, kind: Kind, options: dict[str, Any]) -> Any:
    refuse_unknown(f"@{kind.value}", kind, options)

    def decorate(target: Callable[..., Any]) -> Callable[..., Any]:
        _check_function(target, kind)
        handler = build_handler(target, kind, options, service=options.get("service"))
        default_registry().add(handler)
        target.__agnt5__ = handler  # type: ignore[attr-defined]
        return target

    return decorate if fn is None else decorate(fn)


def _check_function(fn: Any, kind: Kind) -> None:
    if not inspect.isfunction(fn):
        raise ConfigurationError(
            f"@{kind.value}: expected a function, found {fn!r}; options are given by name: @{kind.value}(name=...)"
        )
    if kind is Kind.WORKFLOW and not inspect.iscoroutinefunction(fn):
        remedy = (
            "write `async def`, or make it a @function"
            if not inspect.isasyncgenfunction(fn)
            else "streaming is for functions, make it a @function"
        )
        raise ConfigurationError(f"{place_of(fn)}: a workflow is an `async def` without `yield`; {remedy}")


def _options(given: Mapping[str, Any]) -> HandlerOptions:
    for option, choices in _CHOICES.items():
        if (value := given.get(option, choices[0])) not in choices:
            raise ConfigurationError(f"{option}: expected one of {', '.join(choices)}, found {value!r}")
    cron, timezone = given.get("cron"), given.get("timezone", "UTC")
    zone(timezone)
    return HandlerOptions(
        retries=retry_policy(given.get("retries"), given.get("backoff")),
        timeout_ms=duration_ms(given.get("timeout"), "timeout"),
        run_timeout_ms=duration_ms(given.get("run_timeout"), "run_timeout"),
        priority=check_priority(given.get("priority")),
        cron=None if cron is None else check_cron(cron),
        timezone=timezone,
        overlap=given.get("overlap", "skip"),
        catch_up=given.get("catch_up", "latest"),
        input=given.get("input"),
    )


def _check_schedule(handler: Handler) -> None:
    """Names only: annotations may stand for what the module defines further down."""
    given = handler.options.input
    if given is None:
        if missing := handler.signature.fault({}):
            raise ConfigurationError(f"input of the cron schedule: {missing}")
        return
    try:
        handler.bind_names(given)
    except InvalidInputError as error:
        raise ConfigurationError(f"input of the cron schedule: {error}") from None


def _script_name() -> str:
    """What `__main__` is called: the module of `python -m`, or the file without `.py`."""
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):
        return str(spec.name).removesuffix(".__main__")
    return PurePath(getattr(main, "__file__", None) or "main").stem


_SHARED = ("service", "name", "retries", "backoff", "timeout", "run_timeout", "priority")
_OPTIONS = {
    Kind.FUNCTION: _SHARED,
    Kind.WORKFLOW: (*_SHARED, "cron", "timezone", "overlap", "catch_up", "input"),
    Kind.ENTITY: _SHARED[1:],
}

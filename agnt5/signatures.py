"""What a function's signature says: its parameters, and its annotations as checks that pydantic makes."""

from __future__ import annotations

import collections.abc
import inspect
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import CodeType
from typing import TYPE_CHECKING, Any

from agnt5.contracts.errors import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter, ValidationError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMELESS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
_CONTEXT_NAMES = frozenset({"ctx", "_ctx", "context", "_context", "_"})
_STREAMS = frozenset(
    {
        collections.abc.AsyncIterator,
        collections.abc.AsyncIterable,
        collections.abc.AsyncGenerator,
        collections.abc.Iterator,
        collections.abc.Iterable,
        collections.abc.Generator,
    }
)
_SHOWN_FAULTS = 3


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a handler."""

    name: str
    required: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """What a handler can be called with: the name of its context, its parameters, and whether it takes more.

    `str(signature)` lists the parameters for errors.
    """

    context: str
    parameters: tuple[Parameter, ...]
    open_ended: bool

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> Signature:
        """The signature of a handler. Raises `ConfigurationError` for what cannot be called by name."""
        found = list(inspect.signature(fn).parameters.values())
        if not found or found[0].kind not in _POSITIONAL or not _is_context(found[0]):
            names = [p.name for p in found]
            raise ConfigurationError(
                f"{place_of(fn)}: the first parameter of a handler is its context: "
                f"expected ({', '.join(['ctx', *names])}), found ({', '.join(names)})"
            )
        for p in found[1:]:
            if p.kind in _NAMELESS:
                raise ConfigurationError(
                    f"{place_of(fn)}: parameter {p.name!r} cannot be given by name; "
                    "an input is an object with names, so declare named parameters or one list"
                )
        named = [p for p in found[1:] if p.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters = tuple(Parameter(p.name, p.default is inspect.Parameter.empty) for p in named)
        return cls(found[0].name, parameters, len(named) < len(found) - 1)

    def fault(self, given: Mapping[Any, Any]) -> str | None:
        """Why these names do not fit the parameters; None when they do."""
        known = {p.name for p in self.parameters}
        for key in given:
            if key not in known and (key == self.context or not self.open_ended or not isinstance(key, str)):
                close = get_close_matches(str(key), known, n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                return f"unknown parameter {key!r}{hint}; expected {self}"
        missing = [p.name for p in self.parameters if p.required and p.name not in given]
        if missing:
            return f"parameter {missing[0]!r} is missing; found {', '.join(map(repr, given)) or 'nothing'}"
        return None

    def __str__(self) -> str:
        return ", ".join(p.name if p.required else f"{p.name} (optional)" for p in self.parameters) or "no input"


def file_of(fn: Callable[..., Any]) -> str:
    """The source file of a function, below its decorators."""
    code: CodeType = inspect.unwrap(fn).__code__
    return code.co_filename


def place_of(fn: Callable[..., Any]) -> str:
    """Where a function is defined: `workers/orders.py:12 (fulfil)`, relative if below the current directory."""
    path = file_of(fn)
    if path.startswith(os.getcwd() + os.sep):  # noqa: PTH109 - only errors need it
        path = os.path.relpath(path)
    return f"{path}:{inspect.unwrap(fn).__code__.co_firstlineno} ({fn.__qualname__})"


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model; `{}` where it has none."""
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError  # noqa: PLC0415 - loaded on first use

    try:
        return model.model_json_schema()
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        return {}


def named_context(p: inspect.Parameter) -> bool:
    """Whether a parameter is called, or annotated, as a context."""
    text = p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", "")
    return p.name in _CONTEXT_NAMES or "Context" in text


def _is_context(p: inspect.Parameter) -> bool:
    if p.name in _CONTEXT_NAMES or p.annotation is inspect.Parameter.empty:
        return True
    text = p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", str(p.annotation))
    return "Context" in text or text == "Any"


class Types:
    """The annotations of one function, resolved and compiled when they are first needed."""

    def __init__(self, fn: Callable[..., Any], where: str, is_stream: bool = False) -> None:
        self._fn = inspect.unwrap(fn)
        self._where = where
        self._is_stream = is_stream
        self._adapters: dict[str, TypeAdapter[Any] | None] = {}

    def enforce(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, each converted to the form of its annotation."""
        return {name: value if name == "return" else self._convert(name, value) for name, value in arguments.items()}

    def result(self, value: Any) -> Any:
        """A result in the form of the return annotation."""
        return self._convert("return", value)

    def schema(self, name: str) -> dict[str, Any]:
        """The JSON schema of a parameter or of `return`; `{}` when anything goes."""
        from pydantic.errors import PydanticInvalidForJsonSchema  # noqa: PLC0415 - loaded on first use

        adapter = self._adapter(name)
        try:
            return adapter.json_schema() if adapter is not None else {}
        except PydanticInvalidForJsonSchema:
            return {}

    def annotation(self, name: str) -> Any:
        """The annotation of a parameter, resolved; `Any` where there is none."""
        annotations = inspect.get_annotations(self._fn)
        return self._resolve(annotations[name]) if name in annotations else Any

    def _convert(self, name: str, value: Any) -> Any:
        adapter = self._adapter(name)
        if adapter is None:
            return value
        from pydantic import ValidationError  # noqa: PLC0415 - loaded on first use

        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise InvalidInputError(f"{self._where}: {faults(name, error, _called(name))}") from None

    def _adapter(self, name: str) -> TypeAdapter[Any] | None:
        if name not in self._adapters:
            self._adapters[name] = self._compile(name)
        return self._adapters[name]

    def _compile(self, name: str) -> TypeAdapter[Any] | None:
        annotations = inspect.get_annotations(self._fn)
        if name not in annotations:
            return None
        try:
            annotation = self._resolve(annotations[name])
        except NameError as error:
            if name == "return":
                return None
            raise ConfigurationError(
                f"{self._where}: the annotation {annotations[name]!r} of parameter {name!r} is not known when the "
                f"program runs ({error}); import or define it at module level, outside `if TYPE_CHECKING`"
            ) from None
        if name == "return" and self._is_stream:
            annotation = _chunks(annotation)
        return None if annotation in {Any, object} else self._adapt(name, annotation)

    def _resolve(self, annotation: Any) -> Any:
        def holder() -> None: ...

        holder.__annotations__ = {"it": annotation}
        enclosing = inspect.getclosurevars(self._fn).nonlocals
        return typing.get_type_hints(holder, self._fn.__globals__, enclosing, include_extras=True)["it"]

    def _adapt(self, name: str, annotation: Any) -> TypeAdapter[Any]:
        from pydantic import TypeAdapter  # noqa: PLC0415 - loaded on first use
        from pydantic.errors import PydanticSchemaGenerationError  # noqa: PLC0415

        try:
            return TypeAdapter(annotation)
        except PydanticSchemaGenerationError:
            raise ConfigurationError(
                f"{self._where}: {_called(name)} has the type {annotation!r}, which has no JSON form; use plain data, "
                "a pydantic model or a dataclass, or leave the annotation out"
            ) from None


def _chunks(annotation: Any) -> Any:
    """A stream's result: the list of what it yields."""
    if typing.get_origin(annotation) not in _STREAMS:
        return Any
    chunk = typing.get_args(annotation)[0]
    return list[chunk]  # type: ignore[valid-type]


def _called(name: str) -> str:
    return "the result" if name == "return" else f"parameter {name!r}"


def faults(name: str, error: ValidationError, called: str) -> str:
    """Pydantic's findings in one sentence each, with the place and what was found there.

    `called` is what the faulty thing is called in a sentence, `name` how places in it begin.
    """
    found = error.errors(include_url=False, include_context=False)
    lines = []
    for fault in found[:_SHOWN_FAULTS]:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        at = f" at {name}{place}" if place and name != "return" else f" at result{place}" if place else ""
        message = fault["msg"][:1].lower() + fault["msg"][1:]
        lines.append(f"{called}{at}: {message}, found {_short(fault['input'])}")
    more = f"; and {len(found) - _SHOWN_FAULTS} more" if len(found) > _SHOWN_FAULTS else ""
    return "; ".join(lines) + more


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"  # noqa: PLR2004

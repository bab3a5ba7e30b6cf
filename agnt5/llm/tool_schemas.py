"""What a function takes from a model: the JSON Schema of its parameters, and their conversion to its types.

Loaded when the first schema is derived: it needs pydantic.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from agnt5 import codec
from agnt5.contracts.errors import ConfigurationError, InvalidInputError
from agnt5.llm.docstrings import Docs, read
from agnt5.signatures import Types, faults


class _Quiet(GenerateJsonSchema):
    """A default without a JSON form is not told to the model, and nobody is warned of it."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as pydantic declares it


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one function. `schema` is an object's, closed unless the function takes any keyword."""

    where: str
    schema: dict[str, Any]
    model: type[BaseModel]

    def convert(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """JSON arguments in the function's types; what was not given is left out, so that its defaults count.

        Raises `InvalidInputError` that says which argument does not fit.
        """
        data = codec.dumps(dict(arguments), what=f"arguments of {self.where}")
        try:
            found = self.model.model_validate_json(data)
        except ValidationError as error:
            raise InvalidInputError(f"{self.where}: {faults('arguments', error, 'argument')}") from None
        named = {field.alias or name: name for name, field in self.model.model_fields.items()}
        given = {alias: getattr(found, name) for alias, name in named.items() if name in found.model_fields_set}
        return given | (found.__pydantic_extra__ or {})


def parameters_of(fn: Callable[..., Any], *, leave_out: int, where: str) -> Parameters:
    """The parameters of `fn` after the first `leave_out`.

    Raises `InvalidInputError` for types without a JSON form, and for parameters that cannot be given by name.
    """
    plain = function_of(fn)
    types = Types(plain, where)
    found = list(inspect.signature(fn).parameters.values())[leave_out:]
    named = [p for p in found if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
    if nameless := [p.name for p in named if p.kind is p.POSITIONAL_ONLY]:
        raise InvalidInputError(f"{where}: parameter {nameless[0]!r} cannot be given by name; take out the `/`")
    try:
        for p in named:
            types.schema(p.name)  # says which parameter has a type without a JSON form
        fields: dict[str, Any] = {f"p{at}": _field(p, types.annotation(p.name)) for at, p in enumerate(named)}
        extra = any(p.kind is p.VAR_KEYWORD for p in found)
        model = create_model("Arguments", __config__=ConfigDict(extra="allow" if extra else "forbid"), **fields)
        schema = model.model_json_schema(schema_generator=_Quiet)
    except (ConfigurationError, PydanticInvalidForJsonSchema, PydanticUserError) as error:
        text = str(error).removeprefix(f"{where}: ").partition("\n")[0]
        raise InvalidInputError(f"{where}: no schema can be derived: {text}") from None
    return Parameters(where, _told(schema, docs_of(fn)), model)


def docs_of(fn: Callable[..., Any]) -> Docs:
    """What a function's docstring says; that of a partial or of an object with `__call__` counts too."""
    plain = function_of(fn)
    own = None if inspect.isroutine(fn) or isinstance(fn, functools.partial) else type(fn).__doc__
    return read(plain.__doc__ or own)


def function_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function that holds the annotations of a callable."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.isfunction(fn) or inspect.ismethod(fn):
        return fn
    called = type(fn).__call__
    return called if inspect.isfunction(called) and not isinstance(fn, type) else fn


def _field(p: inspect.Parameter, annotation: Any) -> tuple[Any, Any]:
    if p.default is p.empty:
        return annotation, Field(alias=p.name)
    return annotation, Field(default=p.default, alias=p.name)


def _told(schema: dict[str, Any], docs: Docs) -> dict[str, Any]:
    """The schema as a model reads it: no titles that only repeat the names, and what the docstring says."""
    schema.pop("title", None)
    properties = schema.setdefault("properties", {})
    for name, told in properties.items():
        told.pop("title", None)
        if name in docs.parameters:
            told.setdefault("description", docs.parameters[name])
    return schema

"""JSON Schema as fields of a form, and a sent form as JSON data. Pure; the schema itself is checked when deciding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agnt5.contracts.errors import InvalidInputError

Sort = Literal["line", "text", "number", "boolean", "choice", "json"]

PREFIX = "form."
WHOLE = "form"
"""The one field of a schema that is no object of known properties."""

_LINES = {"date": "date", "email": "email"}
_TEXT = 120
"""A string that may be longer than this gets several lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input. `input` is the type of an `<input>`; `limits` are attributes of it."""

    id: str
    name: str
    label: str
    sort: Sort
    input: str = "text"
    help: str = ""
    required: bool = False
    value: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[str, str], ...] = ()


def fields_of(schema: Mapping[str, Any] | None, *, id: str, given: Mapping[str, str] | None = None) -> list[Field]:  # noqa: A002
    """The fields of a schema. `id` begins their ids; `given` are texts that were sent before and were refused."""
    if schema is None:
        return []
    if not _is_known(schema):
        return [Field(id=id, name=WHOLE, label="Data (JSON)", sort="json", value=(given or {}).get(WHOLE, ""))]
    required = schema.get("required", ())
    return [
        _field(name, part if isinstance(part, Mapping) else {}, name in required, f"{id}-{at}", given)
        for at, (name, part) in enumerate(schema["properties"].items())
    ]


def _is_known(schema: Mapping[str, Any]) -> bool:
    return isinstance(schema.get("properties"), Mapping) and schema.get("type", "object") == "object"


def _field(name: str, part: Mapping[str, Any], required: bool, id: str, given: Mapping[str, str] | None) -> Field:  # noqa: A002
    sort, kind = _sort(part)
    default = part.get("default")
    shown = "" if default is None else default if isinstance(default, str) and sort != "choice" else json.dumps(default)
    value = shown if given is None else given.get(PREFIX + name, "")
    return Field(
        id=id, name=PREFIX + name, label=str(part.get("title") or _words(name)), sort=sort, input=kind,
        help=str(part.get("description", "")), required=required and sort != "boolean", value=value,
        choices=tuple((json.dumps(one), str(one)) for one in part.get("enum", ())), limits=_limits(part, sort),
    )  # fmt: skip


def _sort(part: Mapping[str, Any]) -> tuple[Sort, str]:
    if isinstance(part.get("enum"), list) and part["enum"]:
        return "choice", ""
    match part.get("type"):
        case "string":
            kind = _LINES.get(str(part.get("format")), "text")
            longest = part.get("maxLength")
            is_long = kind == "text" and isinstance(longest, int) and longest > _TEXT
            return ("text" if is_long else "line"), kind
        case "integer" | "number":
            return "number", "number"
        case "boolean":
            return "boolean", "checkbox"
        case _:
            return "json", ""


def _limits(part: Mapping[str, Any], sort: Sort) -> tuple[tuple[str, str], ...]:
    if sort == "number":
        limits = {"min": part.get("minimum"), "max": part.get("maximum")}
        limits["step"] = "1" if part.get("type") == "integer" else "any"
    elif sort == "line":
        limits = {"maxlength": part.get("maxLength"), "minlength": part.get("minLength")}
    else:
        limits = {}
    return tuple((key, str(value)) for key, value in limits.items() if value is not None)


def _words(name: str) -> str:
    text = name.replace("_", " ").replace("-", " ").strip()
    return text[:1].upper() + text[1:] if text else name


def data_of(schema: Mapping[str, Any] | None, sent: Mapping[str, str]) -> Any:
    """The JSON data that a sent form stands for; None where no form was asked for.

    An empty optional field is left out. Raises `InvalidInputError` that names the field.
    """
    if schema is None:
        return None
    if not _is_known(schema):
        return _json(sent.get(WHOLE, ""), "Data")
    data: dict[str, Any] = {}
    for field in fields_of(schema, id="f"):
        name = field.name.removeprefix(PREFIX)
        text = sent.get(field.name, "")
        if field.sort == "boolean":
            data[name] = text == "true"
        elif text.strip():
            data[name] = _value(field, text, whole=schema["properties"][name].get("type") == "integer")
    return data


def _value(field: Field, text: str, *, whole: bool) -> Any:
    match field.sort:
        case "number":
            return _number(text, field.label, whole=whole)
        case "choice" | "json":
            return _json(text, field.label)
        case _:
            return text.replace("\r\n", "\n")


def _number(text: str, label: str, *, whole: bool) -> int | float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "whole number" if whole else "number"
        raise InvalidInputError(f"{label}: a {kind} is needed, found {text[:40]!r}") from None


def _json(text: str, label: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"{label}: no valid JSON ({error})") from None

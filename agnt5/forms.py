"""Forms: the JSON Schema that a decision's data has to fit, and the pydantic model that it may come from."""

from __future__ import annotations

import functools
from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import InvalidInputError

_SHOWN = 5
"""Faults that one message tells."""


def schema_of(form: Any, what: str) -> tuple[dict[str, Any] | None, Any]:
    """The JSON Schema of a form (a schema, or a pydantic model class), and its model class where it has one.

    Raises `InvalidInputError` for anything else, and for a schema that is none.
    """
    if form is None:
        return None, None
    if isinstance(form, type) and hasattr(form, "model_json_schema"):
        return form.model_json_schema(), form
    if not isinstance(form, dict):
        raise InvalidInputError(f"{what}: expected a JSON Schema or a pydantic model class, found {form!r}")
    data = codec.dumps(form, what=what)
    if fault := _schema_fault(data):
        raise InvalidInputError(f"{what}: {fault}")
    schema: dict[str, Any] = codec.loads(data)
    return schema, None


def faults(schema: dict[str, Any], data: Any, called: str = "data") -> list[str]:
    """What is wrong with data, a sentence each that names the field; nothing where it fits.

    `called` is what the data is called in them.

    References to schemas elsewhere are not followed: no request leaves for them.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - heavy, and only those who decide need it
    from jsonschema.exceptions import best_match  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    validator = Draft202012Validator(schema, registry=Registry(), format_checker=Draft202012Validator.FORMAT_CHECKER)
    try:
        errors = sorted(validator.iter_errors(data), key=lambda error: [str(part) for part in error.absolute_path])
    except Unresolvable as error:
        return [f"the form refers to {error.ref!r}, which it does not hold"]
    return [_told(best_match([error]) or error, called) for error in errors[:_SHOWN]]


def _told(error: Any, called: str) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    text = error.message if len(error.message) <= 300 else error.message[:300] + "..."  # noqa: PLR2004
    return f"{called}{path}: {text}"


@functools.lru_cache(256)
def _schema_fault(data: bytes) -> str:
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415

    try:
        Draft202012Validator.check_schema(codec.loads(data))
    except SchemaError as error:
        place = "".join(f".{part}" for part in error.absolute_path)
        return f"no JSON Schema{f', at {place[1:]}' if place else ''}: {error.message}"
    return ""

"""The one form of data at rest and on the wire: JSON as bytes. Nothing is ever pickled.

What is decided here:

- pydantic models, dataclasses, named tuples, dates, times, enums, UUID, Decimal, Path and sets are written in
  their usual JSON form (pydantic's); the reader's annotations bring them back.
- Integers of any size up to 4,300 digits keep every digit. `-0.0` and all finite floats come back exactly.
- NaN and the infinities are refused: they are not JSON, and other readers of the store would choke on it.
  (A float field of a pydantic model follows the model's own `ser_json_inf_nan`, which writes null.)
- Text with a lone surrogate and bytes that are not UTF-8 are refused; UTF-8 bytes are written as text.
- Keys of mappings are written as text: `{1: "a"}` comes back as `{"1": "a"}`, unless an annotation says
  `dict[int, str]`.
- Values may be nested about 150 levels deep: `NEST_ROOM` fewer than the parser takes, for what wraps them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from inspect import isawaitable
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from agnt5.contracts.errors import PayloadTooLargeError, SerializationError
from agnt5.contracts.masking import masked_json

NEST_ROOM = 50
"""Levels of nesting that are kept free for what wraps a value."""

_DEEPEST = 150
_MANY_BRACKETS = 100
_SAMPLE = 430
_LONG_NUMBER = re.compile(rb"[0-9]{9}")
_NAME = re.compile(r"^[A-Za-z_]\w*$")


def dumps(value: Any, *, what: str, limit: int | None = None) -> bytes:
    """`value` as compact JSON. `what` says in errors which value it is: "input", "result", "step fetch".

    Raises `SerializationError` that names the place inside the value (`result.items[3].conn`) when something
    has no JSON form, and `PayloadTooLargeError` beyond `limit` bytes. What it returns, `loads` can read. Known secrets
    are masked in it, with a warning.
    """
    return freed(plain(value, what=what), what=what, limit=limit)


def plain(value: Any, *, what: str) -> bytes:
    """`dumps` without a limit and with known secrets as they are: for what is masked by who asks for it."""
    try:
        data = to_json(value)
        if suspicious(data):
            _read_nested(data)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise SerializationError(_diagnosis(value, what, error)) from None
    return data


def freed(data: bytes, *, what: str, limit: int | None = None) -> bytes:
    """What `plain` gave as `dumps` would have given it; the same bytes where nothing is masked."""
    data = masked_json(data, what)
    if limit is not None and len(data) > limit:
        raise PayloadTooLargeError(
            f"{what}: {len(data):,} bytes of JSON, at most {limit:,} are allowed (AGNT5_PAYLOAD_LIMIT); "
            "keep large data in a file, object store or database and pass its address"
        )
    return data


def loads(data: bytes | bytearray | str) -> Any:
    """The value of JSON that `dumps` wrote. Raises `SerializationError` that says where data is broken."""
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise SerializationError(f"stored data is not JSON: {error}; it begins with {data[:40]!r}") from None


def suspicious(data: bytes) -> bool:
    """Whether `data` may be what `to_json` writes but no JSON reader takes; cheap, and False is sure."""
    if b"NaN" in data or b"Infinity" in data:
        return True
    if data.count(b"[") + data.count(b"{") > _MANY_BRACKETS:
        return True
    # a number of more than 4,300 digits covers nine samples in a row
    return _LONG_NUMBER.search(data[::_SAMPLE]) is not None


def _read_nested(data: bytes) -> None:
    from_json(b"[" * NEST_ROOM + data + b"]" * NEST_ROOM, allow_inf_nan=False)


def _diagnosis(value: Any, what: str, error: Exception) -> str:
    found = _first_bad(value, what, ())
    return ": ".join(found) if found else f"{what}: {error}"


def _first_bad(value: Any, path: str, inside: tuple[int, ...]) -> tuple[str, str] | None:
    """The path of the first part that cannot be written, and why."""
    if id(value) in inside:
        return path, "the value contains itself; pass plain data without cycles"
    if len(inside) >= _DEEPEST:
        return path, f"nested more than {_DEEPEST} levels deep; flatten the value or pass it as text"
    parts = _parts(value, path)
    if parts is None:
        reason = _reason(value)
        return (path, reason) if reason else None
    if isinstance(value, Mapping):
        for key in value:
            if reason := _reason({key: 0}, key):
                return f"{path}, key {key!r}", reason
    for part_path, part in parts:
        if bad := _first_bad(part, part_path, (*inside, id(value))):
            return bad
    return None


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]] | None:
    """What a container holds, each with its path; None for anything else."""
    if isinstance(value, dict):
        return ((path + _at(key), part) for key, part in value.items())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return ((f"{path}[{index}]", part) for index, part in enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return ((f"{path}.{item.name}", getattr(value, item.name)) for item in fields(value))
    if isinstance(names := getattr(type(value), "model_fields", None), dict):
        return ((f"{path}.{name}", getattr(value, name, None)) for name in names)
    return None


def _at(key: Any) -> str:
    return f".{key}" if isinstance(key, str) and _NAME.match(key) else f"[{key!r}]"


def _reason(value: Any, shown: Any = ...) -> str | None:
    """Why this part alone has no JSON form, with a remedy; None when it has one."""
    try:
        from_json(to_json(value), allow_inf_nan=False)
    except (PydanticSerializationError, ValueError):
        return _remedy(value if shown is ... else shown)
    return None


def _remedy(value: Any) -> str:
    if isawaitable(value):
        return f"a {type(value).__name__} was found where its result was meant; an `await` is missing"
    for kind, text in _REMEDIES:
        if isinstance(value, kind):
            return text.format(value=value)
    return (
        f"a {type(value).__module__}.{type(value).__qualname__} has no JSON form; "
        "pass plain data (dict, list, text, number), a pydantic model or a dataclass"
    )


_REMEDIES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (float, "{value} has no JSON form; use None or text instead"),
    (
        str,
        'text with a lone surrogate has no JSON form; clean it with text.encode("utf-8", "replace").decode()',
    ),
    ((bytes, bytearray), "bytes that are not UTF-8 have no JSON form; encode them with base64"),
    (int, "an integer of more than 4,300 digits is not readable as JSON; pass it as text, in hex"),
)

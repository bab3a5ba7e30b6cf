"""Values of config as the type that their reader wants, which its default tells. Pure."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.readers import duration_ms

_ON = frozenset({"true", "on", "yes", "1"})
_OFF = frozenset({"false", "off", "no", "0"})


class MisfitError(ValueError):
    """A value does not fit; its text is what was expected."""


def fit(value: Any, default: Any) -> Any:
    """`value` as the type of `default`; as it is where that is None. Texts are read: "on" is True, "17" is 17.

    Lists and objects are copies. Raises `MisfitError`.
    """
    if default is None:
        return copy.deepcopy(value) if isinstance(value, list | dict) else value
    return _reader(default)(value)


def check_default(default: Any) -> None:
    """Raise `InvalidInputError` for a default of a type that no value can have."""
    if default is not None:
        _reader(default)


def plain(value: Any) -> Any:
    """A value as it is recorded: a timedelta is its seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def parsed(text: str) -> Any:
    """Text of the environment as a value: JSON where it can be read as such."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _reader(default: Any) -> Callable[[Any], Any]:
    if (usual := _USUAL.get(type(default))) is not None:
        return usual
    for kind, read in _READERS:
        if isinstance(default, kind):
            return read
    raise InvalidInputError(
        f"config default {default!r:.80}: a {type(default).__name__} is no type of a config value; use true or false,"
        " a number, text, a list, a dict or a timedelta"
    )


def _bool(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    text = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if text in _ON:
        return True
    if text in _OFF:
        return False
    raise MisfitError("true or false (also on, off, yes, no, 1, 0)")


def _int(value: Any) -> int:
    if isinstance(value, str):
        value = _number(value, "a whole number")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise MisfitError("a whole number")


def _float(value: Any) -> float:
    if isinstance(value, str):
        value = _number(value, "a number")
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise MisfitError("a number") from None
        if math.isfinite(number):
            return number
    raise MisfitError("a number")


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise MisfitError("text")


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, list):
        return copy.deepcopy(value)
    raise MisfitError("a list")


def _dict(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, dict):
        return copy.deepcopy(value)
    raise MisfitError("an object")


def _timedelta(value: Any) -> timedelta:
    try:
        return timedelta(milliseconds=duration_ms(value))
    except (ValueError, TypeError, KeyError, OverflowError):
        raise MisfitError("a duration: '7d', '12h', '90m', '30s', '500ms', or a number of seconds") from None


def _number(text: str, expected: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise MisfitError(expected) from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


_READERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (bool, _bool),
    (int, _int),
    (float, _float),
    (str, _str),
    ((list, tuple), _list),
    (dict, _dict),
    (timedelta, _timedelta),
)
"""By the type of the default; bool before int, which it is a sort of."""

_USUAL: dict[type, Callable[[Any], Any]] = {
    bool: _bool, int: _int, float: _float, str: _str, list: _list, tuple: _list, dict: _dict, timedelta: _timedelta,
}  # fmt: skip

"""How settings are read from text: each sort of value, with a sentence part that says what is expected."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES = {"": 1, "b": 1, "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "g": 1024**3, "gib": 1024**3}
_AMOUNT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_KEY_BYTES = 32
_STANDARD = str.maketrans("-_", "+/")

CODEC = ("key_id", "seal", "open", "digests")
"""What a `PayloadCodec` has."""


class Reader(NamedTuple):
    """How one sort of setting is read: a sentence part that says what is expected, and the reading itself."""

    expected: str
    read: Callable[[Any], Any]
    secret: bool = False


def duration(least_ms: int = 0) -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, timedelta):
            return _at_least(round(value.total_seconds() * 1000), least_ms)
        amount, unit = _amount(value)
        return _at_least(round(amount * _MS[unit.lower() or "s"]), least_ms)

    least = f" of at least {least_ms} ms" if least_ms else ""
    return Reader(f"a duration{least}: '7d', '12h', '90m', '30s', '500ms', or a number of seconds", read)


def duration_ms(value: Any) -> int:
    """A duration as settings are given, in ms. Raises `ValueError`, `TypeError` or `KeyError` for anything else."""
    return int(duration().read(value))


def size() -> Reader:
    def read(value: Any) -> int:
        amount, unit = _amount(value)
        return _at_least(round(amount * _BYTES[unit.lower()]), 1)

    return Reader("a size: '1MiB', '512KiB', or a number of bytes", read)


def count(least: int, most: int) -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool | float):
            raise TypeError
        number = _at_least(int(value), least)
        if number > most:
            raise ValueError
        return number

    return Reader(f"a whole number from {least} to {most}", read)


def url(*schemes: str) -> Reader:
    def read(value: Any) -> str:
        scheme, found, rest = value.strip().partition("://")
        if not found or (schemes and scheme not in schemes) or not (rest or scheme == "memory"):
            raise ValueError
        return str(value.strip())

    shown = " or ".join(f"{scheme}://" for scheme in schemes) or "scheme://"
    return Reader(f"a URL that begins with {shown}", read)


def choice(*words: str) -> Reader:
    def read(value: Any) -> str:
        word = value.strip().lower()
        if word not in words:
            raise ValueError
        return str(word)

    return Reader(" or ".join(words), read)


def ports() -> Reader:
    def read(value: Any) -> range:
        first, found, last = str(value).partition("-")
        if isinstance(value, bool) or (not found and int(first) == 0):
            return range(0)
        ports = range(int(first), int(last if found else first) + 1)
        if not ports or ports[0] < 1 or ports[-1] > 65_535:  # noqa: PLR2004 - the highest port there is
            raise ValueError
        return ports

    return Reader("a port ('9808'), a range of them ('9808-9819'), or 0 for none", read)


def address() -> Reader:
    def read(value: Any) -> str:
        found = str(value).strip()
        if not found or re.search(r"[\s/]", found):
            raise ValueError
        return found.removeprefix("[").removesuffix("]")

    return Reader("a host name or address, such as '127.0.0.1' or '0.0.0.0'", read)


def secret(least: int) -> Reader:
    def read(value: Any) -> str:
        if len(value.strip()) < least:
            raise ValueError
        return str(value.strip())

    return Reader(f"a secret of at least {least} characters", read, secret=True)


def names(*allowed: str) -> Reader:
    def read(value: Any) -> tuple[str, ...]:
        given = value.split(",") if isinstance(value, str) else value
        names = tuple(name.strip() for name in given if name.strip())
        if allowed and not set(names) <= set(allowed):
            raise ValueError
        return names

    return Reader(f"names separated by commas{', of ' + ' and '.join(allowed) if allowed else ''}", read)


def text(expected: str, pattern: str) -> Reader:
    def read(value: Any) -> str:
        if not re.fullmatch(pattern, value.strip()):
            raise ValueError
        return str(value.strip())

    return Reader(expected, read)


def read_payload_keys(text: str) -> tuple[tuple[str, bytes], ...]:
    """`id:<base64>,id:<base64>` as ids and keys. Raises `ValueError`, which says what is wrong and shows no key."""
    found: dict[str, bytes] = {}
    for at, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        key_id, colon, encoded = part.partition(":")
        if not colon or not _KEY_ID.fullmatch(key_id) or key_id in found:
            raise ValueError(f"key {at}: an id of its own is needed before a colon: up to 32 letters, digits, _ and -")
        try:
            found[key_id] = base64.b64decode(encoded.translate(_STANDARD), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"key {at}: base64 is needed behind the colon") from None
        if len(found[key_id]) != _KEY_BYTES:
            raise ValueError(f"key {at}: {_KEY_BYTES} bytes are needed, found {len(found[key_id])}")
    if not found:
        raise ValueError("there is no key")
    return tuple(found.items())


class FaultError(ValueError):
    """What is wrong with a secret, in words that do not show it."""


def payload_keys() -> Reader:
    def read(value: Any) -> tuple[tuple[str, bytes], ...]:
        try:
            return read_payload_keys(value)
        except ValueError as error:
            raise FaultError(error) from None

    expected = f"'<id>:<base64 of {_KEY_BYTES} bytes>', several with commas between, the one that seals first"
    return Reader(expected, read, secret=True)


def payload_codec() -> Reader:
    def read(value: Any) -> Any:
        if isinstance(value, str):
            return text("", r"[\w.]+:\w+").read(value)
        if not is_codec(value):
            raise TypeError
        return value

    return Reader(f"a PayloadCodec ({', '.join(CODEC)}), or 'module:name' of one", read, secret=True)


def is_codec(value: Any) -> bool:
    """Whether a value has what a `PayloadCodec` has."""
    return all(hasattr(value, name) for name in CODEC)


def _amount(value: Any) -> tuple[float, str]:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    match = _AMOUNT.match(str(value))
    if match is None:
        raise ValueError
    return float(match[1]), match[2]


def _at_least(number: int, least: int) -> int:
    if number < least:
        raise ValueError
    return number

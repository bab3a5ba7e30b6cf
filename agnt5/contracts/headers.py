"""Request headers, as whoever starts a run may give them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from agnt5.contracts.errors import InvalidInputError

NAME_LIMIT = 100
VALUE_LIMIT = 8_192
TOTAL_LIMIT = 16_384
"""Bytes of all names and values: every child and every call of an entity carries them."""

_NAME = re.compile(rf"^[A-Za-z0-9!#$%&'*+.^_`|~-]{{1,{NAME_LIMIT}}}$")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers with their names in lower case. Raises `InvalidInputError` that names the one that is refused.

    Names are as in HTTP, values text without control characters (a tab is allowed).
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise InvalidInputError(f"headers: a mapping of names to texts is needed, found {headers!r:.80}")
    found: dict[str, str] = {}
    total = 0
    for name, value in headers.items():
        lower, size = _checked(name, value)
        if lower in found:
            raise InvalidInputError(f"header {name!r}: it is given twice; names count in any case")
        found[lower] = value
        total += size
    if total > TOTAL_LIMIT:
        raise InvalidInputError(
            f"headers: {total:,} bytes together, at most {TOTAL_LIMIT:,} are allowed; pass large data as input"
        )
    return found


def _checked(name: object, value: object) -> tuple[str, int]:
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidInputError(
            f"header {name!r:.80}: a name of 1 to {NAME_LIMIT} letters, digits and - _ . is needed, as in HTTP"
        )
    if not isinstance(value, str):
        raise InvalidInputError(f"header {name!r}: its value is text, found {value!r:.80}")
    if bad := _CONTROL.search(value):
        raise InvalidInputError(f"header {name!r}: its value has the control character {bad.group()!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(
            f"header {name!r}: its value is no text that can be encoded (a lone surrogate)"
        ) from None
    if size > VALUE_LIMIT:
        raise InvalidInputError(f"header {name!r}: {size:,} bytes, at most {VALUE_LIMIT:,} are allowed")
    return name.lower(), size + len(name)

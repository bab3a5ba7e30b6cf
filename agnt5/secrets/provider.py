"""What a place of secrets beyond environment and files has to offer, and how keys are written."""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

from agnt5.contracts.errors import InvalidInputError

KEY_LIMIT = 200
"""Characters of a key."""

_KEY = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_.\-/:+=@]*(#[A-Za-z0-9_.\-]+)?")


class SecretProvider(Protocol):
    """A place of secrets. Its methods are called in threads, several at a time.

    `name` stands in errors: "vault".
    """

    name: str

    def fetch(self, key: str) -> str | None:
        """The value of a key; None where it has none. Blocks; has a time limit of its own.

        Whatever it raises becomes a `SecretProviderError`, with the text of it masked.
        """

    def place(self, key: str) -> str:
        """Where it looks for a key, for people."""


def check_key(key: object) -> str:
    """`key`, or `InvalidInputError` with the rule."""
    if isinstance(key, str) and len(key) <= KEY_LIMIT and _KEY.fullmatch(key) and ".." not in key.split("/"):
        return key
    raise InvalidInputError(
        f"the key of a secret: at most {KEY_LIMIT} letters, digits and _ . - / : + = @ are needed, without '..', and"
        " '#field' at the end where a field is meant, as in 'openai_api_key' or 'apps/shop#password';"
        f" found {type(key).__name__} of {len(key) if isinstance(key, str) else 0} characters"
    )


def split_key(key: str) -> tuple[str, str]:
    """`path#field` as its two parts; the field is empty where there is none."""
    path, _, field = key.partition("#")
    return path, field


def field_of(text: str, field: str, where: str) -> str | None:
    """A field of a secret that is a JSON object, as text; None where it has none of that name.

    Raises `ValueError` for a secret that is no JSON object. No part of it is told.
    """
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise ValueError(f"{where} is no JSON object, so that it has no field {field!r}; leave out '#{field}'")  # noqa: TRY004
    return None if field not in data else text_of(data[field])


def text_of(value: Any) -> str | None:
    """A value of a JSON object as a secret's text."""
    return value if value is None or isinstance(value, str) else json.dumps(value)

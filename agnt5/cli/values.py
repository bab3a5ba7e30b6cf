"""Inputs as they are typed: JSON, or `key=value` pairs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import timedelta
from typing import Any

import typer

from agnt5.contracts.budgets import Budget
from agnt5.contracts.errors import InvalidInputError

Texts = Callable[[], Container[str]]
"""Which keys take plain text; asked only when it matters."""


def read_input(words: Sequence[str], texts: Texts) -> Any:
    """One JSON value, `-` for JSON on standard input, or `key=value` pairs.

    A value is JSON where it can be read as such, except for keys in `texts()`: `order_id=17` is text if that is what
    the handler takes.
    """
    if not words:
        return None
    if list(words) == ["-"]:
        return _json(sys.stdin.read(), "standard input")
    if len(words) == 1 and ("=" not in words[0] or words[0].lstrip()[:1] in {"{", "[", '"'}):
        return _json(words[0], "INPUT")
    given = pairs(words, expected="key=value, or one JSON value for the whole input")
    plain = texts()
    return {key: value if key in plain else _loose(value) for key, value in given.items()}


def read_json(text: str | None, what: str) -> Any:
    """JSON, or plain text that is no JSON; None where nothing was given."""
    if text is None:
        return None
    return _json(text, what) if text.lstrip()[:1] in {"{", "[", '"'} else _loose(text)


def pairs(words: Sequence[str], *, expected: str = "key=value") -> dict[str, str]:
    """`key=value` words as a dict. A key that is there twice is a mistake."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{word!r}: expected {expected}")
        if key in found:
            raise typer.BadParameter(f"{word!r}: there is a value for {key!r} already, {found[key]!r}")
        found[key] = value
    return found


def read_budget(text: str) -> Budget:
    """`cost=5,tokens=200000`, with `key=acme` and `per=86400` (seconds) where wanted."""
    given = pairs([word.strip() for word in text.split(",")], expected="limits, as cost=5,tokens=200000")
    if unknown := given.keys() - {"requests", "tokens", "cost", "key", "per"}:
        raise typer.BadParameter(f"{text!r}: {min(unknown)!r} is none of requests, tokens, cost, key, per")
    limits: dict[str, Any] = {name: value if name == "key" else _loose(value) for name, value in given.items()}
    try:
        if "per" in limits:
            limits["per"] = timedelta(seconds=int(given["per"]))
        return Budget(**limits)
    except InvalidInputError as error:
        raise typer.BadParameter(f"{text!r}: {error}") from None
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r}: per={given['per']}: expected seconds, as in per=86400") from None


def text_parameters(described: Mapping[str, Any] | None) -> frozenset[str]:
    """The parameters of a handler, as it was announced, that take text."""
    if described is None:
        return frozenset()
    return frozenset(p["name"] for p in described["parameters"] if _is_text(p.get("schema", {})))


def _is_text(schema: Mapping[str, Any]) -> bool:
    choices = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return bool(choices) and all(one.get("type") == "string" for one in choices)


def _loose(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{what}: no JSON ({error}): {text[:80]!r}") from None

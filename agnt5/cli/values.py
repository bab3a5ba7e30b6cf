"""Inputs as they are typed: JSON, or `key=value` pairs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer


def read_input(words: Sequence[str]) -> Any:
    """One JSON value, `-` for JSON on standard input, or `key=value` pairs whose values are JSON or plain text."""
    if not words:
        return None
    if list(words) == ["-"]:
        return _json(sys.stdin.read(), "standard input")
    if len(words) == 1 and ("=" not in words[0] or words[0].lstrip()[:1] in {"{", "[", '"'}):
        return _json(words[0], "INPUT")
    return pairs(words, json_values=True)


def read_json(text: str | None, what: str) -> Any:
    """JSON, or plain text that is no JSON; None where nothing was given."""
    if text is None:
        return None
    return _json(text, what) if text.lstrip()[:1] in {"{", "[", '"'} else _loose(text)


def pairs(words: Sequence[str], *, json_values: bool) -> dict[str, Any]:
    """`key=value` words as a dict."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{word!r}: expected key=value, or one JSON value for the whole input")
        found[key] = _loose(value) if json_values else value
    return found


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

"""What a model thought before it answered, which its provider wants to have back with the results of tools.

It travels in our messages under one name, `thinking`, with the provider that it came from: others would refuse it. What
is in it beside that are LiteLLM's fields of a message, which go back as they came: signatures break with any change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agnt5.contracts.masking import masked_value

FIELD = "thinking"

_PROVIDER = "provider"
_BLOCKS = "thinking_blocks"
_ITEMS = "reasoning_items"
_TEXT = "reasoning_content"
_REDACTED = "redacted_thinking"

Thinking = dict[str, Any]
"""`provider`, and of `thinking_blocks`, `reasoning_items`, `reasoning_content` what there was."""


def thinking_of(message: Any) -> Thinking:
    """What a whole message of LiteLLM has of it."""
    return _kept(*(getattr(message, name, None) for name in (_BLOCKS, _ITEMS, _TEXT)))


class Thoughts:
    """What has come of it in a stream."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []
        self._open: list[str] = []
        self._items: list[Any] = []
        self._texts: list[str] = []

    def add(self, delta: Any) -> None:
        """Take the next part of a message."""
        for part in getattr(delta, _BLOCKS, None) or ():
            self._add(part)
        self._items += getattr(delta, _ITEMS, None) or ()
        self._texts.append(getattr(delta, _TEXT, None) or "")

    def _add(self, part: Mapping[str, Any]) -> None:
        """A block comes whole where it is redacted; else in pieces, and its signature ends it."""
        if part.get("type") == _REDACTED:
            self._blocks.append({"type": _REDACTED, "data": part.get("data")})
            return
        self._open.append(part.get("thinking") or "")
        if signature := part.get("signature"):
            self._blocks.append({"type": "thinking", "thinking": "".join(self._open), "signature": signature})
            self._open = []

    def thinking(self) -> Thinking:
        """All of it."""
        return _kept(self._blocks, self._items, "".join(self._texts))


def by(provider: str, thinking: Thinking) -> Thinking:
    """The same, with its provider."""
    return {_PROVIDER: provider, **thinking}


def text_of(thinking: Mapping[str, Any]) -> str:
    """What of it people can read."""
    blocks = thinking.get(_BLOCKS) or ()
    return thinking.get(_TEXT) or "\n\n".join(text for one in blocks if (text := one.get("thinking")))


def given_back(messages: Sequence[dict[str, Any]], provider: str) -> list[dict[str, Any]]:
    """Messages as LiteLLM takes them for a provider: each with what this one thought, without what others did."""
    return [_opened(one, provider) if FIELD in one else one for one in messages]


def without(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as they are kept once a turn is over: what was thought is needed for that turn's own tools only."""
    return [{name: value for name, value in one.items() if name != FIELD} for one in messages]


def _opened(message: dict[str, Any], provider: str) -> dict[str, Any]:
    thinking = message[FIELD]
    if not isinstance(thinking, Mapping) or _PROVIDER not in thinking:  # not ours
        return message
    own = {name: value for name, value in message.items() if name != FIELD}
    if thinking[_PROVIDER] != provider:
        return own
    return own | {name: value for name, value in thinking.items() if name != _PROVIDER}


def _kept(blocks: Any, items: Any, text: Any) -> Thinking:
    """What is worth keeping. Signed parts that hold a known secret are not: masked, they would be refused."""
    signed = {name: _plain(value) for name, value in ((_BLOCKS, blocks), (_ITEMS, items)) if value}
    if signed:
        return signed if masked_value(signed) == signed else {}
    return {_TEXT: text} if isinstance(text, str) and text else {}


def _plain(value: Any) -> Any:
    """As data of JSON: LiteLLM has some of it as objects of its own."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _plain(value.model_dump(exclude_none=True)) if hasattr(value, "model_dump") else value

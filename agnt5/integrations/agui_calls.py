"""What journals and streams hold of models and tools: texts, calls, and what came of them."""

from __future__ import annotations

import json
from typing import Any


class Asked:
    """The calls that a reader was told of. Each begins once, and has one result; that of a failure may be replaced."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._ended: set[str] = set()

    def begin(self, call: str, name: str) -> bool:
        """Whether this is news."""
        fresh = call not in self._names
        self._names.setdefault(call, name)
        return fresh

    def end(self, call: str, *, failed: bool) -> bool:
        """Whether this is news."""
        fresh = call not in self._ended
        if not failed:
            self._ended.add(call)
        return fresh

    def find(self, key: str, name: str) -> str | None:
        """The call that a step belongs to: by its key, else the first of that name which is open.

        An adapter puts its own words before the call's id in the key.
        """
        for known in (key, key.rpartition("/")[2]):
            if self._names.get(known) == name:
                return known
        if key:
            return key
        return next((call for call, named in self._names.items() if named == name and call not in self._ended), None)


def calls_in(recorded: Any) -> list[tuple[Any, str, Any]]:
    """The calls that a recorded answer of a model asks for: `(id, name, arguments)`; of ours, and of pydantic-ai's."""
    if not isinstance(recorded, dict):
        return []
    found = [(one.get("id"), one.get("name"), one.get("arguments")) for one in _dicts(recorded.get("tool_calls"))]
    found += [
        (part.get("tool_call_id"), part.get("tool_name"), part.get("args"))
        for part in _dicts(recorded.get("parts"))
        if part.get("part_kind") == "tool-call"
    ]
    return [(call, name, arguments) for call, name, arguments in found if isinstance(name, str)]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def result_of(recorded: Any) -> Any:
    """A tool's result, or what was said of its failure, out of what is recorded around it by the loops of tools."""
    if isinstance(recorded, dict):
        if recorded.keys() == {"error"}:
            return recorded["error"]
        ours = recorded.keys() <= {"result", "cut_from"}
        if "result" in recorded and (ours or recorded == {"kind": "tool_return", "result": recorded["result"]}):
            return recorded["result"]
    return recorded


def content_of(result: Any) -> str:
    """A result as the content of a message."""
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def text_in(chunk: Any) -> str | None:
    """The text that a chunk is, if it is text: a string, `{"type": "text", "text"}`, or a part of a model's answer."""
    if isinstance(chunk, str):
        return chunk
    if isinstance(chunk, dict) and isinstance(text := chunk.get("text"), str):
        of_a_model = chunk.keys() == {"text", "response"}
        return text if of_a_model or chunk.get("type") == "text" else None
    return None

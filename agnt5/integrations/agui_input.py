"""What a handler is started with when an AG-UI front end asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ag_ui.core import RunAgentInput

THREADS = ("messages", "thread_id", "conversation")
"""Parameters by which a handler learns what was said before."""


def input_for(asked: RunAgentInput, parameters: Sequence[Mapping[str, Any]]) -> Any:
    """The input of a handler with these parameters, each `{"name", "schema"}` as `Handler.describe` has them.

    Parameters of these names get their values: `message` (the text of the user's last message), `messages` (in
    OpenAI's form), `thread_id` (also as `conversation`, the word of agnt5's agents), `run_id`, `state`, `tools`,
    `context`, `forwarded_props`, `resume`. A `message` that may be a list is the whole conversation, where the handler
    learns of it in no other way. A handler with one parameter of another name gets the text of the last message if
    that takes text, else all of them as one dict; one without parameters gets nothing.
    """
    whole = asked.model_dump(mode="json", by_alias=False)
    fields = {
        "message": last_text(asked),
        "messages": [found for one in whole["messages"] if (found := _as_openai(one)) is not None],
        "thread_id": asked.thread_id,
        "conversation": asked.thread_id,
        "run_id": asked.run_id,
        "state": whole.get("state"),
        "tools": whole.get("tools") or [],
        "context": whole.get("context") or [],
        "forwarded_props": whole.get("forwarded_props"),
        "resume": whole.get("resume") or [],
    }
    schemas = {parameter["name"]: parameter.get("schema", {}) for parameter in parameters}
    if not schemas:
        return None
    if len(schemas) == 1 and not schemas.keys() & fields.keys():
        [(name, schema)] = schemas.items()
        return {name: fields["message"] if "string" in _types(schema) else fields}
    if "array" in _types(schemas.get("message", {})) and not any(name in schemas for name in THREADS):
        fields["message"] = fields["messages"]
    return {name: value for name, value in fields.items() if name in schemas}


def _types(schema: Mapping[str, Any]) -> set[Any]:
    return {one.get("type") for one in schema.get("anyOf", [schema])}


def _as_openai(message: dict[str, Any]) -> dict[str, Any] | None:
    """A message in OpenAI's form; None for what models are not told."""
    if message["role"] not in {"developer", "system", "user", "assistant", "tool"}:
        return None
    kept = {name: message[name] for name in ("role", "name", "tool_call_id") if message.get(name) is not None}
    content = message.get("content")
    kept["content"] = [_part(part) for part in content] if isinstance(content, list) else content
    if calls := message.get("tool_calls"):
        kept["tool_calls"] = [{name: call[name] for name in ("id", "type", "function")} for call in calls]
    return kept


def _part(part: dict[str, Any]) -> dict[str, Any]:
    source = part.get("source") or {}
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    if part["type"] == "image" and source.get("type") == "url":
        return {"type": "image_url", "image_url": {"url": source["value"]}}
    if part["type"] == "image" and source.get("type") == "data":
        return {"type": "image_url", "image_url": {"url": f"data:{source['mime_type']};base64,{source['value']}"}}
    return part


def last_text(asked: RunAgentInput) -> str:
    """The text of the user's last message; empty where there is none."""
    for message in reversed(asked.messages):
        if message.role != "user":
            continue
        if isinstance(message.content, str):
            return message.content
        return "\n".join(part.text for part in message.content if part.type == "text")
    return ""

"""What a handler is started with when an AG-UI front end asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ag_ui.core import RunAgentInput


def input_for(asked: RunAgentInput, parameters: Sequence[Mapping[str, Any]]) -> Any:
    """The input of a handler with these parameters, each `{"name", "schema"}` as `Handler.describe` has them.

    Parameters of these names get their values: `message` (the text of the user's last message), `messages` (in
    OpenAI's form), `thread_id` (also as `conversation`, the word of agnt5's agents), `run_id`, `state`, `tools`,
    `context`, `forwarded_props`, `resume`. A handler with one parameter of another name gets the `message` if that
    takes text, else all of them as one dict; one without parameters gets nothing.
    """
    whole = asked.model_dump(mode="json", by_alias=False)
    fields = {
        "message": last_text(asked),
        "messages": whole["messages"],
        "thread_id": asked.thread_id,
        "conversation": asked.thread_id,
        "run_id": asked.run_id,
        "state": whole.get("state"),
        "tools": whole.get("tools") or [],
        "context": whole.get("context") or [],
        "forwarded_props": whole.get("forwarded_props"),
        "resume": whole.get("resume") or [],
    }
    names = [parameter["name"] for parameter in parameters]
    if not names:
        return None
    if len(names) == 1 and names[0] not in fields:
        takes_text = parameters[0].get("schema", {}).get("type") == "string"
        return {names[0]: fields["message"] if takes_text else fields}
    return {name: value for name, value in fields.items() if name in names}


def last_text(asked: RunAgentInput) -> str:
    """The text of the user's last message; empty where there is none."""
    for message in reversed(asked.messages):
        if message.role != "user":
            continue
        if isinstance(message.content, str):
            return message.content
        return "\n".join(part.text for part in message.content if part.type == "text")
    return ""

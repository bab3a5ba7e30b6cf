"""What a pydantic-ai agent does, as the chunks that agnt5's own agents yield."""

from __future__ import annotations

from typing import Any

from pydantic_ai.messages import (
    AgentStreamEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_core import to_jsonable_python


def of_a_model(event: AgentStreamEvent) -> bool:
    """Whether it is a part of a model's answer, which is told while it comes."""
    return isinstance(event, PartStartEvent | PartDeltaEvent)


def chunks_of(event: AgentStreamEvent) -> list[dict[str, Any]]:
    """The chunks of an event: none for what is of no interest outside."""
    match event:
        case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return [{"type": "text", "text": text}] if text else []
        case FunctionToolCallEvent(part=call):
            arguments = call.args_as_dict()
            return [{"type": "tool_call", "id": call.tool_call_id, "name": call.tool_name, "arguments": arguments}]
        case FunctionToolResultEvent(part=answer):
            result = to_jsonable_python(answer.content, fallback=str)
            return [{"type": "tool_result", "id": answer.tool_call_id, "name": answer.tool_name, "result": result}]
        case _:
            return []

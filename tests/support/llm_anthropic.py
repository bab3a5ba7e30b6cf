"""Anthropic's form of the fake provider's answers, and what of its rules on thinking has to be kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from support.llm_server import Reply

Body = dict[str, Any]

_THOUGHT = ("thinking", "redacted_thinking")
_STOPS = {"tool_calls": "tool_use", "length": "max_tokens"}


def thinking(*thoughts: str, reply: Reply) -> Reply:
    """An answer after so many signed thoughts; an empty one is redacted."""
    return replace(reply, thinking=tuple(_thought(one) for one in thoughts))


def readable(reply: Reply) -> str:
    """The thoughts as others than Anthropic tell them."""
    return " ".join(one.get("thinking", "") for one in reply.thinking).strip()


def refused(body: Body, issued: list[Body]) -> web.Response | None:
    """What the API says of a request that breaks its rules.

    Thinking goes back as it was `issued`. Where it is switched on, the answer whose tools are told of begins with it.
    """
    if not (fault := _fault(body, issued)):
        return None
    error = {"type": "invalid_request_error", "message": fault}
    return web.json_response({"type": "error", "error": error}, status=400)


async def answered(
    request: web.Request, body: Body, reply: Reply, calls: list[Body], usage: Body
) -> web.StreamResponse:  # fmt: skip
    """An answer, whole or as a stream. `calls` are in OpenAI's form."""
    blocks, stop = _blocks(reply, calls), _STOPS.get(reply.finish, "end_turn")
    if not body.get("stream"):
        return web.json_response({**_head(body, usage), "content": blocks, "stop_reason": stop})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in _events(_head(body, usage), blocks, stop):
        await response.write(event)
    await response.write_eof()
    return response


def _thought(text: str) -> Body:
    if not text:
        return {"type": "redacted_thinking", "data": "RW5jcnlwdGVk"}
    return {"type": "thinking", "thinking": text, "signature": f"signed:{text}"}


def _fault(body: Body, issued: list[Body]) -> str:
    for at, message in enumerate(body["messages"]):
        blocks = message["content"] if isinstance(message["content"], list) else []
        for block in blocks:
            if block["type"] in _THOUGHT and block not in issued:
                return f"messages.{at}: `{block['type']}` blocks cannot be modified: {json.dumps(block)}"
    asked = (body.get("thinking") or {}).get("type") == "enabled"
    turn = next((one for one in _turn(body["messages"]) if one["role"] == "assistant"), None)
    if asked and turn is not None and turn["content"][0]["type"] not in _THOUGHT:
        return f"Expected `thinking` or `redacted_thinking`, but found `{turn['content'][0]['type']}`"
    return ""


def _events(head: Body, blocks: list[Body], stop: str) -> Iterator[bytes]:
    yield _event("message_start", message={**head, "content": [], "stop_reason": None})
    for index, block in enumerate(blocks):
        yield _event("content_block_start", index=index, content_block=_empty(block))
        for delta in _deltas(block):
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    yield _event("message_delta", delta={"stop_reason": stop}, usage=head["usage"])
    yield _event("message_stop")


def _turn(messages: list[Body]) -> list[Body]:
    """What came since the user's own latest words; nothing where those are the last."""
    for at in range(len(messages) - 1, -1, -1):
        content = messages[at]["content"]
        results = isinstance(content, list) and any(one["type"] == "tool_result" for one in content)
        if messages[at]["role"] == "user" and not results:
            return messages[at + 1 :]
    return messages


def _head(body: Body, usage: Body) -> Body:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None,
        "usage": _usage(usage),
    }  # fmt: skip


def _usage(usage: Body) -> Body:
    return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}


def _blocks(reply: Reply, calls: list[Body]) -> list[Body]:
    text = "".join(part for part in reply.parts if isinstance(part, str))
    uses = [
        {"type": "tool_use", "id": one["id"], "name": one["function"]["name"],
         "input": json.loads(one["function"]["arguments"])}
        for one in calls
    ]  # fmt: skip
    return [*reply.thinking, *([{"type": "text", "text": text}] if text else []), *uses]


def _empty(block: Body) -> Body:
    """A block as it begins."""
    begun = {**block, **{name: "" for name in ("text", "thinking", "signature") if name in block}}
    return begun | ({"input": {}} if "input" in block else {})


def _deltas(block: Body) -> Iterator[Body]:
    match block["type"]:
        case "text":
            yield from ({"type": "text_delta", "text": piece} for piece in _halves(block["text"]))
        case "tool_use":
            raw = json.dumps(block["input"])
            yield from ({"type": "input_json_delta", "partial_json": piece} for piece in _halves(raw))
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in _halves(block["thinking"]))
            yield {"type": "signature_delta", "signature": block["signature"]}


def _halves(text: str) -> Iterator[str]:
    yield from (piece for piece in (text[: len(text) // 2], text[len(text) // 2 :]) if piece)


def _event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()

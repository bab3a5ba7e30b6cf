"""Spans of calls of language models, by OpenTelemetry's conventions for generative AI. Made where spans are wanted.

Prompts and answers are left out, unless OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind

from agnt5.contracts.masking import masked
from agnt5.llm import provider
from agnt5.llm.failures import masked as without
from agnt5.llm.messages import hidden
from agnt5.llm.responses import LLMResponse
from agnt5.sdk.port import ModelCall
from agnt5.telemetry.spans_tracer import Tracing

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_ASKS_FOR_CONTENT = frozenset({"true", "span_only", "span_and_event"})
_NUMBERS = ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty", "seed")
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""LiteLLM's names of providers -> the conventions', where they differ."""


@contextmanager
def model_span(tracing: Tracing, call: ModelCall) -> Iterator[None]:
    """Around a call that is really made. What leaves it is the call's error."""
    asked = call.request.models[0]
    attributes = {"agnt5.run_id": call.run.run_id, "gen_ai.operation.name": "chat", "gen_ai.request.model": asked}
    with suppress(Exception):  # parameters may be anything
        attributes |= _asked(call)
    with tracing.span(f"chat {asked}", attributes, kind=SpanKind.CLIENT) as span:
        try:
            yield
        finally:
            with suppress(Exception):
                if span.is_recording():
                    _answered(span, call)


def _asked(call: ModelCall) -> dict[str, Any]:
    request = call.request
    params = request.params
    found: dict[str, Any] = {
        f"gen_ai.request.{name}": value for name in _NUMBERS if isinstance(value := params.get(name), int | float)
    }
    if isinstance(limit := params.get("max_completion_tokens"), int):
        found["gen_ai.request.max_tokens"] = limit
    if (stop := params.get("stop")) is not None:
        found["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else [str(one) for one in stop]
    if call.streamed:
        found["gen_ai.request.stream"] = True
    found["gen_ai.output.type"] = "text" if request.schema is None else "json"
    base = params.get("api_base") or params.get("base_url")
    if isinstance(base, str) and (address := urlsplit(base)).hostname:
        found["server.address"] = address.hostname
        if address.port:
            found["server.port"] = address.port
    if _captures():
        found["gen_ai.input.messages"] = _as_json([_message(one) for one in hidden(request.messages)], call)
    return found


def _answered(span: Span, call: ModelCall) -> None:
    model = call.request.models[0] if call.response is None else call.response.model
    name = provider.provider_of(call.request, model)
    if name:
        span.set_attribute("gen_ai.provider.name", _PROVIDERS.get(name, name))
    if call.first_chunk_s is not None:
        span.set_attribute("gen_ai.response.time_to_first_chunk", call.first_chunk_s - call.begun_s)
    if call.response is not None:
        span.set_attributes(_outcome(call.response))
        if _captures():
            answer = {**_message(call.response.message()), "finish_reason": call.response.finish_reason}
            span.set_attribute("gen_ai.output.messages", _as_json([answer], call))


def _outcome(response: LLMResponse) -> dict[str, Any]:
    usage = response.usage
    found: dict[str, Any] = {
        "gen_ai.response.model": response.model,
        "gen_ai.response.finish_reasons": [response.finish_reason],
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    if usage.cached_tokens:
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if response.cost is not None:
        found["agnt5.cost"] = response.cost
    return found


# ---- prompts and answers, where they are wanted


def _captures() -> bool:
    return os.environ.get(CAPTURE, "").strip().lower() in _ASKS_FOR_CONTENT


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in OpenAI's form in that of the conventions."""
    parts: list[dict[str, Any]] = []
    content = message.get("content")
    if message.get("role") == "tool":
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content})
    elif isinstance(content, str):
        parts.append({"type": "text", "content": content})
    else:  # images are told of, not shown
        parts += [{"type": one["type"], "content": one.get("text", "")} for one in content or ()]
    for call in message.get("tool_calls") or ():
        function = call["function"]
        parts.append(
            {"type": "tool_call", "id": call["id"], "name": function["name"], "arguments": function["arguments"]}
        )
    return {"role": message.get("role"), "parts": parts}


def _as_json(messages: list[dict[str, Any]], call: ModelCall) -> str:
    text = json.dumps(messages, ensure_ascii=False, default=str)
    return masked(without(text, call.request.secrets()))

"""Scripted models: what comes is told by the conversation alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import BaseModel

from agnt5.contracts.errors import ConfigurationError, InvalidInputError, LLMError, LLMRequestError
from agnt5.llm import scripted
from agnt5.llm.requests import Request
from agnt5.llm.scripted import call, scripted_model
from agnt5.llm.structured import complaint
from agnt5.llm.tools import Tool

LOOKUP = Tool(
    name="lookup",
    schema={"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
)
USER = {"role": "user", "content": "where is order 17?"}


def asked(*messages, tools=(LOOKUP,)):
    return Request(models=("scripted/any",), messages=list(messages) or [USER], tools=tuple(tools))


def message(response):
    """An answer as the next request has it."""
    calls = [{"id": c.id, "type": "function", "function": {"name": c.name}} for c in response.tool_calls]
    return {"role": "assistant", "content": response.text, **({"tool_calls": calls} if calls else {})}


def result(tool_call, text="shipped"):
    return {"role": "tool", "tool_call_id": tool_call.id, "content": text}


async def test_turns_follow_one_another_and_the_last_one_repeats():
    model = scripted_model("steps", call("lookup", order_id="17"), "It is shipped.")
    first = await scripted.answer(asked(), model)
    assert (first.text, first.finish_reason, first.model, first.cost) == ("", "tool_calls", "scripted/steps", 0.0)
    assert [(c.name, c.arguments, c.error) for c in first.tool_calls] == [("lookup", {"order_id": "17"}, "")]
    heard = [USER, message(first), result(first.tool_calls[0])]
    second = await scripted.answer(asked(*heard), model)
    assert (second.text, second.finish_reason, second.tool_calls) == ("It is shipped.", "stop", [])
    third = await scripted.answer(asked(*heard, message(second)), model)
    assert third.text == "It is shipped."


async def test_a_new_message_of_the_user_begins_the_script_again_with_calls_of_new_ids():
    model = scripted_model("again", call("lookup", order_id="17"), "It is shipped.")
    first = await scripted.answer(asked(), model)
    heard = [USER, message(first), result(first.tool_calls[0]), {"role": "assistant", "content": "It is shipped."}]
    again = await scripted.answer(asked(*heard, USER), model)
    assert [c.name for c in again.tool_calls] == ["lookup"]
    assert again.tool_calls[0].id != first.tool_calls[0].id


async def test_the_same_conversation_gets_the_same_answer_whoever_asks_with_whatever_instructions():
    model = scripted_model("same", [call("lookup", order_id="1"), call("lookup", order_id="2")])
    one = await scripted.answer(asked({"role": "system", "content": "it is 9:00"}, USER), model)
    other = await scripted.answer(asked({"role": "system", "content": "it is 9:01"}, USER), model)
    assert one.tool_calls == other.tool_calls
    assert len({c.id for c in one.tool_calls}) == 2


async def test_answers_of_a_model_that_handed_over_do_not_count():
    front = scripted_model("front", call("transfer_to_billing"))
    billing = scripted_model("front_billing", call("lookup", order_id="17"), "Paid back.")
    handed = await scripted.answer(asked(), front)
    first = await scripted.answer(asked(USER, message(handed), result(handed.tool_calls[0], "go on")), billing)
    assert [c.name for c in first.tool_calls] == ["lookup"]
    heard = [USER, message(handed), result(handed.tool_calls[0]), message(first), result(first.tool_calls[0])]
    assert (await scripted.answer(asked(*heard), billing)).text == "Paid back."


class Verdict(BaseModel):
    refund: bool
    cents: int


async def test_data_is_answered_as_json_and_text_may_stand_beside_calls():
    model = scripted_model("data", {"a": [1, "ü"]}, Verdict(refund=True, cents=5), ["Let me see.", call("lookup")], [])
    said = [{"role": "assistant", "content": "x"}]
    texts = [(await scripted.answer(asked(USER, *said * n), model)).text for n in range(4)]
    assert texts == ['{"a": [1, "ü"]}', '{"refund": true, "cents": 5}', "Let me see.", "[]"]


async def test_a_function_sees_messages_and_tools():
    async def later(messages, tools):
        return f"{messages[-1]['content']} | {tools[0].name}"

    model = scripted_model("functions", lambda messages, tools: call("lookup", order_id=messages[-1]["content"]), later)
    first = await scripted.answer(asked({"role": "user", "content": "9"}), model)
    assert first.tool_calls[0].arguments == {"order_id": "9"}
    heard = [USER, message(first), result(first.tool_calls[0], "lost")]
    assert (await scripted.answer(asked(*heard), model)).text == "lost | lookup"


async def test_words_are_tokens():
    model = scripted_model("tokens", "one two three")
    parts = {"role": "user", "content": [{"type": "text", "text": "a b"}, {"type": "image_url", "image_url": {}}]}
    usage = (await scripted.answer(asked(parts, {"role": "assistant", "content": None}), model)).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (2, 3)


async def test_a_stream_has_the_answer_word_by_word_and_then_whole():
    model = scripted_model("stream", ["It  is\nhere. ", call("lookup", order_id="17")])
    chunks = [chunk async for chunk in scripted.stream(asked(), model)]
    assert [chunk.text for chunk in chunks] == ["It", "  is", "\nhere.", " ", ""]
    assert [chunk.response for chunk in chunks[:-1]] == [None] * 4
    assert chunks[-1].response == await scripted.answer(asked(), model)


async def test_a_call_that_does_not_fit_is_told_as_with_any_model():
    model = scripted_model("wrong", [call("lookup", order_id=17), call("look", order_id="17")])
    wrong, unknown = (await scripted.answer(asked(), model)).tool_calls
    assert (wrong.arguments, wrong.raw) == ({}, '{"order_id": 17}')
    assert "order_id" in wrong.error
    assert unknown.error
    assert "lookup" in unknown.error


async def test_a_correction_is_the_next_turn_and_not_a_new_message():
    model = scripted_model("careless", {"refund": "maybe"}, {"refund": True, "cents": 5})
    wrong = {"role": "assistant", "content": '{"refund": "maybe"}'}
    assert (await scripted.answer(asked(USER, wrong, complaint("no")), model)).text == '{"refund": true, "cents": 5}'


async def test_what_a_script_raises_is_final_and_a_script_may_play_a_failing_provider():
    def broken(messages, tools):
        raise KeyError("order")

    def busy(messages, tools):
        raise LLMError("HTTP 429", status=429)

    with pytest.raises(LLMRequestError, match="scripted/broken: its script raised KeyError: 'order'"):
        await scripted.answer(asked(), scripted_model("broken", broken))
    with pytest.raises(LLMError, match="HTTP 429") as raised:
        await scripted.answer(asked(), scripted_model("busy", busy))
    assert not isinstance(raised.value, LLMRequestError)


async def test_an_unknown_name_is_refused_with_those_that_there_are():
    scripted_model("known", "hi")
    with pytest.raises(LLMRequestError, match=r"scripted/lost is not known.*scripted/known"):
        await scripted.answer(asked(), "scripted/lost")


def test_a_script_without_turns_or_with_a_bad_name_is_refused():
    with pytest.raises(ConfigurationError, match="at least one turn"):
        scripted_model("empty")
    with pytest.raises(InvalidInputError, match="name of a scripted model"):
        scripted_model("no name", "hi")


def test_a_script_is_defined_without_pydantic_and_answers_without_litellm():
    code = """
import asyncio, sys
from agnt5.llm.scripted import call, scripted_model
model = scripted_model("a", "hello", call("b"))
print([name for name in ("pydantic", "litellm", "celery", "redis") if name in sys.modules])
from agnt5.llm import provider
from agnt5.llm.requests import Request
print(asyncio.run(provider.ask(Request(models=(model,), messages=[{"role": "user", "content": "hi"}]))).text)
print("litellm" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", "hello", "False"], done.stderr

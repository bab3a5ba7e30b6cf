"""What models think goes back to them with the results of their tools, through LiteLLM as it is; and to nobody else."""

from __future__ import annotations

import pytest
from support.llm_anthropic import thinking
from support.llm_server import said, tool_calls
from support.secret_values import made

from agnt5 import LLMRequestError, LLMResponse, codec
from agnt5.contracts.masking import MASKER
from agnt5.llm import provider
from agnt5.llm.messages import messages_of
from agnt5.llm.requests import Request, described
from agnt5.payload_keys import AesGcmCodec
from agnt5.replay import journal
from agnt5.replay.events import StepCompleted
from agnt5.sealing import Sealer

CLAUDE, GPT = "anthropic/claude-sonnet-4-5", "gpt-4o-mini"
THOUGHTS = thinking("Rome, I think.", "", "Or Milan?", reply=tool_calls(("weather", {"city": "Rome"}), text="I look."))
SEALER = Sealer(AesGcmCodec({"k": bytes(range(32))}))
WEATHER = described({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}, "test")


@pytest.fixture(params=["whole", "streamed"])
def ask(request):
    """Asks a model in one of the two ways; gives its answer as a sealed journal has it."""

    async def ask(messages, *models):
        asked = Request(
            models=models, messages=messages_of(messages, None, "test"), tools=(WEATHER,), retries=0,
            params={"reasoning_effort": "low"},
        )  # fmt: skip
        if request.param == "whole":
            return recorded(await provider.ask(asked))
        parts = [part async for part in provider.stream(asked)]
        assert "".join(part.text for part in parts) == parts[-1].response.text
        return recorded(parts[-1].response)

    return ask


def recorded(answer):
    """As it is read from a sealed journal."""
    body = journal.encode(StepCompleted(seq=1, name="llm:m", result=codec.loads(codec.dumps(answer, what="answer"))))
    return LLMResponse.model_validate(journal.decode(SEALER.open(SEALER.body(body, "r"), "r")).result)


def then(answer):
    """The conversation after the tool was called."""
    result = {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "sunny"}
    return [{"role": "user", "content": "How is it?"}, answer.message(), result]


async def test_signed_and_redacted_thoughts_go_back_as_they_came(models, ask):
    models.script("claude-sonnet-4-5", THOUGHTS, said("Sunny."))
    answer = await ask("How is it?", CLAUDE)
    assert (answer.text, answer.reasoning) == ("I look.", "Rome, I think.\n\nOr Milan?")
    assert (await ask(then(answer), CLAUDE)).text == "Sunny."
    assert models.requests[1]["messages"][1]["content"][:3] == list(THOUGHTS.thinking)


async def test_without_them_the_provider_refuses(models, ask):
    models.script("claude-sonnet-4-5", THOUGHTS, said("Sunny."))
    answer = await ask("How is it?", CLAUDE)
    older = LLMResponse.model_validate(answer.model_dump(exclude={"thinking"}))  # as it was recorded once
    assert "thinking" not in older.message()
    with pytest.raises(LLMRequestError, match="Expected `thinking`"):
        await ask(then(older), CLAUDE)


async def test_no_other_provider_gets_them(models, ask):
    models.script("claude-sonnet-4-5", THOUGHTS)
    models.script(GPT, said("Sunny."))
    answer = await ask("How is it?", CLAUDE)
    assert (await ask(then(answer), GPT)).text == "Sunny."
    assert set(models.requests[1]["messages"][1]) <= {"role", "content", "tool_calls"}


async def test_reasoning_that_is_not_signed_goes_back_as_text(models, ask):
    models.script(GPT, THOUGHTS, said("Sunny."))
    answer = await ask("How is it?", GPT)
    assert (answer.text, answer.reasoning) == ("I look.", "Rome, I think.  Or Milan?")
    await ask(then(answer), GPT)
    assert models.requests[1]["messages"][1]["reasoning_content"] == answer.reasoning


async def test_thoughts_that_hold_a_secret_are_left_out_since_masked_they_would_be_refused(models, ask):
    secret = made("thought of")
    MASKER.learn("pin", secret)
    try:
        models.script("claude-sonnet-4-5", thinking(f"It is {secret}.", "more", reply=THOUGHTS))
        answer = await ask("How is it?", CLAUDE)
    finally:
        MASKER.forget()
    assert (answer.text, answer.thinking) == ("I look.", {})


async def test_messages_that_call_something_else_thinking_are_left_alone():
    messages = [{"role": "assistant", "content": "x", "thinking": "aloud"}]
    assert provider.thinking.given_back(messages, "ollama") == messages

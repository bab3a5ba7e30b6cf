"""Models are asked over real HTTP, through LiteLLM as it is, at a provider that answers by script."""

from __future__ import annotations

import asyncio
import logging
import traceback
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from support.llm_server import (
    KEY,
    Gate,
    drop,
    garbage,
    gated,
    json_reply,
    said,
    status,
    tool_calls,
    using,
)
from support.secret_values import made
from support.waiting import until

from agnt5 import InvalidInputError, LLMError, LLMRequestError
from agnt5.llm import loading, provider
from agnt5.llm.failures import masked, wait_of
from agnt5.llm.messages import messages_of
from agnt5.llm.requests import Request, described
from agnt5.llm.responses import Usage

GIVEN, OTHER, PROMPT = made("given", prefix="sk-"), made("other"), made("prompt")

ADD = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a"]}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


@pytest.fixture
def waits():
    return []


@pytest.fixture
def chance(waits):
    """No chance, and no waiting: what would have been waited is noted."""

    async def sleep(seconds):
        waits.append(round(seconds, 3))

    return provider.Chance(number=lambda: 0.0, sleep=sleep)


def request(prompt="hi there", *models, system=None, **more):
    return Request(models=models or ("gpt-4o-mini",), messages=messages_of(prompt, system, "test"), **more)


async def chunks_of(asked, chance=provider.Chance()):
    texts, response = [], None
    async for chunk in provider.stream(asked, chance):
        if chunk.text:
            texts.append(chunk.text)
        response = chunk.response or response
    return texts, response


# ---- answers


async def test_an_answer_has_its_text_usage_cost_and_model(models):
    models.script("gpt-4o-mini", using(1000, 200, "hello big world"))
    answer = await provider.ask(request("hi there", system="be brief", params={"temperature": 0.5, "seed": 7}))
    assert (answer.text, answer.model, answer.finish_reason) == ("hello big world", "gpt-4o-mini", "stop")
    assert answer.usage == Usage(prompt_tokens=1000, completion_tokens=200)
    assert answer.usage.total_tokens == 1200
    assert answer.cost == pytest.approx(1000 * 0.15e-6 + 200 * 0.6e-6)
    (body,) = models.requests
    assert body["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi there"}]
    assert (body["temperature"], body["seed"]) == (0.5, 7)
    assert models.auth == [f"Bearer {KEY}"]


async def test_conversations_with_images_and_tool_calls_go_to_the_provider_as_they_are(models):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "cat"}'}}
    conversation = [
        {"role": "user", "content": [{"type": "text", "text": "what is this?"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
        {"role": "user", "content": "and now?"},
    ]
    await provider.ask(request(conversation))
    sent = models.requests[0]["messages"]
    assert sent[0] == conversation[0]
    assert sent[1]["tool_calls"] == [call]
    assert sent[2:] == conversation[2:]


async def test_a_model_without_a_known_price_has_no_cost(models):
    answer = await provider.ask(request("hi", "openai/our-own-model"))
    assert (answer.text, answer.cost, answer.model) == ("hi", None, "openai/our-own-model")


async def test_another_address_and_key_are_given_by_parameter(models, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    params = {"api_base": models.url, "api_key": SecretStr(GIVEN)}
    assert (await provider.ask(request("hi", params=params))).text == "hi"
    assert models.auth == [f"Bearer {GIVEN}"]


async def test_secret_texts_reach_the_provider_in_clear(models):
    prompt = [
        {"role": "user", "content": SecretStr("the code is 4711")},
        {"role": "user", "content": [{"type": "text", "text": SecretStr("and 0815")}]},
    ]
    await provider.ask(request(prompt, system=SecretStr("you are a vault")))
    sent = [message["content"] for message in models.requests[0]["messages"]]
    assert sent == ["you are a vault", "the code is 4711", [{"type": "text", "text": "and 0815"}]]


# ---- tools


TOOLS = (described({"type": "function", "function": {"name": "add", "parameters": ADD, "strict": True}}, "test"),)


async def test_tool_calls_come_with_their_arguments(models):
    models.script("gpt-4o-mini", tool_calls(("add", {"a": 1, "b": 2}), ("add", {"a": 3}), text="let me see"))
    answer = await provider.ask(request(tools=TOOLS, params={"tool_choice": "required"}))
    assert [(call.name, call.arguments, call.error) for call in answer.tool_calls] == [
        ("add", {"a": 1, "b": 2}, ""),
        ("add", {"a": 3}, ""),
    ]
    assert (answer.text, answer.finish_reason) == ("let me see", "tool_calls")
    assert len({call.id for call in answer.tool_calls}) == 2
    (body,) = models.requests
    assert body["tools"] == [{"type": "function", "function": {"name": "add", "parameters": ADD, "strict": True}}]
    assert body["tool_choice"] == "required"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("call", "told", "raw"),
    [
        (("add", '{"a": 1'), "arguments: not JSON", '{"a": 1'),
        (("add", {"b": 2}), "'a' is a required property", '{"b": 2}'),
        (("add", "[1]"), "expected an object", "[1]"),
        (("multiply", {"a": 1}), "there is no tool 'multiply'; there are: 'add'", '{"a": 1}'),
    ],
)
async def test_calls_that_do_not_fit_say_why_and_keep_what_was_written(models, call, told, raw, streamed):
    models.script("gpt-4o-mini", tool_calls(call))
    asked = request(tools=TOOLS)
    answer = (await chunks_of(asked))[1] if streamed else await provider.ask(asked)
    (made,) = answer.tool_calls
    assert told in made.error
    assert made.raw == raw


async def test_an_answer_goes_on_as_a_message_of_the_conversation(models):
    models.script("gpt-4o-mini", tool_calls(("add", {"a": 1})), "done")
    answer = await provider.ask(request(tools=TOOLS))
    result = {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "1"}
    await provider.ask(request([{"role": "user", "content": "add"}, answer.message(), result], tools=TOOLS))
    sent = models.requests[1]["messages"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}  # as the model wrote it
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]


# ---- streams


async def test_a_stream_gives_the_words_as_they_come_and_then_the_whole(models):
    models.script("gpt-4o-mini", said("one two", Gate("go"), " three"))
    stream = provider.stream(request())
    begin = [(await anext(stream)).text, (await anext(stream)).text]
    models.release("go")
    rest = [chunk async for chunk in stream]
    assert begin == ["one", " two"]
    assert [chunk.text for chunk in rest] == [" three", ""]
    answer = rest[-1].response
    assert (answer.text, answer.finish_reason, answer.model) == ("one two three", "stop", "gpt-4o-mini")
    assert answer.usage == Usage(prompt_tokens=2, completion_tokens=3)
    assert answer.cost == pytest.approx(2 * 0.15e-6 + 3 * 0.6e-6)


async def test_tool_calls_of_a_stream_are_put_together(models):
    models.script("gpt-4o-mini", tool_calls(("add", {"a": 1, "b": 2}), ("add", {"a": 3}), text="so"))
    texts, answer = await chunks_of(request(tools=TOOLS))
    assert texts == ["so"]
    assert [call.arguments for call in answer.tool_calls] == [{"a": 1, "b": 2}, {"a": 3}]
    assert answer.finish_reason == "tool_calls"


async def test_a_connection_that_breaks_in_mid_stream_is_not_tried_again(models, chance, waits):
    models.script("gpt-4o-mini", drop(after_chunks=2), "never")
    texts = []
    with pytest.raises(LLMError, match="the connection failed") as failed:
        async for chunk in provider.stream(request("hi", "gpt-4o-mini", "gpt-4o"), chance):
            texts.append(chunk.text)
    assert texts == ["one", " two"]
    assert not isinstance(failed.value, LLMRequestError)
    assert (models.count(), failed.value.status, waits) == (1, 0, [])


@pytest.mark.parametrize("broken", [status(500), garbage(), drop(after_chunks=0)])
async def test_what_fails_before_the_first_chunk_is_tried_again(models, chance, waits, broken):
    models.script("gpt-4o-mini", broken, broken, "at last")
    texts, answer = await chunks_of(request(), chance)
    assert (texts, answer.text) == (["at", " last"], "at last")
    assert waits == [0.5, 1.0]


async def test_a_reader_that_leaves_closes_the_connection(models):
    models.script("gpt-4o-mini", said("one two", Gate("never"), " three"))
    stream = provider.stream(request())
    await anext(stream)
    await stream.aclose()
    await until(lambda: models.left == 1)


# ---- what may pass


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (status(500, message="we are sorry"), "HTTP 500: we are sorry"),
        (status(503), "HTTP 503: the fake provider says 503"),
        (status(429), "HTTP 429: the fake provider says 429"),
        (garbage(), "the answer is malformed"),
        (garbage('{"choices": []}'), "the answer is malformed"),
        (drop(), "the connection failed"),
    ],
)
async def test_what_may_pass_is_tried_again_with_growing_waits(models, chance, waits, broken, told):
    models.script("gpt-4o-mini", broken)
    with pytest.raises(LLMError, match=told) as failed:
        await provider.ask(request(retries=3), chance)
    assert not isinstance(failed.value, LLMRequestError)
    assert failed.value.model == "gpt-4o-mini"
    assert (models.count(), waits) == (4, [0.5, 1.0, 2.0])
    models.script("gpt-4o-mini", broken, "fine")
    assert (await provider.ask(request(), chance)).text == "fine"


async def test_no_answer_in_time_is_tried_again_and_ends_the_connection(models, chance, waits):
    models.script("gpt-4o-mini", gated("never"), "in time")
    async with asyncio.timeout(15):
        assert (await provider.ask(request(timeout_s=0.3), chance)).text == "in time"
    await until(lambda: models.left == 1)
    models.script("gpt-4o-mini", said("one", Gate("never")))
    with pytest.raises(LLMError, match="no answer within 0.3 s") as failed:
        await chunks_of(request(timeout_s=0.3), chance)
    assert failed.value.status == 0


async def test_a_wait_that_the_provider_asks_for_is_kept(models, chance, waits):
    models.script("gpt-4o-mini", status(429, retry_after=7), status(503, retry_after=0.1), "fine")
    assert (await provider.ask(request(), chance)).text == "fine"
    assert waits == [7.0, 1.0]


async def test_a_long_wait_is_left_to_the_next_attempt_of_the_run(models, chance, waits):
    models.script("gpt-4o-mini", status(429, retry_after=90))
    with pytest.raises(LLMError) as failed:
        await provider.ask(request(), chance)
    assert (failed.value.retry_after, failed.value.status, models.count(), waits) == (90.0, 429, 1, [])


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Wed, 25 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 09:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_waits_are_read_in_all_their_forms(headers, wait):
    assert wait_of(headers, datetime(2026, 11, 25, 10, 0, tzinfo=UTC)) == wait


# ---- what does not pass


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (status(400, message="bad temperature"), "HTTP 400: bad temperature; check the messages and parameters"),
        (status(401, message="no such key"), "HTTP 401: no such key; set OPENAI_API_KEY for the workers"),
        (status(403), "the key in OPENAI_API_KEY may not use this model"),
        (status(404), "check the name of the model"),
        (status(422), "HTTP 422"),
        (status(400, message="This model's maximum context length is 10 tokens"), "send less"),
        (status(400, code="content_policy_violation", message="content_policy_violation"), "policy"),
        (status(429, code="insufficient_quota", message="insufficient_quota: pay"), "top it up"),
    ],
)  # fmt: skip
async def test_a_refusal_is_not_tried_again_and_says_what_to_do(models, chance, waits, refusal, told):
    models.script("gpt-4o-mini", refusal)
    with pytest.raises(LLMRequestError) as failed:
        await provider.ask(request(), chance)
    assert told in str(failed.value)
    assert waits == []
    assert models.count() == (2 if refusal.status == 422 else 1)  # LiteLLM itself leaves out what a 422 names


async def test_a_missing_key_says_which_variable_to_set(models, chance, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(LLMRequestError, match="set OPENAI_API_KEY for the workers"):
        await provider.ask(request(), chance)
    assert models.count() == 0


async def test_a_model_that_nobody_knows_says_so(models, chance):
    with pytest.raises(LLMRequestError, match="model nobody-knows-this: "):
        await provider.ask(request("hi", "nobody-knows-this"), chance)


# ---- fallbacks


@pytest.mark.parametrize("broken", [status(500), status(404), status(429, retry_after=90)])
async def test_the_next_model_is_asked_when_one_does_not_answer(models, chance, broken):
    models.script("gpt-4o-mini", broken)
    answer = await provider.ask(request("hi", "gpt-4o-mini", "gpt-4o", retries=1), chance)
    assert (answer.model, answer.text) == ("gpt-4o", "hi")
    texts, answer = await chunks_of(request("hi", "gpt-4o-mini", "gpt-4o", retries=1), chance)
    assert (answer.model, texts) == ("gpt-4o", ["hi"])


async def test_when_no_model_answers_each_says_why(models, chance):
    models.script("gpt-4o-mini", status(429, retry_after=90))
    models.script("gpt-4o", status(401))
    with pytest.raises(LLMError, match=r"gpt-4o-mini: HTTP 429.* \| .*gpt-4o: HTTP 401") as failed:
        await provider.ask(request("hi", "gpt-4o-mini", "gpt-4o"), chance)
    assert not isinstance(failed.value, LLMRequestError)  # one of them may answer later
    assert failed.value.retry_after == 90.0
    models.script("gpt-4o-mini", status(403))
    with pytest.raises(LLMRequestError):
        await provider.ask(request("hi", "gpt-4o-mini", "gpt-4o"), chance)


# ---- schemas as the provider is told of them


async def test_a_model_that_knows_schemas_gets_it_and_one_that_does_not_gets_words(models):
    models.script("gpt-4o-mini", json_reply({"name": "Ann"}))
    await provider.ask(request(schema=PERSON))
    told = models.requests[0]
    assert told["response_format"]["json_schema"] == {"name": "answer", "schema": PERSON, "strict": False}
    assert len(told["messages"]) == 1
    await provider.ask(request("hi", "openai/our-own-model", schema=PERSON, system="be brief"))
    told = models.requests[1]
    assert told["response_format"] == {"type": "json_object"}
    assert told["messages"][0]["content"].startswith("be brief\n\nAnswer with JSON only")
    await provider.ask(request("hi", schema={"type": "array", "items": {"type": "string"}}))  # objects only
    told = models.requests[2]
    assert "response_format" not in told
    assert '"type": "array"' in told["messages"][0]["content"]


# ---- secrets


@pytest.mark.parametrize("streamed", [False, True])
async def test_errors_and_logs_have_no_key_and_no_secret(models, chance, caplog, monkeypatch, capfd, streamed):
    monkeypatch.setenv("OTHER_API_KEY", OTHER)
    words = f"{KEY} {GIVEN} {OTHER} {PROMPT} Bearer abc sk-unknown12345"
    models.script("gpt-4o-mini", status(401, message=f"bad: {words}"))
    asked = request([{"role": "user", "content": SecretStr(PROMPT)}], params={"api_key": GIVEN})
    with caplog.at_level(logging.INFO), pytest.raises(LLMRequestError) as failed:
        await (chunks_of(asked, chance) if streamed else provider.ask(asked, chance))
    shown = "".join(traceback.format_exception(failed.value)) + caplog.text + "".join(capfd.readouterr()) + repr(asked)
    assert "HTTP 401: bad: *** *** *** *** *** ***; set OPENAI_API_KEY" in str(failed.value)
    for word in words.split():
        assert word == "Bearer" or word not in shown
    assert failed.value.__context__ is None


def test_a_long_message_is_cut():
    assert len(masked("x" * 10_000, [])) < 600


# ---- what identifies a question


def test_digests_tell_questions_apart_and_do_not_hold_secrets():
    one = request("hi", params={"temperature": 1, "api_key": "sk-1"})
    assert one.digest() == request("hi", params={"api_key": "sk-2", "temperature": 1}, timeout_s=3).digest()
    assert one.digest() == "fd2f9edb8645e10aa48f0db7"  # in each process, and in each release
    others = [
        request("hi!", params={"temperature": 1}),
        request("hi", "gpt-4o", params={"temperature": 1}),
        request("hi", params={"temperature": 0}),
        request("hi", params={"temperature": 1}, tools=TOOLS),
        request("hi", params={"temperature": 1}, schema=PERSON),
        request(SecretStr("hi"), params={"temperature": 1}),
        request(SecretStr("ho"), params={"temperature": 1}),
    ]
    assert len({one.digest(), *(other.digest() for other in others)}) == 8


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (17, "test: prompt: expected text, a SecretStr or a list of messages, found a int"),
        (None, "prompt: expected text, a SecretStr or a list of messages, found nothing"),
        ([], "a list without messages"),
        (["hi"], r"prompt\[0\]: expected a message as"),
        ([{"role": "robot", "content": "hi"}], r"prompt\[0\].role: expected one of system, .* found 'robot'"),
        ([{"role": "user"}], r"prompt\[0\].content: expected text, a SecretStr or a list of parts, found nothing"),
        ([{"role": "user", "content": 1}], "found a int"),
        ([{"role": "user", "content": ["hi"]}], r"content\[0\]: expected a part as"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"content\[0\].text: expected text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], r"content\[0\].image_url: expected an address"),
        ([{"role": "tool", "content": "x"}], "tool_call_id: the id of the tool call"),
        ([{"role": "user", "content": "x", "extra": object()}], r"prompt\[0\].extra: expected plain data"),
    ],
)
def test_a_prompt_that_is_none_says_where_and_what_is_expected(prompt, told):
    with pytest.raises(InvalidInputError, match=told):
        request(prompt)


# ---- loading


async def test_litellm_is_loaded_once_beside_the_loop_and_set_up(models, monkeypatch):
    first, second = await asyncio.gather(loading.litellm(), loading.litellm())
    assert first is second is loading.loaded()
    assert first.suppress_debug_info and first.drop_params and not first.telemetry
    assert logging.getLogger("httpx").level == logging.WARNING
    assert logging.getLogger("LiteLLM").level == logging.CRITICAL


async def test_a_missing_litellm_says_what_to_install(monkeypatch):
    monkeypatch.setattr(loading, "_loaded", None)
    monkeypatch.setattr(loading, "_loading", None)
    monkeypatch.setitem(__import__("sys").modules, "litellm", None)
    with pytest.raises(Exception, match=r"pip install 'agnt5-celery\[llm\]'") as failed:
        await provider.ask(request())
    assert type(failed.value).__name__ == "ConfigurationError"


async def test_many_questions_are_asked_side_by_side(models):
    models.script("gpt-4o-mini", gated("all"))
    asking = [asyncio.create_task(provider.ask(request(str(number)))) for number in range(100)]
    await asyncio.to_thread(models.wait_held, "all", 100, 30.0)
    models.release("all")
    assert {answer.text for answer in await asyncio.gather(*asking)} == {"released"}

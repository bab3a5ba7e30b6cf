"""`ctx.llm` in functions, entities and workflows: what is recorded, found again, streamed, corrected and paid."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from datetime import date

import pytest
from contexts import T0, Flow, NoHost, Recorder, entity_ctx, function_ctx
from pydantic import BaseModel, SecretStr
from support.llm_server import Gate, drop, json_reply, said, status, tool_calls, using
from support.waiting import until

from agnt5 import (
    Budget,
    BudgetExceededError,
    InvalidInputError,
    LLMError,
    LLMRequestError,
    LLMResponse,
    StructuredOutputError,
    codec,
)
from agnt5.contracts.budgets import Reserved
from agnt5.contracts.errors import StepFailedError, error_data, from_data
from agnt5.replay.commands import RunStep, StartTimer
from agnt5.replay.events import StepCompleted, StepFailed, TimerFired, TimerStarted
from agnt5.replay.outcomes import Failed
from agnt5.sdk.contexts import FunctionContext
from agnt5.sdk.llm_stream import ROOM
from agnt5.sdk.port import ModelCall, RunInfo

MODEL = "gpt-4o-mini"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


class Person(BaseModel):
    name: str
    born: date | None = None


class Purse(NoHost):
    """A host that notes what is held and spent; `limit` tokens may be held."""

    def __init__(self, limit: int = 10**9) -> None:
        self.limit = limit
        self.held: list[tuple[str, int, float | None]] = []
        self.spent: list[tuple[int, int, float | None]] = []

    async def reserve(self, budgets, operation, estimate):
        if estimate.tokens > self.limit:
            raise BudgetExceededError("no more", scope=str(budgets[0].scope), what="tokens", limit=self.limit)
        self.held.append((operation, estimate.tokens, estimate.cost))
        return Reserved(tuple(budgets), "n")

    async def settle(self, reserved, spent):
        assert reserved.budgets
        self.spent.append((spent.requests, spent.tokens, spent.cost))


class Listener(NoHost):
    """A host that notes the calls of models, and what left them."""

    def __init__(self) -> None:
        self.told: list[tuple[ModelCall, str]] = []

    @contextlib.contextmanager
    def asks(self, call):
        error = ""
        try:
            yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            self.told.append((call, error))


class Book(Recorder):
    """A function's port over attempts: what a step gave is found again by name, key and number, in its JSON form."""

    def __init__(self, kept=None):
        super().__init__()
        self.kept = {} if kept is None else kept
        self.counts = Counter()

    def step(self, name, fn, key=""):
        self.counts[name, key] += 1
        place = (name, key, self.counts[name, key])

        async def run():
            if place not in self.kept:
                self.kept[place] = codec.dumps(await fn(), what="step")
            return codec.loads(self.kept[place])

        return asyncio.ensure_future(run())


def context(kept=None, host=None, **info):
    """The context of one attempt of a function."""
    values = {"run_id": "r", "handler": "shop.price", "kind": "function"} | info
    return FunctionContext(RunInfo(**values), Book(kept), host or NoHost())


async def drain(stream):
    return [chunk.text async for chunk in stream]


# ---- recorded


async def test_an_answer_is_recorded_under_its_models_name_and_found_again(models):
    models.script(MODEL, "first", "second", "third")
    kept = {}
    for _ in range(2):
        ctx = context(kept)
        answers = [await ctx.llm.generate("hi", MODEL), await ctx.llm.generate("hi", [MODEL, "gpt-4o"], key="k")]
        assert [answer.text for answer in answers] == ["first", "second"]
        assert all(type(answer) is LLMResponse for answer in answers)
    assert models.count() == 2
    (digest, _), _ = ((key, name) for name, key, _ in kept)
    assert {(name, key) for name, key, _ in kept} == {(f"llm:{MODEL}", digest), (f"llm:{MODEL}", "k")}
    assert len(digest) == 24


async def test_answers_that_come_in_another_order_find_their_own_questions(models):
    kept = {}
    for order in (["a", "b", "c"], ["c", "a", "b"]):
        ctx = context(kept)
        answers = await asyncio.gather(*(ctx.llm.generate(f"say {word}", MODEL) for word in order))
        assert [answer.text for answer in answers] == [f"say {word}" for word in order]
    assert models.count() == 3


async def test_entities_ask_as_functions_do(models):
    ctx, port = entity_ctx()
    assert (await ctx.llm.generate("hi", MODEL)).text == "hi"
    assert await drain(ctx.llm.stream("hi you", MODEL)) == ["hi", " you", ""]
    assert [asked[:2] for asked in port.asked] == [("step", f"llm:{MODEL}")] * 2


async def run_flow(flow):
    """Run the steps of a workflow as a host does, until it ends."""
    while flow.outcome is None:
        for command in flow.commands:
            assert isinstance(command, RunStep)
            try:
                value = codec.loads(codec.dumps(await command.fn(), what="step"))
                event = StepCompleted(seq=command.seq, name=command.name, result=value)
            except Exception as error:
                event = StepFailed(seq=command.seq, name=command.name, error=error_data(error))
            flow.feed(event)
    return flow.end()


async def test_a_workflow_replays_without_asking_again(models):
    models.script(MODEL, "one", json_reply({"name": "Ann"}), "three four")

    async def body(ctx):
        answer = await ctx.llm.generate("hi", MODEL)
        person = await ctx.llm.generate("who?", MODEL, schema=Person)
        texts = [chunk.text async for chunk in await ctx.llm.stream("go on", MODEL)]
        return {"text": answer.text, "name": person.object.name, "texts": texts}

    # `end` replays the whole journal on a machine without a host
    assert await run_flow(Flow(body)) == {"text": "one", "name": "Ann", "texts": ["three four", ""]}
    assert models.count() == 3


@pytest.mark.parametrize(("code", "kind"), [(500, LLMError), (404, LLMRequestError)])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_workflow_gets_the_errors_of_models_as_they_were_raised(models, code, kind, streamed):
    models.script(MODEL, status(code, message="sorry"))
    seen = []

    async def body(ctx):
        try:
            if streamed:
                return [chunk.text async for chunk in ctx.llm.stream("hi", MODEL, retries=0)]
            return (await ctx.llm.generate("hi", MODEL, retries=0)).text
        except LLMError as error:
            seen.append((type(error), error.status, error.model))
            raise

    outcome = await run_flow(Flow(body))
    assert isinstance(outcome, Failed)
    assert seen == [(kind, code, MODEL)] * 2  # as it ran, and as it was replayed
    assert models.count() == 1


async def waits_of(flow, most=9):
    """Run a workflow's steps; its timers come due as soon as they are set. Gives the seconds they were set for."""
    waits, now_ms = [], T0
    while flow.outcome is None and len(waits) < most:
        (command,) = [one for one in flow.commands if isinstance(one, RunStep | StartTimer)]
        if isinstance(command, StartTimer):
            waits.append((command.due_ms - now_ms) / 1000)
            now_ms = command.due_ms
            flow.feed(TimerFired(at=now_ms, seq=command.seq))
            continue
        try:
            value = codec.loads(codec.dumps(await command.fn(), what="step"))
            flow.feed(StepCompleted(at=now_ms, seq=command.seq, name=command.name, result=value))
        except Exception as error:
            flow.feed(StepFailed(at=now_ms, seq=command.seq, name=command.name, error=error_data(error)))
    return waits


async def hello(ctx, *models, **options):
    return (await ctx.llm.generate("hello", models or MODEL, **options)).text


async def test_a_workflow_waits_by_a_timer_where_the_provider_asks_for_long(models):
    models.script(MODEL, status(429, retry_after=30), status(503, retry_after=600), "free now")
    flow = Flow(hello)
    waits = await waits_of(flow)
    assert [asked <= wait <= asked * 1.05 for asked, wait in zip((30, 600), waits, strict=True)] == [True, True]
    assert flow.end() == "free now"
    assert models.count() == 3


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (2, 3)])
async def test_it_waits_no_more_often_than_it_may_ask_again(models, retries, asked):
    models.script(MODEL, status(429, retry_after=30))
    flow = Flow(lambda ctx: hello(ctx, retries=retries))
    assert len(await waits_of(flow)) == retries
    assert isinstance(flow.end(), Failed)
    assert models.count() == asked


async def test_another_model_is_asked_before_anything_waits(models):
    models.script(MODEL, status(429, retry_after=90))
    models.script("gpt-4.1", "at once")
    flow = Flow(lambda ctx: hello(ctx, MODEL, "gpt-4.1"))
    assert (await waits_of(flow), flow.end()) == ([], "at once")


async def test_a_workflow_that_was_told_before_there_were_such_waits_goes_on_as_it_did():
    async def body(ctx):
        try:
            return await hello(ctx)
        except LLMError:
            await ctx.sleep(1)
            return "without"

    flow, error = Flow(body), LLMError("HTTP 429", model=MODEL, status=429, retry_after=90.0)
    told = StepFailed(at=T0, seq=1, name=f"llm:{MODEL}", error=error_data(error))
    flow.feed(told, TimerStarted(at=T0, seq=2, due_ms=T0 + 1000, name="sleep"), TimerFired(at=T0, seq=2))
    assert flow.end() == "without"


def test_recorded_errors_of_models_keep_what_they_know():
    error = LLMError("model m: HTTP 429", model="m", status=429, retry_after=90.0)
    data = codec.loads(codec.dumps(error_data(error), what="error"))
    assert data["details"] == {"model": "m", "status": 429, "retry_after": 90.0}
    assert from_data(data, StepFailedError).details == data["details"]


# ---- streams


async def test_a_stream_comes_live_and_is_recorded_as_a_whole(models):
    models.script(MODEL, said("one two", Gate("go"), " three"))
    kept = {}
    stream = await context(kept).llm.stream("hi", MODEL)
    assert [(await anext(stream)).text, (await anext(stream)).text] == ["one", " two"]
    assert (kept, stream.response) == ({}, None)
    models.release("go")
    rest = [chunk async for chunk in stream]
    assert [chunk.text for chunk in rest] == [" three", ""]
    assert rest[-1].response is stream.response
    assert stream.response.text == "one two three"
    assert len(kept) == 1
    # a later attempt, which leaves the await out
    stream = context(kept).llm.stream("hi", MODEL)
    assert await drain(stream) == ["one two three", ""]
    assert stream.response.text == "one two three"
    assert (await context(kept).llm.generate("hi", MODEL)).text == "one two three"
    assert models.count() == 1


async def test_a_stream_that_breaks_is_not_recorded(models):
    models.script(MODEL, drop(after_chunks=1), "fine")
    kept, texts = {}, []
    with pytest.raises(LLMError, match="the connection failed"):
        async for chunk in context(kept).llm.stream("hi", MODEL):
            texts.append(chunk.text)
    assert (texts, kept) == (["one"], {})
    assert await drain(context(kept).llm.stream("hi", MODEL)) == ["fine", ""]


@pytest.mark.parametrize("way", ["dropped", "closed", "with"])
async def test_who_leaves_a_stream_closes_its_connection(models, way):
    models.script(MODEL, said("one two", Gate("never"), " three"))
    kept = {}
    ctx = context(kept)
    if way == "dropped":
        async for _ in await ctx.llm.stream("hi", MODEL):
            break
        gc.collect()
    elif way == "closed":
        stream = ctx.llm.stream("hi", MODEL)
        await anext(stream)
        await stream.aclose()
        assert [chunk async for chunk in stream] == []
    else:
        async with ctx.llm.stream("hi", MODEL) as stream:
            await anext(stream)
    await until(lambda: models.left == 1)
    assert kept == {}


async def test_a_slow_reader_holds_up_the_step_and_gets_every_word(models):
    words = [f"{' ' if number else ''}w{number}" for number in range(4 * ROOM)]
    models.script(MODEL, "".join(words))
    stream = await context().llm.stream("hi", MODEL)
    assert (await anext(stream)).text == "w0"
    await until(lambda: len(stream._relay._chunks) == ROOM)
    assert not stream._step.done()
    assert await drain(stream) == [*words[1:], ""]


async def test_a_stream_nobody_reads_asks_nothing(models):
    context().llm.stream("hi", MODEL)
    assert models.count() == 0


async def test_a_stream_with_a_schema_ends_with_the_object_or_says_that_it_does_not_fit(models):
    models.script(MODEL, json_reply({"name": "Ann", "born": "2001-02-03"}), "no json")
    stream = context().llm.stream("who?", MODEL, schema=Person)
    assert "".join(await drain(stream)) == '{"name": "Ann", "born": "2001-02-03"}'
    assert stream.response.object == Person(name="Ann", born=date(2001, 2, 3))
    with pytest.raises(StructuredOutputError, match="streams are not corrected"):
        await drain(context().llm.stream("who?", MODEL, schema=PERSON))


# ---- schemas


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ann", "age": 41}',
        '```json\n{"name": "Ann", "age": 41}\n```',
        'Here you are:\n```\n{"name": "Ann", "age": 41}\n```\nAnything else?',
        'Sure! {"name": "Ann", "age": 41} is what I found.',
        'As in {"like": "this"}: {"name": "Ann", "age": 41}',
    ],
)
async def test_an_object_is_found_in_what_models_write_around_it(models, text):
    models.script("our-own-model", text)
    answer = await context().llm.generate("who?", "openai/our-own-model", schema=PERSON)
    assert answer.object == {"name": "Ann", "age": 41}
    assert (answer.text, models.count()) == (text, 1)


async def test_a_number_is_found_where_it_is_fenced_as_code(models):
    models.script(MODEL, "The answer:\n```json\n42\n```")
    assert (await context().llm.generate("how many?", MODEL, schema={"type": "integer"})).object == 42


async def test_a_model_class_comes_back_as_its_instance_in_each_attempt(models):
    models.script(MODEL, json_reply({"name": "Ann", "born": "2001-02-03"}))
    kept = {}
    for _ in range(2):
        answer = await context(kept).llm.generate("who?", MODEL, schema=Person)
        assert answer.object == Person(name="Ann", born=date(2001, 2, 3))
    assert models.requests[0]["response_format"]["json_schema"]["schema"] == Person.model_json_schema()
    assert models.count() == 1
    assert codec.loads(codec.dumps(answer, what="result"))["object"] == {"name": "Ann", "born": "2001-02-03"}


@pytest.mark.parametrize(
    ("schema", "wrong", "told"),
    [
        (PERSON, '{"age": "old"}', "'name' is a required property; data.age: 'old' is not of type 'integer'"),
        (PERSON, "I do not know", "the answer is not JSON"),
        (PERSON, "[NaN]", "the answer is not JSON"),
        (Person, '{"name": "Ann", "born": "early"}', "data.born: Input should be a valid date"),
    ],
)
async def test_a_wrong_answer_goes_back_once_with_what_is_wrong(models, schema, wrong, told):
    models.script(MODEL, using(10, 5, wrong), using(20, 5, json_reply({"name": "Ann"})))
    kept = {}
    for _ in range(2):
        answer = await context(kept).llm.generate("who?", MODEL, schema=schema, key="who")
        assert answer.object in ({"name": "Ann"}, Person(name="Ann"))
        assert answer.usage.total_tokens == 40
        assert answer.cost == pytest.approx(30 * 0.15e-6 + 10 * 0.6e-6)
    assert {key for _, key, _ in kept} == {"who", "who.repair"}
    question, repair = models.requests
    assert repair["messages"][:-1] == [*question["messages"], {"role": "assistant", "content": wrong}]
    assert told in repair["messages"][-1]["content"]


async def test_an_answer_that_is_wrong_twice_fails_with_its_text(models):
    models.script(MODEL, '{"age": 1}', '{"age": 2}')
    kept = {}
    for _ in range(2):
        with pytest.raises(StructuredOutputError, match="'name' is a required property") as failed:
            await context(kept).llm.generate("who?", MODEL, schema=PERSON)
        assert failed.value.text == '{"age": 2}'
    assert models.count() == 2


async def test_a_model_that_calls_a_tool_first_is_not_held_to_the_schema(models):
    models.script(MODEL, tool_calls(("look", {})))

    def look() -> str: ...

    answer = await context().llm.generate("who?", MODEL, schema=PERSON, tools=[look])
    assert (answer.object, answer.tool_calls[0].name, answer.tool_calls[0].error) == (None, "look", "")


# ---- tools


async def test_tools_are_what_is_registered_functions_and_descriptions(models):
    ctx = context()

    def add(a: int, b: int = 0) -> int:
        """Add numbers."""

    ctx.tools.register("named", add)
    own = {"type": "function", "function": {"name": "own", "parameters": {"type": "object", "properties": {}}}}
    await ctx.llm.generate("hi", MODEL, tools=[add, "named", own])
    sent = models.requests[0]["tools"]
    assert [tool["function"]["name"] for tool in sent] == ["add", "named", "own"]
    assert sent[0]["function"]["description"] == "Add numbers."
    assert sent[2] == own


# ---- budgets


async def test_a_call_holds_what_it_will_probably_take_and_pays_what_it_took(models):
    models.script(MODEL, using(1000, 200, "hello"))
    purse = Purse()
    ctx = context(host=purse, run_id="r-7")
    await ctx.llm.generate("x" * 400, MODEL, max_tokens=50, budget=Budget(tokens=10_000))
    await ctx.llm.generate("x" * 400, MODEL, budget=[Budget(tokens=10_000), Budget(key="acme", cost=1.0)])
    (first, tokens, cost), (second, more, _) = purse.held
    assert 150 <= tokens <= 170
    assert more - tokens == 1024 - 50
    assert cost == pytest.approx((tokens - 50) * 0.15e-6 + 50 * 0.6e-6)
    assert first.startswith(f"r-7/0//llm:{MODEL}/")
    assert first != second
    assert purse.spent == [(1, 1200, pytest.approx(1000 * 0.15e-6 + 200 * 0.6e-6))] * 2


async def test_operations_are_the_same_in_each_attempt_and_differ_within_one(models):
    held = []
    for _ in range(2):
        purse = Purse()
        ctx = context(host=purse)
        for _ in range(2):
            await ctx.llm.generate("hi", MODEL, budget=Budget(requests=5))
        held.append([operation for operation, _, _ in purse.held])
    assert held[0] == held[1]
    assert len(set(held[0])) == 2


async def test_a_call_that_failed_costs_a_request_and_nothing_else(models):
    models.script(MODEL, status(404))
    purse = Purse()
    with pytest.raises(LLMRequestError):
        await context(host=purse).llm.generate("hi", MODEL, budget=Budget(tokens=10))
    assert purse.spent == [(1, 0, 0.0)]


async def test_a_call_that_was_cut_short_costs_what_was_expected(models):
    models.script(MODEL, said("one two", Gate("never")))
    purse = Purse()
    stream = await context(host=purse).llm.stream("hi", MODEL, budget=Budget(tokens=10_000))
    await anext(stream)
    await stream.aclose()
    ((_, tokens, cost),) = purse.held
    assert purse.spent == [(1, tokens, cost)]


async def test_a_call_over_budget_is_not_made(models):
    kept, purse = {}, Purse(limit=100)
    with pytest.raises(BudgetExceededError):
        await context(kept, host=purse).llm.generate("hi", MODEL, budget=Budget(tokens=100))
    assert (models.count(), kept, purse.spent) == (0, {}, [])

    async def body(ctx):
        ctx._host = ctx.llm._host = purse
        try:
            await ctx.llm.generate("hi", MODEL, budget=Budget(tokens=100))
        except BudgetExceededError as error:
            return [error.what, error.limit, error.scope]

    assert await run_flow(Flow(body)) == ["tokens", 100, "tree:order-17"]


# ---- checks


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": ""}, "ctx.llm.generate: model: expected the name of a model"),
        ({"model": []}, "model: expected the name"),
        ({"model": [MODEL, 3]}, "model: expected the name"),
        ({"prompt": 3}, "ctx.llm.generate: prompt: expected text"),
        ({"system": 3}, "system: expected text, found a int"),
        ({"schema": "x"}, "schema: expected a JSON Schema or a pydantic model class"),
        ({"schema": {"type": "thing"}}, "no JSON Schema"),
        ({"tools": "add"}, "tools: expected a list"),
        ({"tools": [{"name": "x"}]}, r"tools\[0\]: expected {\"type\": \"function\""),
        ({"tools": [{"type": "function", "function": {}}]}, r"tools\[0\]: expected a function with a name"),
        ({"timeout": 0}, "more than 0 s are needed"),
        ({"timeout": "soon"}, "timeout: a non-negative timedelta or number of seconds"),
        ({"retries": -1}, "retries: a number from 0 to 100"),
        ({"key": ""}, "key: text of 1 to 200 characters"),
        ({"budget": 3}, "budget: an agnt5.Budget or a list of them"),
        ({"stream": True}, r"stream= is not taken: use ctx.llm.stream"),
        ({"n": 2}, "n= is not taken"),
        ({"num_retries": 2}, "give retries="),
    ],
)
async def test_wrong_arguments_say_what_is_expected_before_anything_is_asked(options, told):
    ctx, port = function_ctx()
    with pytest.raises(InvalidInputError, match=told):
        await ctx.llm.generate(**{"prompt": "hi", "model": MODEL} | options)
    assert port.asked == []


async def test_a_wrong_message_does_not_show_a_secret():
    ctx, _ = function_ctx()
    with pytest.raises(InvalidInputError) as failed:
        await ctx.llm.generate([SecretStr("4711")], MODEL)
    assert "4711" not in str(failed.value)


# ---- what is told of calls


async def test_calls_that_happen_are_told_and_recorded_ones_are_not(models):
    kept, listener = {}, Listener()
    for _ in range(2):
        await context(kept, host=listener, run_id="r-7").llm.generate("hi", MODEL, temperature=0.5)
    ((call, error),) = listener.told
    assert (call.run.run_id, call.request.models, call.request.params) == ("r-7", (MODEL,), {"temperature": 0.5})
    assert (call.streamed, call.first_chunk_s, error) == (False, None, "")
    assert (call.response.model, call.response.finish_reason) == (MODEL, "stop")
    assert call.response.usage.prompt_tokens > 0


async def test_the_time_of_a_streams_first_chunk_is_told_and_what_ended_it(models):
    models.script(MODEL, said("one two"), status(404))
    listener = Listener()
    async for _ in context(host=listener).llm.stream("hi", MODEL):
        pass
    with pytest.raises(LLMRequestError):
        await context(host=listener).llm.generate("again", MODEL)
    (streamed, _), (failed, error) = listener.told
    assert streamed.streamed
    assert streamed.begun_s <= streamed.first_chunk_s <= asyncio.get_running_loop().time()
    assert streamed.response.text == "one two"
    assert (failed.response, error) == (None, "LLMRequestError")

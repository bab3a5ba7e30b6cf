"""ctx.llm.run_tools: what goes to the model and back, what is recorded, and what a later attempt finds again."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from contexts import T0, Flow, entity_ctx, function_ctx, shop_handlers
from pydantic import SecretStr
from tools_kit import Attempts, Provider, calls, drive, says

from agnt5 import Context, ToolsResponse, entity, tool
from agnt5.contracts.errors import (
    BudgetExceededError,
    InvalidInputError,
    NonRetryableError,
    SerializationError,
    StructuredOutputError,
    ToolLoopError,
    WrongContextError,
)
from agnt5.llm.responses import ToolCall
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev
from agnt5.replay.outcomes import Failed
from agnt5.sdk.tool_calls import RESULT_LIMIT
from agnt5.sdk.tool_loop import CALLS_LIMIT


@pytest.fixture(autouse=True)
def handlers():
    with shop_handlers() as handlers:
        Cart = entity("Cart")

        @Cart.write
        async def add(ctx: Context, sku: str) -> int: ...

        yield handlers


@pytest.fixture
def provider(monkeypatch):
    return lambda *answers: Provider(*answers).install(monkeypatch)


WEATHER = calls(("c1", "weather", {"city": "Rome"}), text="Let me see.")


def weather(city: str) -> dict:
    """How the weather is."""
    return {"city": city, "sun": True}


def in_workflow(tools, prompt="How is it?", **options) -> Flow:
    async def fn(ctx):
        return await ctx.llm.run_tools(prompt, "m", tools, **options)

    return Flow(fn)


def failed(flow: Flow) -> Exception:
    assert isinstance(flow.outcome, Failed), flow.outcome
    return flow.outcome.error


# ---- the conversation


def test_a_model_asks_is_told_and_answers(provider):
    model = provider(WEATHER, says("Sunny."))
    found = drive(in_workflow([weather], system="Be brief.")).end()
    assert isinstance(found, ToolsResponse)
    assert ToolsResponse.model_validate_json(found.model_dump_json()) == found  # as a client reads it
    assert (found.text, found.rounds, found.tool_calls, found.model) == ("Sunny.", 2, [], "m")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.cost) == (30, 5, 0.75)
    assert found.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is it?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"city":"Rome","sun":true}'},
        {"role": "assistant", "content": "Sunny."},
    ]
    assert model.asked[1]["messages"] == found.messages[:-1]
    assert [one.name for one in model.asked[0]["tools"]] == ["weather"]


def test_the_calls_go_back_as_the_provider_gave_them(provider):
    raw = '{ "city" : "Rome" }'
    asks = calls(("c1", "weather", {"city": "Rome"}))
    asks = asks.model_copy(update={"tool_calls": [asks.tool_calls[0].model_copy(update={"raw": raw})]})
    model = provider(asks, says("Sunny."))
    drive(in_workflow([weather])).end()
    assert model.asked[1]["messages"][1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": raw}}],
    }


def test_a_price_that_is_not_known_makes_the_whole_unknown(provider):
    provider(WEATHER, says("Sunny.", cost=None))
    assert drive(in_workflow([weather])).end().cost is None


def test_messages_are_taken_as_they_are_and_secrets_are_masked_in_the_answer(provider):
    model = provider(says("ok"))
    prompt = [{"role": "user", "content": [{"type": "text", "text": SecretStr("my pin is 1234")}]}]
    found = drive(in_workflow([weather], prompt=prompt)).end()
    assert model.asked[0]["messages"][0]["content"][0]["text"].get_secret_value() == "my pin is 1234"
    assert found.messages[0] == {"role": "user", "content": [{"type": "text", "text": "**********"}]}
    assert len(prompt) == 1


def test_options_reach_each_question_and_a_forced_call_only_the_first(provider):
    model = provider(WEATHER, WEATHER, says("ok"))
    options = {"schema": {"type": "object"}, "temperature": 0.5, "tool_choice": "required", "key": "k", "budget": ()}
    drive(in_workflow([weather], **options)).end()
    assert [one["tool_choice"] for one in model.asked] == ["required", "auto", "auto"]
    assert [one["key"] for one in model.asked] == ["k.1", "k.2", "k.3"]
    assert all(one["temperature"] == 0.5 and one["schema"] == {"type": "object"} for one in model.asked)


# ---- calls side by side


def test_the_calls_of_one_answer_are_asked_at_once_and_answered_in_order(provider):
    asks = calls(("a", "weather", {"city": "A"}), ("b", "weather", {"city": "B"}), ("c", "weather", {"city": "C"}))
    model = provider(says("ok"))
    flow = in_workflow([weather])
    flow.feed(ev.StepCompleted(at=T0, seq=1, name="llm:m", result=asks.model_dump()))
    assert [type(one) for one in flow.commands] == [cmd.RunStep] * 3
    for seq, city in ((4, "C"), (2, "A"), (3, "B")):  # they end in another order
        flow.feed(ev.StepCompleted(at=T0, seq=seq, name="tool:weather", result={"result": city}))
    drive(flow).end()
    assert model.told() == ["A", "B", "C"]


async def test_in_functions_they_run_side_by_side(provider):
    met = threading.Barrier(2, timeout=5)

    def meet(who: str) -> str:
        met.wait()
        return who

    async def ameet(who: str) -> str:
        await asyncio.get_running_loop().run_in_executor(None, met.wait)
        return who

    ctx, port = function_ctx()
    inner = port.step
    port.step = lambda name, fn, key="": inner(  # sync steps in threads, as the host has it
        name, fn if asyncio.iscoroutinefunction(fn) else lambda: asyncio.to_thread(fn), key
    )
    model = provider(calls(("a", "meet", {"who": "x"}), ("b", "ameet", {"who": "y"})), says("ok"))
    found = await ctx.llm.run_tools("go", "m", [meet, ameet])
    assert (found.text, model.told()) == ("ok", ["x", "y"])


def test_more_calls_than_the_limit_are_not_made(provider):
    asks = calls(*((f"c{number}", "weather", {"city": str(number)}) for number in range(CALLS_LIMIT + 2)))
    model = provider(asks, says("ok"))
    drive(in_workflow([weather])).end()
    told = model.told()
    assert json.loads(told[CALLS_LIMIT - 1]) == {"city": str(CALLS_LIMIT - 1), "sun": True}
    assert len(told) == CALLS_LIMIT + 2
    assert all("at most 64 calls of one answer are made" in one for one in told[CALLS_LIMIT:])


# ---- what goes wrong goes to the model


def test_unknown_tools_and_bad_arguments_go_back_as_errors_and_nothing_is_called(provider):
    bad = ToolCall(id="b", name="weather", error="arguments: 'city' is a required property", raw="{}")
    asks = calls(("a", "wether", {}), ("c", "weather", {"city": "C"}))
    asks = asks.model_copy(update={"tool_calls": [*asks.tool_calls, bad]})
    model = provider(asks, says("ok"))
    flow = drive(in_workflow([weather]))
    flow.end()
    assert [json.loads(one) for one in model.told()] == [
        {"error": "there is no tool 'wether'; there are: weather"},
        {"city": "C", "sun": True},
        {"error": "arguments: 'city' is a required property"},
    ]
    assert [one.name for one in flow.journal if isinstance(one, ev.StepCompleted)] == ["llm:m", "tool:weather", "llm:m"]


def test_what_a_tool_raises_is_recorded_and_told(provider):
    def broken(city: str):
        raise ValueError(f"no such city: {city}")

    async def empty(city: str):
        raise TimeoutError

    model = provider(calls(("a", "broken", {"city": "Atlantis"}), ("b", "empty", {"city": "x"})), says("ok"))
    flow = drive(in_workflow([broken, empty]))
    flow.end()
    told = [{"error": "ValueError: no such city: Atlantis"}, {"error": "TimeoutError"}]
    assert [json.loads(one) for one in model.told()] == told
    assert [one.result for one in flow.journal if getattr(one, "name", "").startswith("tool:")] == told


def test_arguments_that_only_the_function_refuses_are_told(provider):
    @tool(schema={"type": "object"})
    def pick(n: int): ...

    model = provider(calls(("a", "pick", {"n": "many"})), says("ok"))
    drive(in_workflow([pick])).end()
    assert "argument at arguments.n: input should be a valid integer" in json.loads(model.told()[0])["error"]


@pytest.mark.parametrize(
    "error",
    [NonRetryableError("stop"), BudgetExceededError("too much"), WrongContextError("not here"),
     SerializationError("no")],
)  # fmt: skip
async def test_some_errors_end_the_loop(provider, error):
    async def stop(city: str):
        raise error

    model = provider(calls(("a", "stop", {"city": "x"})), says("ok"))
    ctx, _ = function_ctx()
    with pytest.raises(type(error), match=str(error)):
        await ctx.llm.run_tools("go", "m", [stop])
    assert len(model.asked) == 1


async def test_another_models_failure_inside_a_tool_is_told(provider):
    async def other(city: str):
        raise StructuredOutputError("does not fit")

    model = provider(calls(("a", "other", {"city": "x"})), says("ok"))
    ctx, _ = function_ctx()
    await ctx.llm.run_tools("go", "m", [other])
    assert model.told() == ['{"error":"StructuredOutputError: does not fit"}']


async def test_a_result_without_a_json_form_ends_the_loop_and_says_where(provider):
    def odd(city: str):
        return {"lock": threading.Lock()}

    provider(calls(("a", "odd", {"city": "x"})), says("ok"))
    ctx, _ = function_ctx()
    with pytest.raises(SerializationError, match=r"result of tool 'odd'.lock: a _thread.lock has no JSON form"):
        await ctx.llm.run_tools("go", "m", [odd])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("plain text", "plain text"),
        (None, "null"),
        ([1, {"a": "ä"}], '[1,{"a":"ä"}]'),
        ("x" * RESULT_LIMIT, "x" * RESULT_LIMIT),
        ("ä" * RESULT_LIMIT, "ä" * RESULT_LIMIT),
        ("x" * (RESULT_LIMIT + 1), "x" * RESULT_LIMIT + "\n[cut: these are the first 100,000 of 100,001 characters]"),
        (
            ["x" * RESULT_LIMIT],
            '["' + "x" * (RESULT_LIMIT - 2) + "\n[cut: these are the first 100,000 of 100,004 characters]",
        ),
    ],
)  # fmt: skip
def test_results_are_text_and_long_ones_are_cut(provider, value, told):
    model = provider(calls(("a", "get", {})), says("ok"))
    flow = drive(in_workflow([tool(name="get")(lambda: value)]))
    flow.end()
    assert model.told() == [told]
    (recorded,) = [one.result for one in flow.journal if getattr(one, "name", "") == "tool:get"]
    assert len(recorded["result"] or "") <= RESULT_LIMIT


def test_a_model_that_goes_on_asking_is_stopped(provider):
    model = provider(*([WEATHER] * 3))
    flow = drive(in_workflow([weather], max_rounds=3))
    error = failed(flow)
    assert isinstance(error, ToolLoopError)
    assert 'all of 3 answers of m asked for tools, the last for weather({"city":"Rome"}), which was not' in str(error)
    assert len(model.asked) == 3
    assert len([one for one in flow.journal if getattr(one, "name", "") == "tool:weather"]) == 2


# ---- what is wrong in the code is said before anything is asked


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tools": [weather, weather, tool(name="weather")(lambda: 1)]}, "there are two of the name 'weather'"),
        ({"tools": weather}, "tools: expected a list"),
        ({"tools": "weather"}, "tools: expected a list"),
        ({"tools": ["weather"]}, "no tool 'weather' is registered"),
        ({"tools": [{"type": "function", "function": {"name": "w"}}]}, "'w' is a description without a handler"),
        ({"max_rounds": 0}, "max_rounds: expected a number from 1, found 0"),
        ({"max_rounds": True}, "max_rounds"),
        ({"approve": ["refund"]}, "approve: 'refund' is none of the tools; there are: weather"),
        ({"approve": "weather"}, "approve: expected a list"),
        ({"approval_timeout": -1}, "approval_timeout"),
        ({"required_roles": "boss"}, "required_roles"),
    ],
)
def test_mistakes_are_told_first(provider, options, said):
    model = provider()
    flow = in_workflow(**{"tools": [tool(weather)], **options})
    error = failed(flow)
    assert isinstance(error, InvalidInputError)
    assert said in str(error)
    assert model.asked == []


async def test_registered_tools_are_taken_by_name(provider):
    model = provider(WEATHER, says("ok"))
    ctx, _ = function_ctx()
    made = ctx.tools.register("weather", weather)
    await ctx.llm.run_tools("go", "m", tools=["weather", made])
    assert model.told() == ['{"city":"Rome","sun":true}']


# ---- approvals


@tool(approval=True)
def refund(order: str) -> str:
    return f"refunded {order}"


REFUND = calls(("c9", "refund", {"order": "o1"}))


def decided(flow: Flow, decision: str, comment: str = "") -> Flow:
    (asked,) = [one for one in flow.journal if isinstance(one, ev.ApprovalRequested)]
    who = "" if decision == "timeout" else "ann"
    flow.feed(ev.ApprovalDecided(at=T0, seq=asked.seq, decision=decision, approver=who, comment=comment))
    return drive(flow)


@pytest.mark.parametrize(
    ("decision", "comment", "told"),
    [
        ("approved", "", "refunded o1"),
        ("rejected", "too much", '{"error":"not called: ann rejected this call: too much"}'),
        ("rejected", "", '{"error":"not called: ann rejected this call"}'),
        ("timeout", "", '{"error":"not called: nobody approved this call in time"}'),
    ],
)
def test_people_decide_whether_a_tool_is_called(provider, decision, comment, told):
    model = provider(REFUND, says("ok"))
    flow = drive(in_workflow([refund], approval_timeout=60, required_roles=["boss"]))
    assert flow.outcome is None
    (asked,) = [one for one in flow.journal if isinstance(one, ev.ApprovalRequested)]
    assert (asked.name, asked.required_roles, asked.due_ms) == ("tool:refund", ["boss"], T0 + 60_000)
    assert asked.payload == {"tool": "refund", "arguments": {"order": "o1"}, "call_id": "c9"}
    decided(flow, decision, comment).end()
    assert model.told() == [told]
    done = [
        one for one in flow.journal if getattr(one, "name", "") == "tool:refund" and isinstance(one, ev.StepCompleted)
    ]
    assert bool(done) is (decision == "approved")


def test_approve_names_tools_and_the_others_are_not_asked_for(provider):
    asks = calls(("a", "weather", {"city": "A"}), ("b", "pay", {"n": 1}))
    model = provider(asks, says("ok"))
    flow = drive(in_workflow([weather, tool(name="pay")(lambda n: "paid")], approve=["pay"]))
    assert [one.name for one in flow.journal if isinstance(one, ev.ApprovalRequested)] == ["tool:pay"]
    decided(flow, "approved").end()
    assert model.told() == ['{"city":"A","sun":true}', "paid"]


@pytest.mark.parametrize("make", [function_ctx, entity_ctx])
@pytest.mark.parametrize(("tools", "options"), [([refund], {}), ([weather], {"approve": ["weather"]})])
async def test_only_workflows_can_ask_people(provider, make, tools, options):
    model = provider(REFUND, says("ok"))
    ctx, port = make()
    with pytest.raises(WrongContextError, match="needs people's approval, and only a workflow.*make it a @workflow"):
        await ctx.llm.run_tools("go", "m", tools, **options)
    assert (model.asked, port.asked) == ([], [])


# ---- kinds of handlers


def test_in_a_workflow_children_and_entities_are_tasks_and_the_context_is_the_runs_own(provider):
    async def look(ctx, city: str):
        return [await ctx.step("one", lambda: 1), await ctx.task("shop", "price", input={"sku": city})]

    async def fn(ctx):
        tools = [look, "shop.price", ctx.entity("Cart", "c1").add]
        return (await ctx.llm.run_tools("go", "m", tools)).text

    asks = calls(("a", "look", {"city": "A"}), ("b", "price", {"sku": "B"}), ("c", "add", {"sku": "C"}))
    model = provider(asks, says("ok"))
    flow = drive(Flow(fn), price={"sku": "p"}, add=3)
    assert flow.end() == "ok"
    assert model.told() == ['[1,{"sku":"p"}]', '{"sku":"p"}', "3"]


def test_a_child_that_fails_is_told(provider):
    model = provider(calls(("b", "price", {"sku": "B"})), says("ok"))
    drive(in_workflow(["shop.price"]), price=RuntimeError("sold out")).end()
    assert model.told() == ['{"error":"ValueError: sold out"}']


# ---- a later attempt of a function


async def attempt(run: Attempts, tools, **options):
    one = run.next()
    return one, await one.ctx.llm.run_tools("go", "m", tools(one.ctx) if callable(tools) else tools, **options)


async def test_a_later_attempt_asks_and_calls_nothing_again(provider):
    seen = []

    def note(what: str):
        seen.append(what)
        raise ValueError(f"failed {len(seen)}")

    asks = calls(("a", "note", {"what": "x"}), ("b", "note", {"what": "y"}))
    model = provider(asks, asks, says("ok"))
    run = Attempts()
    _, first = await attempt(run, [note])
    assert seen == ["x", "y", "x", "y"]  # ids that come again are other calls
    _, second = await attempt(run, [note])
    assert second == first
    assert (len(seen), len(model.asked)) == (4, 3)


async def test_ids_that_come_again_in_a_later_answer_are_other_children(provider):
    model = provider(calls(("0", "price", {"sku": "x"})), calls(("0", "price", {"sku": "y"})), says("ok"))
    run = Attempts(shop__price=lambda given: given)
    one, first = await attempt(run, ["shop.price"])
    assert [given for _, given, _ in one.started] == [{"sku": "x"}, {"sku": "y"}]
    assert model.told() == ['{"sku":"x"}', '{"sku":"y"}']
    two, second = await attempt(run, ["shop.price"])
    assert (two.started, second) == ([], first)


async def test_the_key_of_a_call_is_its_id(provider):
    long = "c" * 101
    model = provider(calls(("a", "weather", {"city": "A"}), (long, "weather", {"city": "B"})), says("ok"))
    one, found = await attempt(Attempts(), [weather])
    keys = [key for name, key in one.steps if name == "tool:weather"]
    assert keys[0] == "a"
    assert keys[1].startswith("tool-")
    assert len(keys[1]) < 30
    assert model.asked[1]["messages"][3]["tool_call_id"] == long


async def test_a_child_that_failed_is_not_done_again_since_the_model_was_told(provider):
    def sold_out(input):  # noqa: A002
        raise RuntimeError("sold out")

    asks = calls(("a", "price", {"sku": "x"}), ("b", "add", {"sku": "y"}), ("c", "add", {"sku": "z"}))
    model = provider(asks, says("ok"))
    run = Attempts(shop__price=sold_out, Cart__add=lambda given: sold_out(given) if given["sku"] == "y" else 5)
    tools = lambda ctx: ["shop.price", ctx.entity("Cart", "c1").add]
    one, first = await attempt(run, tools)
    assert [handler for handler, *_ in one.started] == ["shop.price", "Cart.add", "Cart.add"]
    assert model.told() == ['{"error":"RuntimeError: sold out"}', '{"error":"RuntimeError: sold out"}', "5"]
    two, second = await attempt(run, tools)
    assert two.started == []
    assert second == first
    assert len(model.asked) == 2


def died_before(run: Attempts, *lost: str) -> None:
    """As if the worker had died before it recorded these steps (by name or key), and the last answer."""
    answers = [one for one in run.journal if getattr(one, "name", "") == "llm:m"]
    run.journal = [
        one
        for one in run.journal
        if one is not answers[-1] and not (isinstance(one, ev.StepCompleted) and {one.name, one.key} & {*lost})
    ]


async def test_a_call_of_an_entity_whose_end_was_not_recorded_is_found_by_its_own_key(provider):
    asks = calls(("a", "add", {"sku": "y"}), ("b", "add", {"sku": "z"}))
    run = Attempts(Cart__add=lambda given: ord(given["sku"]))
    tools = lambda ctx: [ctx.entity("Cart", "c1").add]
    provider(asks, says("ok"))
    await attempt(run, tools)
    died_before(run, "b")  # the first call is not made again, and the second is not taken for the first
    model = provider(says("ok"))
    two, _ = await attempt(run, tools)
    assert two.started == []
    assert model.told() == ["121", "122"]


async def test_tools_with_context_that_run_side_by_side_find_their_own_steps_again(provider):
    order = {"x": 0, "y": 2}

    async def look(ctx, what: str):
        await ctx.step("first", lambda: what)
        for _ in range(order[what] * 5):
            await asyncio.sleep(0)
        found = await ctx.step("second", lambda: f"{what}{what}")
        child = await ctx.spawn("shop.price", sku=what)
        inner = await ctx.llm.generate([{"role": "user", "content": what}], "n")
        return [found, child, inner.text]

    asks = calls(("a", "look", {"what": "x"}), ("b", "look", {"what": "y"}))
    answer = lambda question: asks if question["model"] == "m" else says(question["messages"][0]["content"])
    model = provider(answer, answer, answer, says("ok"))
    run = Attempts(shop__price=lambda given: given)  # noqa: A002
    _, first = await attempt(run, [look])
    told = ['["xx",{"sku":"x"},"x"]', '["yy",{"sku":"y"},"y"]']
    assert model.told() == told
    died_before(run, "tool:look")
    order.update(x=2, y=0)  # now the other one is faster
    model = provider(says("ok"))
    two, second = await attempt(run, [look])
    assert model.told() == told
    assert (two.started, second) == ([], first)


async def test_what_came_first_of_a_tool_with_context_stands(provider):
    tries = []

    async def look(ctx):
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")
        return "found"

    model = provider(calls(("a", "look", {})), says("ok"))
    run = Attempts()
    _, first = await attempt(run, [look])
    _, second = await attempt(run, [look])
    assert (second, len(model.asked), len(tries)) == (first, 2, 2)
    assert model.told() == ['{"error":"ValueError: not yet"}']


async def test_loops_inside_of_tools_have_calls_of_their_own(provider):
    async def agent(ctx, what: str):
        return (await ctx.llm.run_tools(what, "n", ["shop.price"])).text

    outer = calls(("call_0", "agent", {"what": "x"}), ("call_1", "agent", {"what": "y"}))
    inner = lambda question: (
        calls(("call_0", "price", {"sku": question["messages"][0]["content"]}))
        if len(question["messages"]) == 1
        else says(question["messages"][2]["content"])
    )
    model = provider(outer, inner, inner, inner, inner, says("ok"))
    run = Attempts(shop__price=lambda given: given)  # noqa: A002
    one, _ = await attempt(run, [agent])
    assert [data for _, data, _ in one.started] == [{"sku": "x"}, {"sku": "y"}]
    assert model.told() == ['{"sku":"x"}', '{"sku":"y"}']

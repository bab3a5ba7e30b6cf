"""Agents on scripted models: tools, hand-overs, memory, streams, handlers. The port runs what it is asked at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from contexts import NoHost, Recorder, Ref, buffer
from pydantic import BaseModel, SecretStr

from agnt5 import Agent, AgentResult, Context, Memory, codec, entity, function, tool
from agnt5.agents import memory as conversations
from agnt5.contracts.errors import ConfigurationError, InvalidInputError, ToolLoopError, WrongContextError
from agnt5.llm.scripted import call, scripted_model
from agnt5.registry import default_registry, isolated
from agnt5.sdk.contexts import EntityContext, FunctionContext
from agnt5.sdk.port import RunInfo


class World(Recorder):
    """Runs child runs and methods of entities where they are asked for, and keeps the entities' state."""

    def __init__(self):
        super().__init__()
        self.entities = {}

    def start_task(self, handler, input, *, key=None, options=None):  # noqa: A002
        super().start_task(handler, input, key=key, options=options)
        found = default_registry().get(handler)
        return self._ref(found.fn(FunctionContext(info(handler), self, NoHost()), **found.bind(input)))

    def call_entity(self, handler, entity, input, *, key="", options=None):  # noqa: A002
        super().call_entity(handler, entity, input, key=key, options=options)
        found = default_registry().get(handler)
        self.state = buffer(self.entities.get(entity), writable=found.mode == "write", limit=10**6, total_limit=10**7)
        ctx = EntityContext(info(handler, kind="entity", object_id=entity.partition("/")[2]), self, NoHost())
        return self._ref(self._method(found, ctx, entity, input))

    async def _method(self, found, ctx, entity, given):
        result = await found.fn(ctx, **found.bind(codec.loads(codec.dumps(given, what="input"))))
        changed, gone = ctx._state.changes()
        known = {name: value for name, value in self.entities.get(entity, {}).items() if name not in gone}
        self.entities[entity] = known | {name: codec.loads(data) for name, data in changed.items()}
        return codec.loads(codec.dumps(result, what="result"))

    def _ref(self, coroutine):
        return Ref(len(self.asked), f"r~{len(self.asked)}", asyncio.ensure_future(coroutine))

    def steps(self):
        return [one[1] for one in self.asked if one[0] == "step"]


def info(handler="svc.talk", kind="function", **more):
    return RunInfo(run_id="r-1", handler=handler, kind=kind, **more)


@pytest.fixture(autouse=True)
def registry():
    with isolated() as found:
        yield found


@pytest.fixture
def world():
    return World()


@pytest.fixture
def ctx(world):
    return FunctionContext(info(), world, NoHost())


def echo(messages, tools):
    """All that the model was told, by role."""
    return " / ".join(f"{m['role']}: {m.get('content')}" for m in messages)


@tool
def price(sku: str) -> int:
    """What it costs."""
    return {"tea": 3, "milk": 2}[sku]


def roles(result):
    return [message["role"] for message in result.messages]


# ---- one agent


async def test_an_agent_answers_under_its_instructions(ctx, world):
    result = await Agent("clerk", "Be kind.", scripted_model("echo", echo)).run(ctx, "hello")
    assert isinstance(result, AgentResult)
    assert (result.text, result.agent, result.rounds) == ("system: Be kind. / user: hello", "clerk", 1)
    assert result.messages == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "system: Be kind. / user: hello"},
    ]
    assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.cost) == (3, 6, 0.0)
    assert world.steps() == ["llm:scripted/echo"]


async def test_tools_are_called_until_there_is_an_answer(ctx, world):
    model = scripted_model("shop", [call("price", sku="tea"), call("price", sku="milk")], echo)
    result = await Agent("clerk", "", model, tools=[price]).run(ctx, "what do they cost?")
    assert result.text == "user: what do they cost? / assistant: None / tool: 3 / tool: 2"
    assert (roles(result), result.rounds) == (["user", "assistant", "tool", "tool", "assistant"], 2)
    assert world.steps() == ["llm:scripted/shop", "tool:price", "tool:price", "llm:scripted/shop"]


async def test_handlers_are_tools_that_run_as_children(ctx, world):
    @function(service="agents_shop")
    async def lookup(ctx: Context, order_id: str) -> dict:
        return {"order": order_id}

    model = scripted_model("shop", call("lookup", order_id="17"), lambda messages, _: messages[-1]["content"])
    result = await Agent("clerk", "", model, tools=[lookup]).run(ctx, "17?")
    assert result.text == '{"order":"17"}'
    assert [one[:3] for one in world.asked if one[0] == "task"] == [("task", "agents_shop.lookup", {"order_id": "17"})]


async def test_what_a_tool_raises_goes_back_to_the_model(ctx):
    model = scripted_model("wrong", call("price", sku="gold"), lambda messages, _: messages[-1]["content"])
    result = await Agent("clerk", "", model, tools=[price]).run(ctx, "gold?")
    assert result.text == '{"error":"KeyError: \'gold\'"}'


async def test_a_message_may_be_several_in_openais_form(ctx):
    before = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
    agent = Agent("clerk", "", scripted_model("echo", echo))
    result = await agent.run(ctx, [*before, {"role": "user", "content": "tea"}])
    assert result.text == "user: hi / assistant: yes? / user: tea"
    for wrong in ([], ["hi"]):
        with pytest.raises(InvalidInputError, match="agent 'clerk': message"):
            await agent.run(ctx, wrong)


async def test_instructions_may_be_a_function_of_ctx_and_context(ctx):
    async def both(ctx: Context, context: str) -> str:
        return f"{ctx.run_id} {context}"

    model = scripted_model("echo", echo)
    assert (await Agent("a", lambda ctx: f"in {ctx.run_id}", model).run(ctx, "x")).text == "system: in r-1 / user: x"
    assert (await Agent("b", both, model).run(ctx, "x", context="c")).text == "system: r-1 c / user: x"


class Review(BaseModel):
    ok: bool


async def test_the_last_answer_has_the_form_of_output(ctx):
    model = scripted_model("critic", call("price", sku="tea"), {"ok": True})
    result = await Agent("critic", "", model, tools=[price], output=Review).run(ctx, "review it")
    assert result.object == Review(ok=True)


async def test_a_model_that_never_stops_is_stopped(ctx, world):
    agent = Agent("clerk", "", scripted_model("loop", call("price", sku="tea")), tools=[price], max_rounds=3)
    with pytest.raises(ToolLoopError, match="agent 'clerk': 3 answers .* of 'clerk', asks for price again"):
        await agent.run(ctx, "?")
    assert world.steps().count("llm:scripted/loop") == 3


# ---- several


async def test_a_conversation_is_handed_over_with_all_that_was_said(ctx, world):
    billing = Agent("billing", "You bill.", scripted_model("bill", call("price", sku="tea"), echo), tools=[price])
    front = Agent("front", "You greet.", scripted_model("greet", call("transfer_to_billing")), handoffs=[billing])
    result = await front.run(ctx, "an invoice, please")
    assert result.agent == "billing"
    handed = "tool: billing goes on with the conversation."
    assert result.text == (
        f"system: You bill. / user: an invoice, please / assistant: None / {handed} / assistant: None / tool: 3"
    )
    assert world.steps() == [
        "llm:scripted/greet", "tool:transfer_to_billing", "llm:scripted/bill", "tool:price", "llm:scripted/bill",
    ]  # fmt: skip


async def test_of_several_hand_overs_in_one_answer_the_first_counts(ctx):
    one, two = (Agent(name, "", scripted_model(name, f"here is {name}")) for name in ("one", "two"))
    model = scripted_model("both", [call("transfer_to_two"), call("price", sku="tea"), call("transfer_to_one")])
    result = await Agent("front", "", model, tools=[price], handoffs=[one, two]).run(ctx, "?")
    assert result.text == "here is two"
    contents = [m["content"] for m in result.messages if m["role"] == "tool"]
    assert contents[:2] == ["two goes on with the conversation.", "3"]
    assert "hands the conversation over already" in contents[2]


async def test_agents_that_hand_over_to_each_other_are_bounded_by_rounds(ctx):
    ping = Agent("ping", "", scripted_model("ping", call("transfer_to_pong")), handoffs=[lambda: pong], max_rounds=5)
    pong = Agent("pong", "", scripted_model("pong", call("transfer_to_ping")), handoffs=[ping])
    with pytest.raises(ToolLoopError, match="agent 'ping': 5 answers"):
        await ping.run(ctx, "?")


async def test_an_agent_is_a_tool_of_another_and_its_tokens_count(ctx, world):
    archive = Agent(
        "archive", "Facts.", scripted_model("facts", call("price", sku="tea"), "It costs 3."), tools=[price]
    )
    model = scripted_model(
        "author", call("archive", message="what is tea?"), lambda messages, _: messages[-1]["content"]
    )
    result = await Agent("author", "", model, tools=[archive]).run(ctx, "write")
    assert (result.text, result.agent, result.rounds) == ("It costs 3.", "author", 4)
    alone = await archive.run(ctx, "what is tea?")
    assert result.usage.prompt_tokens > alone.usage.prompt_tokens
    assert roles(result) == ["user", "assistant", "tool", "assistant"]
    described = archive.as_tool("Ask it for facts.")
    assert (described.name, described.description) == ("archive", "Ask it for facts.")
    assert described.fault({"message": "x"}) == ""


# ---- memory


async def test_a_conversation_goes_on_where_it_was(ctx, world):
    agent = Agent("clerk", "", scripted_model("shop", call("price", sku="tea"), echo), tools=[price], memory=True)
    first = await agent.run(ctx, "tea?", "ann")
    second = await agent.run(ctx, "sure?", "ann")
    assert second.text.startswith("user: tea? / assistant: None / tool: 3 / assistant: user: tea?")
    assert second.messages[0] == {"role": "user", "content": "sure?"}
    known = await ctx.entity("Conversation", "ann").history()
    assert known == {"messages": first.messages + second.messages, "agent": "clerk"}
    assert [one[1] for one in world.asked if one[0] == "call"].count("Conversation.append") == 2
    assert "user: tea?" not in (await agent.run(ctx, "who?", "bob")).text
    await ctx.entity("Conversation", "ann").clear()
    assert await ctx.entity("Conversation", "ann").history() == {"messages": [], "agent": ""}


async def test_the_next_message_goes_to_who_answered_last(ctx):
    third = Agent("third", "", scripted_model("third", "third here"))
    second = Agent("second", "", scripted_model("second", call("transfer_to_third")), handoffs=[third])
    side = Agent("side", "", scripted_model("side", "side here"))
    model = scripted_model("first", call("transfer_to_second"))
    first = Agent("first", "", model, handoffs=[side, second], memory=True)
    assert (await first.run(ctx, "hi", "ann")).rounds == 3
    again = await first.run(ctx, "hi", "ann")
    assert (again.agent, again.rounds) == ("third", 1)
    elsewhere = Agent("other", "", scripted_model("other", "other here"), memory=True)
    assert (await elsewhere.run(ctx, "hi", "ann")).text == "other here"


async def test_two_runs_in_one_conversation_see_it_as_it_was_and_append_as_they_end(world):
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(messages, tools):
        begun.set()
        await go.wait()
        return echo(messages, tools)

    def talk(model, message):
        own = FunctionContext(info(), world, NoHost())
        return Agent("clerk", "", model, memory=True).run(own, message, "ann")

    first = asyncio.create_task(talk(scripted_model("slow", slow), "one"))
    await begun.wait()
    await talk(scripted_model("echo", echo), "two")
    go.set()
    assert (await first).text == "user: one"
    known = await FunctionContext(info(), world, NoHost()).entity("Conversation", "ann").history()
    assert [m["content"] for m in known["messages"]] == ["two", "user: two", "one", "user: one"]


async def test_a_turn_that_fails_leaves_nothing(ctx, world):
    agent = Agent(
        "clerk", "", scripted_model("loop", call("price", sku="tea")), tools=[price], max_rounds=2, memory=True
    )
    with pytest.raises(ToolLoopError):
        await agent.run(ctx, "?", "ann")
    assert world.entities.get("Conversation/ann", {}) == {}


async def test_the_oldest_turns_are_forgotten_as_a_whole(ctx, world):
    agent = Agent(
        "clerk", "", scripted_model("shop", call("price", sku="tea"), "3"), tools=[price],
        memory=Memory(entity="Short", max_messages=9),
    )  # fmt: skip
    for number in range(4):
        await agent.run(ctx, f"message {number}", "ann")
    kept = (await ctx.entity("Short", "ann").history())["messages"]
    assert [m["content"] for m in kept if m["role"] == "user"] == ["message 2", "message 3"]
    assert [m["role"] for m in kept] == ["user", "assistant", "tool", "assistant"] * 2
    assert sorted(world.entities["Short/ann"]) == ["agent", "turn-000003", "turn-000004", "turns"]
    small = Agent("small", "", scripted_model("hi", "hi"), memory=Memory(entity="Small", max_bytes=1))
    await small.run(ctx, "one", "ann")
    await small.run(ctx, "two", "ann")
    assert [m["content"] for m in (await ctx.entity("Small", "ann").history())["messages"]] == ["two", "hi"]


async def test_a_secret_is_remembered_masked(ctx, world):
    agent = Agent("clerk", "", scripted_model("hi", "hi"), memory=True)
    result = await agent.run(ctx, SecretStr("my pin is 1234"), "ann")
    assert result.messages[0]["content"] == "**********"
    assert "1234" not in str(world.entities)


async def test_a_conversation_needs_a_memory_and_an_id(ctx):
    with pytest.raises(InvalidInputError, match="agent 'clerk': a conversation was given, and the agent has no memory"):
        await Agent("clerk", "", scripted_model("hi", "hi")).run(ctx, "hi", "ann")
    with pytest.raises(InvalidInputError, match="conversation"):
        await Agent("clerk", "", scripted_model("hi", "hi"), memory=True).run(ctx, "hi", "a b")


# ---- streams


async def test_a_stream_tells_what_happens(ctx):
    billing = Agent("billing", "", scripted_model("bill", "Paid back."))
    model = scripted_model("shop", ["Let me see.", call("price", sku="tea")], call("transfer_to_billing"))
    agent = Agent("clerk", "", model, tools=[price], handoffs=[billing], memory=True)
    events = [event async for event in agent.stream(ctx, "tea?", "ann")]
    called = next(event for event in events if event["type"] == "tool_call")
    assert [event for event in events if event["type"] != "done"] == [
        {"type": "text", "text": "Let"},
        {"type": "text", "text": " me"},
        {"type": "text", "text": " see."},
        {"type": "tool_call", "id": called["id"], "name": "price", "arguments": {"sku": "tea"}},
        {"type": "tool_result", "id": called["id"], "name": "price", "result": 3},
        {"type": "handoff", "agent": "billing"},
        {"type": "text", "text": "Paid"},
        {"type": "text", "text": " back."},
    ]
    assert events[-1]["type"] == "done"
    done = AgentResult.model_validate(events[-1]["result"])
    assert (done.text, done.agent, done.rounds) == ("Paid back.", "billing", 3)
    assert (await ctx.entity("Conversation", "ann").history())["messages"] == done.messages


# ---- handlers


async def test_an_agent_becomes_handlers(registry, ctx):
    agent = Agent("clerk", "", scripted_model("hi", {"ok": True}), output=Review, memory=True)
    agent.as_workflow()
    agent.as_function(service="live", stream=True, retries=3)
    agent.as_function(service="live", name="plain")
    found = registry.get("test_agents.clerk")
    assert (found.kind, [(p.name, p.required) for p in found.parameters]) == (
        "workflow", [("message", True), ("conversation", False)],
    )  # fmt: skip
    stream, plain = registry.get("live.clerk"), registry.get("live.plain")
    assert (stream.is_stream, stream.options.retries.max_attempts, plain.is_stream) == (True, 3, False)
    answer = await plain.fn(ctx, "review it", "ann")
    assert (answer["text"], answer["object"], answer["agent"]) == ('{"ok": true}', {"ok": True}, "clerk")
    assert [event["type"] async for event in stream.fn(ctx, "hi")][-1] == "done"
    assert {"Conversation", "live", "test_agents"} <= set(registry.services)


def test_two_agents_of_one_address_are_refused():
    Agent("clerk", "", "m").as_workflow()
    with pytest.raises(ConfigurationError, match=r"test_agents.clerk' is defined twice"):
        Agent("clerk", "", "m").as_workflow()


def test_a_function_cannot_ask_people():
    careful = Agent("careful", "", "m", tools=[price], approve=["price"])
    for agent in (careful, Agent("front", "", "m", handoffs=[careful]), Agent("boss", "", "m", tools=[careful])):
        with pytest.raises(ConfigurationError, match="'careful' asks people before it calls price"):
            agent.as_function()
    careful.as_workflow()


async def test_approvals_outside_of_workflows_are_refused_before_anything_is_asked(ctx, world):
    agent = Agent("careful", "", scripted_model("hi", "hi"), tools=[price], approve=["price"])
    with pytest.raises(WrongContextError, match="agent 'careful': tool 'price' needs people's approval"):
        await agent.run(ctx, "hi")
    assert world.steps() == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "no name"}, "agent 'no name'"),
        ({"name": "n" * 49}, "at most 48 characters"),
        ({"instructions": 3}, "agent 'a': instructions: expected text, a SecretStr or a function"),
        ({"model": ""}, "agent 'a': model"),
        ({"model": [1]}, "agent 'a': model"),
        ({"max_rounds": 0}, "agent 'a': max_rounds: expected a number from 1"),
        ({"handoffs": ["billing"]}, "agent 'a': handoffs"),
        ({"memory": "yes"}, "memory: expected True, False or a Memory"),
    ],
)
def test_a_wrong_definition_is_refused_where_it_is_written(given, told):
    with pytest.raises(ConfigurationError, match=told):
        Agent(**{"name": "a", "instructions": "", "model": "m"} | given)
    with pytest.raises(ConfigurationError, match="max_messages"):
        Memory(max_messages=0)


async def test_the_arguments_of_a_question_reach_the_model(ctx, monkeypatch):
    asked = []

    async def generate(prompt, model, **options):
        asked.append((model, options["temperature"], options["budget"]))
        raise ToolLoopError("enough")

    monkeypatch.setattr(ctx.llm, "generate", generate)
    with pytest.raises(ToolLoopError):
        await Agent("a", "", ["m", "n"], temperature=0.5).run(ctx, "x")
    assert asked == [(("m", "n"), 0.5, ())]


def test_the_methods_of_the_memory_fit_any_client():
    conversations.Memory(entity="Twice").register()
    conversations.Memory(entity="Twice").register()
    found = {h.address: h.mode for h in default_registry()}
    assert found == {"Twice.append": "write", "Twice.history": "read", "Twice.clear": "write"}


def test_a_memory_does_not_mix_with_an_entity_of_the_project():
    Taken = entity("Taken")

    @Taken.write
    async def send(ctx: Context): ...

    with pytest.raises(
        ConfigurationError, match=r"entity type 'Taken' is taken by .*test_agents.py.*Memory\(entity=...\)"
    ):
        Agent("a", "", "m", memory=Memory(entity="Taken"))


def test_defining_agents_loads_neither_pydantic_nor_litellm():
    code = (
        "import sys\n"
        "from agnt5 import Agent, function\n"
        "@function\n"
        "async def f(ctx): ...\n"
        "a = Agent('a', '', 'm', tools=[f], memory=True); b = Agent('b', '', 'm', tools=[a], handoffs=[a])\n"
        "a.as_workflow(); b.as_function(stream=True)\n"
        "print([m for m in ('pydantic', 'litellm', 'celery', 'redis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr

"""A pydantic-ai agent inside a handler's run: what is a step, what is not, and what a later attempt finds again."""

import asyncio
import inspect
from datetime import UTC, datetime

import pytest
from contexts import T0, Flow
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from support.attempts import Attempts

from agnt5 import codec
from agnt5.contracts.errors import WrongContextError
from agnt5.integrations.pydantic_ai import Agnt5Durability, DurableAgent, current_context
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev


async def drive(flow):
    """Run the steps that a workflow asks for until it asks for none; gives their names."""
    names = []
    while steps := [command for command in flow.commands if isinstance(command, cmd.RunStep)]:
        done = []
        for step in steps:
            names.append(step.name)
            value = step.fn()
            value = await value if inspect.isawaitable(value) else value
            value = codec.loads(codec.dumps(value, what=step.name))
            done.append(ev.StepCompleted(seq=step.seq, name=step.name, result=value, at=T0))
        flow.feed(*done)
    return names


def answers(*answers):
    """A model that gives these answers in turn, whatever it is asked: text, or the names of tools to call."""

    def answer(messages, info):
        said = sum(isinstance(message, ModelResponse) for message in messages)
        turn = answers[said]
        if isinstance(turn, str):
            return ModelResponse(parts=[TextPart(turn)])
        return ModelResponse(parts=[ToolCallPart(name, {}, tool_call_id=f"{name}-{said}") for name in turn])

    return FunctionModel(answer, model_name="scripted")


def agent_of(*script, **options):
    agent = Agent(answers(*script), name="clerk", **options)
    return agent, DurableAgent(agent)


async def test_requests_and_tool_calls_of_a_workflow_are_steps_and_replay_the_same():
    agent, durable = agent_of(["look", "ask"], "all is well")

    @agent.tool_plain
    def look() -> int:
        return 7

    @agent.tool_plain
    async def ask() -> str:
        return "yes"

    async def flow(ctx):
        result = await durable.run(ctx, "how is it?")
        return [result.output, result.run_id]

    flow = Flow(flow)
    assert await drive(flow) == ["llm:scripted", "tool:look", "tool:ask", "llm:scripted"]
    output, run_id = flow.end()
    assert output == "all is well"
    assert run_id.startswith("order-17/clerk-")


async def test_a_workflow_can_ask_people_before_a_tool_is_called():
    done = []
    agent, durable = agent_of(["refund"], "refunded", output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def refund() -> str:
        done.append("refund")
        return "ok"

    async def flow(ctx):
        asked = await durable.run(ctx, "refund it")
        call = asked.output.approvals[0]
        answer = await ctx.human.approval(f"call-{call.tool_name}")
        results = DeferredToolResults(approvals={call.tool_call_id: answer.approved})
        result = await durable.run(ctx, message_history=asked.all_messages(), deferred_tool_results=results)
        return result.output

    flow = Flow(flow)
    assert await drive(flow) == ["llm:scripted"]
    assert done == []
    request = next(command for command in flow.commands if isinstance(command, cmd.RequestApproval))
    flow.feed(ev.ApprovalDecided(seq=request.seq, decision="approved", approver="ann", at=T0))
    assert await drive(flow) == ["tool:refund", "llm:scripted"]
    assert flow.end() == "refunded"


async def test_a_later_attempt_asks_nothing_again_though_the_clock_went_on():
    agent, durable = agent_of(["look"], "seven")
    calls = []

    @agent.tool_plain
    def look() -> int:
        calls.append("look")
        return 7

    attempts = Attempts()
    for ran in (["llm:scripted", "tool:look", "llm:scripted"], []):
        assert (await durable.run(attempts.ctx(), "how many?")).output == "seven"
        assert attempts.ran == ran
    assert calls == ["look"]


async def test_a_history_that_was_made_anew_with_other_times_is_the_same_question():
    _, durable = agent_of("", "seven")
    attempts = Attempts()
    for day in (1, 2):
        said = UserPromptPart("hi", timestamp=datetime(2026, 1, day, tzinfo=UTC))
        answer = ModelResponse(parts=[TextPart("hello")], timestamp=said.timestamp)
        history = [ModelRequest(parts=[said], timestamp=said.timestamp), answer]
        assert (await durable.run(attempts.ctx(), "how many?", message_history=history)).output == "seven"
    assert attempts.ran == []


async def test_runs_side_by_side_find_their_own_answers_in_whatever_order_they_come():
    def echo(messages, info):
        return ModelResponse(parts=[TextPart(f"re: {messages[0].parts[0].content}")])

    durable = DurableAgent(Agent(FunctionModel(echo, model_name="echo"), name="echo"))
    attempts = Attempts()
    for order in (["a", "b"], ["b", "a"]):
        ctx = attempts.ctx()
        found = await ctx.parallel(*(durable.run(ctx, prompt) for prompt in order))
        assert [one.output for one in found] == [f"re: {prompt}" for prompt in order]
    assert attempts.ran == []


async def test_the_same_question_twice_is_asked_twice_and_a_key_tells_runs_apart():
    _, durable = agent_of("hello")
    attempts = Attempts()
    ctx = attempts.ctx()
    for key in (None, None, "mine"):
        await durable.run(ctx, "hi", key=key)
    assert len({key for _, key, _ in attempts.recorded}) == 3
    assert any(key == "mine/1" for _, key, _ in attempts.recorded)


async def test_an_agent_that_a_tool_runs_is_a_part_of_the_tools_step():
    inner = Agent(answers("inner says"), name="inner", capabilities=[Agnt5Durability()])
    agent, durable = agent_of(["delegate"], "done")

    @agent.tool_plain
    async def delegate() -> str:
        return (await inner.run("do it")).output

    attempts = Attempts()
    await durable.run(attempts.ctx(), "go")
    assert attempts.ran == ["llm:scripted", "tool:delegate", "llm:scripted"]


async def test_a_tool_that_is_no_step_has_the_context_and_others_are_told_why_not():
    agent, durable = agent_of(["inline", "step"], "done")
    seen = []

    @agent.tool_plain(metadata={"agnt5": False})
    async def inline() -> str:
        return await current_context().step("inside", lambda: waiting("value"))

    @agent.tool_plain
    async def step() -> str:
        with pytest.raises(WrongContextError, match="agnt5.*False") as refused:
            current_context()
        seen.append(str(refused.value))
        return "ok"

    attempts = Attempts()
    await durable.run(attempts.ctx(), "go")
    assert sorted(attempts.ran) == ["inside", "llm:scripted", "llm:scripted", "tool:step"]
    assert seen


async def waiting(value):
    return value


async def test_structured_output_is_recorded_and_comes_back_in_its_form():
    class Order(BaseModel):
        item: str
        count: int

    durable = DurableAgent(Agent(TestModel(), name="orders", output_type=Order))
    attempts = Attempts()
    first = (await durable.run(attempts.ctx(), "order")).output
    again = (await durable.run(attempts.ctx(), "order")).output
    assert isinstance(first, Order)
    assert again == first
    assert attempts.ran == []


async def test_a_failed_tool_fails_its_attempt_and_the_next_one_goes_on_from_there():
    agent, durable = agent_of(["shaky"], "done")
    tries = []

    @agent.tool_plain
    def shaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("gone")
        return "ok"

    attempts = Attempts()
    with pytest.raises(OSError, match="gone"):
        await durable.run(attempts.ctx(), "go")
    assert (await durable.run(attempts.ctx(), "go")).output == "done"
    assert attempts.ran == ["tool:shaky", "llm:scripted"]


def streaming(*turns):
    async def stream(messages, info):
        said = sum(isinstance(message, ModelResponse) for message in messages)
        for piece in turns[said]:
            yield piece

    return FunctionModel(stream_function=stream, model_name="streamed")


async def test_a_stream_tells_of_text_and_tools_as_they_come_and_a_later_attempt_tells_it_again():
    call = {0: DeltaToolCall(name="look", json_args="{}", tool_call_id="c-1")}
    agent = Agent(streaming([call], ["sev", "en"]), name="teller")

    @agent.tool_plain
    def look() -> int:
        return 7

    durable, attempts = DurableAgent(agent), Attempts()
    ends = [
        {"type": "tool_call", "id": "c-1", "name": "look", "arguments": {}},
        {"type": "tool_result", "id": "c-1", "name": "look", "result": 7},
    ]
    done = {"type": "done", "result": "seven"}
    live = [chunk async for chunk in durable.stream(attempts.ctx(), "how many?")]
    assert live == [*ends, {"type": "text", "text": "sev"}, {"type": "text", "text": "en"}, done]
    again = [chunk async for chunk in durable.stream(attempts.ctx(), "how many?")]
    assert again == [*ends, {"type": "text", "text": "seven"}, done]
    assert attempts.ran == []


async def test_a_stream_that_nobody_reads_on_stops_its_agent():
    cancelled = asyncio.Event()

    async def stream(messages, info):
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    durable = DurableAgent(Agent(FunctionModel(stream_function=stream, model_name="endless"), name="endless"))
    chunks = durable.stream(Attempts().ctx(), "go")
    assert await anext(chunks) == {"type": "text", "text": "a"}
    await chunks.aclose()
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_workflows_have_no_streams_and_an_agent_needs_a_name():
    async def flow(ctx):
        async for _ in agent_of("x")[1].stream(ctx, "go"):
            pass

    assert "use run(ctx, ...) there" in str(Flow(flow).outcome)
    with pytest.raises(Exception, match="unique `name`"):
        DurableAgent(Agent(TestModel()))


async def test_outside_of_handlers_an_agent_stays_as_it_is():
    agent = Agent(answers("plain"), name="plain", capabilities=[Agnt5Durability()])
    assert (await agent.run("hi")).output == "plain"

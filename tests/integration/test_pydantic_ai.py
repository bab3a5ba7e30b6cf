"""A pydantic-ai agent on real workers: killed between two model requests, it repeats none, and no tool call either."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from support import mcp_bad_server
from support.cluster import Cluster, note, noted
from support.waiting import until_sync

from agnt5 import Context, RetryPolicy, function, workflow
from agnt5.integrations.mcp import McpServer
from agnt5.integrations.pydantic_ai import DurableAgent, current_context
from agnt5.llm.scripted import call, scripted_model
from agnt5.replay.events import StepCompleted


def scripted(messages, info):
    """Asks for two tools at once, then for one that waits, then says what it was told."""
    said = sum(isinstance(message, ModelResponse) for message in messages)
    note("requests", said)
    if said == 0:
        return ModelResponse(parts=[ToolCallPart("price", {"sku": sku}, tool_call_id=sku) for sku in ("pear", "plum")])
    if said == 1:
        return ModelResponse(parts=[ToolCallPart("wait", {}, tool_call_id="wait")])
    told = [part.content for message in messages for part in message.parts if part.part_kind == "tool-return"]
    return ModelResponse(parts=[TextPart(" ".join(map(str, told)))])


agent = Agent(FunctionModel(scripted, model_name="scripted"), name="shop_clerk")
clerk = DurableAgent(agent)


@agent.tool_plain
def price(sku: str) -> int:
    note("prices", sku)
    return len(sku)


@agent.tool_plain(metadata={"agnt5": False})
async def wait() -> str:
    """No step: in a workflow it waits for a signal, in a function it hangs the first time."""
    ctx = current_context()
    note("waits", ctx.run_id)
    if ctx.component_type == "workflow":
        return await ctx.signal("go")
    if noted("waits").count(ctx.run_id) == 1:
        await asyncio.Event().wait()
    return "gone"


@workflow
async def quote_in_workflow(ctx: Context) -> str:
    return (await clerk.run(ctx, "what do they cost?")).output


@function
async def quote_in_function(ctx: Context) -> str:
    return (await clerk.run(ctx, "what do they cost?")).output


shop = McpServer(
    "shop",
    command=[sys.executable, "-S", "-E", mcp_bad_server.__file__],
    env={"MCP_NOTES": f"{os.environ.get('AGNT5_TEST_NOTES')}/mcp"},
)


@function(retries=RetryPolicy(max_attempts=2, initial_interval=0.02))
async def call_a_tool_of_a_server(ctx: Context, text: str) -> list:
    tools = await shop.tools(ctx, include=["echo"])
    said = await ctx.step("tool:echo", tools[0].handler, text=text)
    if ctx.attempt == 0:
        raise ValueError("once more")
    return [tool.name for tool in tools] + [said]


@function(retries=1)
async def ask_with_tools_of_a_server(ctx: Context) -> str:
    tools = await shop.tools(ctx, include=["echo", "fail"], prefix="shop_")
    answer = await ctx.llm.run_tools("say it", echoing, tools)
    return answer.text


def repeat(messages, tools):
    """Says what the tools have said."""
    return " | ".join(message["content"] for message in messages if message["role"] == "tool")


echoing = scripted_model("echoing", [call("shop_echo", text="pear"), call("shop_fail", text="plum")], repeat)


@pytest.fixture(scope="module")
def cluster():
    with Cluster(["test_pydantic_ai"], paths=[Path(__file__).parent]) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


def test_an_agent_goes_on_after_its_worker_was_killed_and_repeats_nothing(cluster):
    client, worker = cluster.client, cluster.nodes[0]
    runs = [client.start(quote_in_workflow), client.start(quote_in_function)]
    until_sync(lambda: {run.id for run in runs} <= set(cluster.noted("waits")), 30)
    until_sync(lambda: runs[0].status() == "waiting", 10)
    worker.kill()
    runs[0].signal("go", "gone")
    worker.restart()
    assert [run.result(timeout=30) for run in runs] == ["4 4 gone"] * 2
    assert sorted(cluster.noted("requests")) == sorted(["0", "1", "2"] * 2)
    assert sorted(cluster.noted("prices")) == sorted(["pear", "plum"] * 2)
    for run in runs:
        steps = [event.name for event in run.history() if isinstance(event, StepCompleted)]
        assert sorted(steps) == ["llm:scripted"] * 3 + ["tool:price"] * 2


def test_tools_of_a_server_are_found_and_called_on_a_worker_once_for_all_attempts(cluster):
    run = cluster.client.start(call_a_tool_of_a_server, {"text": "pear"})
    assert run.result(timeout=30) == ["echo", "pear "]
    assert run.state().attempt == 1
    assert cluster.noted("mcp") == ["started", "echo"]


def test_a_model_calls_the_tools_of_a_server(cluster):
    run = cluster.client.start(ask_with_tools_of_a_server)
    said = run.result(timeout=30)
    assert said.startswith("pear  | ")
    assert "McpToolError: no plum with" in said
    steps = [event.name for event in run.history() if isinstance(event, StepCompleted)]
    assert sorted(set(steps)) == ["llm:scripted/echoing", "mcp:shop", "tool:shop_echo", "tool:shop_fail"]

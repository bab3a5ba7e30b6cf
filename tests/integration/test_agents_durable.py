"""Agents on a real worker that is killed between their rounds; people who agree; attempts that are made again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster, note, noted
from support.waiting import until_sync

from agnt5 import Agent, Context, RetryPolicy, function, tool
from agnt5.llm.scripted import call, scripted_model


def asked(turn):
    """A turn that notes, outside of the store, that the model was really asked."""

    def answer(messages, tools):
        note("asked", f"{messages[0]['content']} {len(messages)}")
        return turn(messages) if callable(turn) else turn

    return answer


@tool
def weigh(item: str) -> int:
    """What it weighs."""
    note("weighed", item)
    return 250


@tool
def pack(item: str) -> str:
    """Pack it. Takes until there is paper."""
    note("packed", item)
    while not noted("paper"):
        time.sleep(0.01)
    return "in a box"


@tool
def post(item: str) -> str:
    """Send it off."""
    note("posted", item)
    return "posted"


packer = Agent(
    "packer",
    "",
    scripted_model(
        "packer", asked(call("weigh", item="tea")), asked(call("pack", item="tea")), asked("Packed: 250 g, in a box.")
    ),
    tools=[weigh, pack],
    memory=True,
)
packer.as_workflow(service="durable_agents")

clerk = Agent(
    "clerk",
    "",
    scripted_model("clerk", asked(call("post", item="tea")), asked(lambda messages: messages[-1]["content"])),
    tools=[post],
    approve=["post"],
    required_roles=["lead"],
    memory=True,
)
clerk.as_workflow(service="durable_agents")

teller = Agent(
    "teller", "", scripted_model("teller", asked(call("weigh", item="milk")), asked("done")), tools=[weigh], memory=True
)


@function(service="durable_agents", retries=RetryPolicy(max_attempts=3, initial_interval=0.01))
async def twice(ctx: Context) -> dict:
    first = await teller.run(ctx, "first", "twice")
    second = await teller.run(ctx, "second", "twice")
    note("attempts", ctx.attempt)
    if ctx.attempt == 0:
        raise ConnectionError("after the answers")
    return {"texts": [first.text, second.text], "tokens": (first.usage + second.usage).total_tokens}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["test_agents_durable"], paths=[Path(__file__).parent]) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


def roles(cluster, conversation):
    known = cluster.client.entity("Conversation", conversation).history()
    return [message["role"] for message in known["messages"]]


def test_a_kill_between_rounds_loses_nothing_and_repeats_nothing_that_was_recorded(cluster):
    run = cluster.client.start("durable_agents.packer", {"message": "pack tea", "conversation": "tea"}, id="kill-1")
    until_sync(lambda: cluster.noted("packed"), 10)
    worker = cluster.nodes[0]
    worker.kill()
    (cluster.notes / "paper").write_text("here\n")
    worker.restart()
    answer = run.result(timeout=20)
    assert (answer["text"], answer["rounds"], answer["agent"]) == ("Packed: 250 g, in a box.", 3, "packer")
    assert cluster.noted("asked") == ["pack tea 1", "pack tea 3", "pack tea 5"]
    assert cluster.noted("weighed") == ["tea"]
    assert cluster.noted("packed") == ["tea", "tea"]  # it was under way
    assert roles(cluster, "tea") == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


def test_people_agree_to_a_call_or_do_not(cluster):
    client = cluster.client
    for number, decision in enumerate(("approved", "rejected")):
        run = client.start("durable_agents.clerk", {"message": "send it", "conversation": decision}, id=f"ask-{number}")
        (waiting,) = until_sync(lambda run=run: client.approvals(run_id=run.id), 10)
        assert (waiting.name, waiting.payload["arguments"]) == ("tool:post", {"item": "tea"})
        client.decide(run.id, "tool:post", decision, approver="ann", roles=["lead"], comment="so be it")
        answer = run.result(timeout=10)
        if decision == "approved":
            assert answer["text"] == "posted"
        else:
            assert "ann rejected this call: so be it" in answer["text"]
        assert cluster.noted("posted") == ["tea"]
        assert roles(cluster, decision) == ["user", "assistant", "tool", "assistant"]


def test_a_function_that_is_tried_again_asks_and_appends_nothing_twice(cluster):
    before = len(cluster.noted("asked"))
    run = cluster.client.start("durable_agents.twice", id="twice-1")
    assert run.result(timeout=10)["texts"] == ["done", "done"]
    assert cluster.noted("attempts") == ["0", "1"]
    assert cluster.noted("asked")[before:] == ["first 1", "first 3", "first 5", "first 7"]
    assert cluster.noted("weighed")[-2:] == ["milk", "milk"]
    assert roles(cluster, "twice") == ["user", "assistant", "tool", "assistant"] * 2
    cluster.sound()

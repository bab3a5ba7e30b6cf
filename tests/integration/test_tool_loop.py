"""Models that call tools, on a real worker with a real HTTP provider: nothing is asked or called twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.llm_anthropic import thinking
from support.llm_server import LLMServer, gated, said, tool_calls
from support.waiting import until_sync
from tooling import CLAUDE, MODEL

from agnt5 import StreamReset, ToolsResponse
from agnt5.replay import events as ev

HERE = Path(__file__).parent
FIRST_S = 60.0
"""A worker that has just started loads LiteLLM for its first question."""


@pytest.fixture(scope="module")
def provider() -> Iterator[LLMServer]:
    with LLMServer() as provider:
        yield provider


@pytest.fixture(scope="module")
def cluster(provider) -> Iterator[Cluster]:
    with Cluster(["tooling"], paths=[HERE], needs=["litellm"], AGNT5_LINGER="200ms") as cluster:
        cluster.env |= provider.env
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.fixture(autouse=True)
def fresh(provider):
    provider.clear()


def steps(run) -> list[str]:
    return sorted(event.name for event in run.history() if isinstance(event, ev.StepCompleted))


def told(provider: LLMServer) -> list[str]:
    """What the model was told in its last question."""
    return [one["content"] for one in provider.requests[-1]["messages"] if one["role"] == "tool"]


@pytest.mark.parametrize("handler", ["in_workflow", "in_function"])
def test_tools_of_every_kind_are_called_and_the_model_is_told(cluster, provider, handler):
    look = "look_up" if handler == "in_workflow" else "look"
    provider.script(
        MODEL,
        tool_calls(
            (look, {"word": f"{handler}-a"}), (look, {"word": "nothing"}), ("ask_twice", {"word": f"{handler}-b"}),
            ("weigh", {"thing": handler}), ("put", {"book": "too heavy"}), (look, {"letters": 3}), ("lok", {}),
        ),
        tool_calls(("put", {"book": "Ulysses"}), text="One more."),
        said("All done."),
    )  # fmt: skip
    run = cluster.client.start(f"tooling.{handler}", {"question": f"go-{handler}"})
    found = ToolsResponse.model_validate(run.result(timeout=FIRST_S))
    assert (found.text, found.rounds, provider.count()) == ("All done.", 3, 3)
    sent = [{"content": None, **message} for message in provider.requests[-1]["messages"]]
    assert found.messages == [*sent, {"role": "assistant", "content": "All done."}]
    assert found.messages[1]["tool_calls"][0]["function"]["arguments"] == f'{{"word": "{handler}-a"}}'  # as it came
    assert found.usage.prompt_tokens > 0
    told_ = told(provider)
    entry = lambda word: f'{{"word":"{word}","letters":{len(word)}}}'
    assert told_[0] == entry(f"{handler}-a")
    assert told_[1] == '{"error":"LookupError: no entry for \'nothing\'"}'
    assert told_[2] == f"[{entry(f'{handler}-b')},{entry(f'{handler}-b')}]"
    assert told_[3] == f"{handler} weighs 3 kg"
    assert told_[4] == '{"error":"ValueError: the shelf breaks"}'
    assert "'word' is a required property" in told_[5]
    assert "lok" in told_[6]
    assert told_[7] == '["Ulysses"]'
    assert cluster.client.entity_state("Shelf", f"go-{handler}").state == {"books": ["Ulysses"]}
    assert cluster.noted("weighed").count(handler) == 1
    cluster.sound()


def test_a_worker_that_dies_between_two_rounds_asks_and_calls_nothing_again(cluster, provider):
    (worker, _) = cluster.nodes
    keys = {"in_workflow": "killed-w", "in_function": "killed-f"}
    provider.script(MODEL, answering)
    runs = {key: cluster.client.start(f"tooling.{handler}", {"question": key}) for handler, key in keys.items()}
    provider.script(THINKS, thinking_first)
    workflow = cluster.client.start("tooling.thoughtful", {"message": "killed-t"})
    agent = cluster.client.start("tooling.thinker", {"message": "killed-a", "conversation": "killed-a"})
    provider.wait_held("second", 4, timeout=FIRST_S)
    worker.kill()
    before = len(provider.requests)
    provider.release("second")
    worker.restart()
    for key, run in runs.items():
        found = ToolsResponse.model_validate(run.result(timeout=FIRST_S))
        assert (found.text, found.rounds) == ("done", 3)
        questions = [body["messages"] for body in provider.requests if body["messages"][0]["content"] == key]
        # the first answer is recorded; the second was never given, and it is asked for with the same words
        assert [len(messages) for messages in questions] == [1, 6, 6, 8]
        assert questions[1] == questions[2]
        looked = sorted(line for line in cluster.noted("looked") if line.startswith(key))
        assert looked == [key, f"{key}-2", f"{key}-2", f"{key}-3"]
        assert cluster.noted("weighed").count(key) == 1
        assert cluster.client.entity_state("Shelf", key).state == {"books": [key]}
    assert (before, provider.count(MODEL)) == (8, 8)
    found = ToolsResponse.model_validate(workflow.result(timeout=FIRST_S))
    assert (found.text, found.rounds) == ("found", 2)
    told_ = [event for event in agent.stream() if not isinstance(event, StreamReset)]
    done = told_[-1]["result"]
    assert (done["text"], done["rounds"], THOUGHT in str(told_)) == ("found", 2, False)
    remembered = cluster.client.entity("Conversation", "killed-a").history()["messages"]
    assert (remembered, THOUGHT in str(remembered)) == (done["messages"], False)
    for run in (workflow, agent):
        questions = [one["messages"] for one in provider.requests if f"killed-{'ta'[run is agent]}" in str(one)]
        assert [len(messages) for messages in questions] == [1, 3, 3]
        assert questions[1] == questions[2]
        assert questions[1][1]["content"][:2] == list(thinking(THOUGHT, "", reply=said()).thinking)
    cluster.sound()


THINKS = CLAUDE.partition("/")[2]
THOUGHT = "it may be in the book"


def thinking_first(body: dict) -> object:
    """A call behind thoughts, which have to be there again with its result; then an end, at a gate."""
    (asked,) = body["messages"][0]["content"]
    if len(body["messages"]) > 1:
        return gated("second", "found")
    return thinking(THOUGHT, "", reply=tool_calls(("look_up", {"word": asked["text"]}), text="I look."))


def answering(body: dict) -> object:
    """Four calls, then one more at a gate, then an end."""
    key, asked = body["messages"][0]["content"], len(body["messages"])
    look = next(name for name in ("look", "look_up") if name in [one["function"]["name"] for one in body["tools"]])
    if asked == 1:
        return tool_calls(
            (look, {"word": key}),
            ("weigh", {"thing": key}),
            ("put", {"book": key}),
            ("ask_twice", {"word": f"{key}-2"}),
        )
    return gated("second", tool_calls((look, {"word": f"{key}-3"}))) if asked == 6 else said("done")


@pytest.mark.parametrize(
    ("decision", "said_"),
    [
        ("approved", "o-approved: 9.5 euros are on their way"),
        ("rejected", '{"error":"not called: ann rejected this call: no"}'),
    ],
)
def test_a_tool_waits_for_the_decision_of_people(cluster, provider, decision, said_):
    order = f"o-{decision}"
    provider.script(MODEL, tool_calls(("refund", {"order": order, "euros": 9.5})), said("ok"))
    run = cluster.client.start("tooling.in_workflow", {"question": f"refund-{order}"})
    until_sync(lambda: cluster.client.approvals(run_id=run.id), FIRST_S)
    (asked,) = cluster.client.approvals(run_id=run.id)
    assert (asked.name, asked.required_roles) == ("tool:refund", ["boss"])
    assert asked.payload["arguments"] == {"order": order, "euros": 9.5}
    assert f"{order} 9.5" not in cluster.noted("refunded")
    cluster.client.decide(run.id, "tool:refund", decision, approver="ann", roles=["boss"], comment="no")
    run.result(timeout=20)
    assert told(provider) == [said_]
    assert cluster.noted("refunded").count(f"{order} 9.5") == (decision == "approved")

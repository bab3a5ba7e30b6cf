"""Answers of language models on real workers: they outlive a kill, are never paid for twice, and tell no keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from asking import SECRET, City
from support.cluster import Cluster
from support.llm_server import KEY, LLMServer, status, using
from support.waiting import until_sync

from agnt5 import LLMResponse, TaskFailedError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server() -> Iterator[LLMServer]:
    with LLMServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(server) -> Iterator[Cluster]:
    with Cluster(["asking"], paths=[HERE], needs=["litellm"]) as cluster:
        yield cluster.start(cluster.worker(**server.env), cluster.beat())


class Monitor:
    """All that goes through Redis while it runs: journals, messages, events."""

    def __init__(self, cluster: Cluster) -> None:
        self.seen: list[str] = []
        self._admin = cluster.admin
        self._monitor = cluster.admin.monitor()

    def __enter__(self) -> Self:
        self._monitor.__enter__()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def _listen(self) -> None:
        while (seen := self._monitor.next_command()["command"]) != "PING the-end":
            self.seen.append(seen)

    def __exit__(self, *_: object) -> None:
        self._admin.execute_command("PING", "the-end")
        self._thread.join()
        self._monitor.__exit__(None, None, None)


def test_a_client_reads_the_answer_that_a_handler_returned(cluster, server):
    server.script("gpt-4.1-nano", using(1000, 100, '{"name": "Rome", "people": 2800000}'))
    run = cluster.client.start("asking.capital")
    answer = LLMResponse.model_validate(run.result(timeout=20))
    assert City.model_validate(answer.object) == City(name="Rome", people=2_800_000)
    assert (answer.usage.total_tokens, answer.model) == (1100, "gpt-4.1-nano")
    assert answer.cost == pytest.approx(1000 * 0.1e-6 + 100 * 0.4e-6)


def test_neither_keys_nor_secret_prompts_get_into_redis_events_or_logs(cluster, server):
    server.script("gpt-discreet", "I say nothing")
    server.script("gpt-refusing", status(401, message=f"wrong key {KEY} for {SECRET}"))
    (worker, _) = cluster.nodes
    with Monitor(cluster) as monitor:
        assert cluster.client.start("asking.secretly", {"fail": False}).result(timeout=20) == "I say nothing"
        with pytest.raises(
            TaskFailedError, match=r"HTTP 401: wrong key \[secret:openai_api_key\] for \*\*\*; set OPENAI_API_KEY"
        ) as failed:
            cluster.client.start("asking.secretly", {"fail": True}).result(timeout=20)
        worker.says("HTTP 401: wrong key [secret:openai_api_key]")
    assert failed.value.type == "LLMRequestError"
    assert server.requests[-1]["messages"] == [{"role": "user", "content": SECRET}]
    told = "\n".join([*monitor.seen, *(node.output() for node in cluster.nodes), str(failed.value.traceback)])
    assert "I say nothing" in told
    assert "HTTP 401" in told
    assert KEY not in told
    assert SECRET not in told


@pytest.mark.parametrize(("handler", "model"), [("patient", "gpt-busy"), ("waiting", "gpt-full")])
def test_what_is_asked_again_waits_as_long_as_the_provider_asks(cluster, server, handler, model):
    server.script(model, status(429, retry_after=300), "free now")
    run = cluster.client.start(f"asking.{handler}")
    due_ms = cluster.one_timer(run.id)
    assert abs(cluster.now_ms() + 300_000 - due_ms) < 20_000
    if handler == "waiting":  # a workflow is suspended, and no attempt of its is used up
        until_sync(lambda: run.state().status == "waiting")
    cluster.hurry(run.id)
    assert run.result(timeout=20) == "free now"
    until_sync(lambda: server.count(model) == 2)
    assert run.state().attempt == (handler == "patient")


def test_answers_outlive_a_killed_worker_and_are_not_asked_for_again(cluster, server):
    said = {"gpt-4.1-mini": '{"name": "Rome", "people": 2800000}', "gpt-4.1": "an old town"}
    for model, text in {**said, "o3-mini": "once upon a time", "asker-model": "an answer"}.items():
        server.script(model, text)
    client, (worker, _), before = cluster.client, cluster.nodes, server.count()
    twice, story, flow = (client.start(f"asking.{name}") for name in ("twice", "story", "flow"))
    asked = client.start("Asker.ask", {"question": "what?"}, key="a-1")
    until_sync(lambda: len(cluster.noted("paused")) == 4, 20.0)
    worker.kill()
    (cluster.notes / "go").write_text("now")
    worker.restart()  # it never loads LiteLLM: no test after this one asks a model
    assert twice.result(timeout=20) == ["question 0", "question 1"]
    assert story.result(timeout=20) == ["once upon a time", ""]
    assert flow.result(timeout=20) == ["Rome", "an old town", ""]
    assert asked.result(timeout=20) == "an answer"
    assert {run.state().attempt for run in (twice, story, asked)} == {1}
    assert cluster.noted("told") == ["5", "2"]  # live before, as a whole after
    assert server.count() - before == 6
    steps = [event for event in client.history(twice.id) if type(event).__name__ == "StepCompleted"][:2]
    assert sorted((step.name, step.result["text"]) for step in steps) == [
        ("llm:gpt-4o-mini", "question 0"),
        ("llm:gpt-4o-mini", "question 1"),
    ]
    assert all(step.key and step.took_ms is not None for step in steps)

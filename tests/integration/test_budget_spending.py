"""Budgets of run trees and keys, on two real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.waiting import until_sync
from typer.testing import CliRunner

from agnt5 import Budget, InvalidInputError, TaskFailedError
from agnt5.cli.main import app
from agnt5.contracts.ids import call_id

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    quick = {"AGNT5_LIVENESS_TIMEOUT": "1s", "AGNT5_HEARTBEAT": "200ms"}
    with Cluster(["budget_kit"], paths=[HERE], **quick) as cluster:
        yield cluster.start(cluster.worker("w1"), cluster.worker("w2"), cluster.beat())


def calls(cluster: Cluster, tree: str) -> list[str]:
    return [line.partition(" ")[2] for line in cluster.noted("calls") if line.partition(" ")[0] == tree]


def test_a_tree_spends_from_one_budget_wherever_it_calls(cluster):
    client = cluster.client
    run = client.start("budget_kit.family", id="all", headers={"tenant": "t"}, budget=Budget(requests=4, cost=0.01))
    assert run.result(timeout=20) == ["own", 1, 1]
    assert calls(cluster, "all") == ["own", "ask-0", "remember-a", "ask-0"]
    state = client.budget(run="all")
    assert (state.scope, state.requests, state.tokens, state.cost) == ("tree:all", 4, 320, 0.004)
    assert (state.reserved_requests, state.reserved_tokens, state.reserved_cost) == (0, 0, 0)


def test_what_exceeds_the_budget_is_not_called_and_fails_the_run(cluster):
    run = cluster.client.start("budget_kit.family", id="less", headers={"tenant": "t"}, budget=Budget(requests=3))
    with pytest.raises(
        TaskFailedError, match=r"budget tree:less: .*limit of requests 3, used 3, held .* 0, asked for 1"
    ):
        run.result(timeout=20)
    assert calls(cluster, "less") == ["own", "ask-0", "remember-a"]
    assert cluster.client.budget(run="less").requests == 3


def test_a_run_goes_on_where_its_budget_ended_once_that_is_reset(cluster):
    client = cluster.client
    run = client.start("budget_kit.ask", {"times": 2}, id="again", budget=Budget(requests=1))
    with pytest.raises(TaskFailedError, match="BudgetExceededError"):
        run.result(timeout=20)
    assert client.reset_budget(run="again")
    run.retry()
    assert run.result(timeout=20) == 2
    assert calls(cluster, "again") == ["ask-0", "ask-1"]
    assert client.budget(run="again").requests == 1


def test_a_call_of_an_entity_from_outside_is_a_tree_of_its_own(cluster):
    run = cluster.client.start("BudgetMemory.remember", {"text": "b"}, key="k", id="1", budget=Budget(tokens=200))
    assert run.result(timeout=20) == 1
    assert run.id == call_id("BudgetMemory/k", "1")
    assert cluster.client.budget(run=run.id).tokens == 160


def test_forty_runs_on_two_workers_share_a_key_to_the_last_request(cluster):
    inputs = [{"key": "acme", "limit": 25}] * 40
    runs = cluster.client.start_many("budget_kit.ask_of_key", inputs)
    for run in runs:
        until_sync(lambda run=run: run.status() in {"completed", "failed"}, 20)
    states = cluster.client.states([run.id for run in runs])
    assert sum(state.status == "completed" for state in states) == 25
    assert {state.error["type"] for state in states if state.status == "failed"} == {"BudgetExceededError"}
    assert len([line for line in cluster.noted("calls") if line.endswith(" shared")]) == 25
    assert cluster.client.budget("acme").requests == 25
    assert cluster.client.reset_budget("acme")
    assert cluster.client.start("budget_kit.ask_of_key", inputs[0]).result(timeout=20) == "shared"
    assert cluster.client.budget("acme").requests == 1


def test_a_worker_that_dies_between_has_not_spent_twice(cluster):
    run = cluster.client.start("budget_kit.ask_and_die", budget=Budget(requests=1, tokens=150))
    assert run.result(timeout=30) == "fatal"
    state = cluster.client.budget(run=run.id)
    assert (state.requests, state.tokens, state.reserved_requests, state.reserved_tokens) == (1, 80, 0, 0)


def test_the_header_is_the_clients_alone(cluster):
    with pytest.raises(InvalidInputError, match="reserved"):
        cluster.client.start("budget_kit.shown", headers={"agnt5-budget": "[]"})
    sent = cluster.celery.send_task("budget_kit.shown", headers={"agnt5-budget": '[{"requests":9}]', "tenant": "t"})
    until_sync(lambda: cluster.field(sent.id, "status") == "completed", 20)
    assert cluster.client.wait(sent.id) == {}
    shown = cluster.client.start("budget_kit.shown", budget=Budget(key="acme", cost=5, per=timedelta(days=1)))
    assert json.loads(shown.result(timeout=20)["agnt5-budget"]) == [{"key": "acme", "cost": 5, "per": 86400}]


def test_the_command_line_lists_shows_and_resets(cluster):
    runner, url = CliRunner(), ["--redis-url", cluster.server.url]

    def agnt5(*words: str) -> str:
        ran = runner.invoke(app, [*url, "budgets", *words])
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    cluster.client.start("budget_kit.ask_of_key", {"key": "shown", "limit": 2}).result(timeout=20)
    listed = agnt5("list").splitlines()
    assert listed[0].split() == ["BUDGET", "REQUESTS", "TOKENS", "COST", "USED", "WINDOW"]
    assert listed[1].split()[:4] == ["key:shown", "1", "80", "$0.001"]
    assert json.loads(agnt5("list", "--json", "--limit", "1"))["scope"] == "key:shown"
    assert json.loads(agnt5("show", "shown", "--json")) | {"used_at": ""} == {
        "scope": "key:shown", "key": "shown", "run": "", "per": None, "requests": 1, "tokens": 80, "cost": 0.001,
        "reserved_requests": 0, "reserved_tokens": 0, "reserved_cost": 0.0, "used_at": "", "window_ends_at": None,
    }  # fmt: skip
    assert "requests  1\n" in agnt5("show", "key:shown")
    assert agnt5("reset", "shown") == "reset\n"
    assert agnt5("reset", "shown") == "nothing to reset\n"
    assert "never" in agnt5("show", "shown")


def test_the_store_is_sound_after_all_that(cluster):
    cluster.sound()

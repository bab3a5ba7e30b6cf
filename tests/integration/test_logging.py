"""What real workers and beats log, on every pool, and what is kept of it with the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.cluster import Cluster, Node
from support.waiting import until_sync
from support.warm import run_command

from agnt5 import TaskFailedError
from agnt5.client.logs import LogLine
from agnt5.contracts.ids import queue_of
from agnt5.store import keys

POOLS = ["own", "prefork", "threads"]


@pytest.fixture(scope="module")
def cluster():
    """A worker of each pool, one whose project sets up its own logging, and a beat; all write JSON."""
    env = {"AGNT5_LOG_FORMAT": "json", "AGNT5_LINGER": "0s"}
    with Cluster(["logged"], paths=[Path(__file__).parent], **env) as cluster:
        nodes = [cluster.worker(name, LOGGED_AS=name) for name in ("own", "mine", "victim")]
        nodes += [cluster.worker(name, pool=name, concurrency=2, LOGGED_AS=name) for name in ("prefork", "threads")]
        yield cluster.start(*nodes, cluster.beat())


def node(cluster: Cluster, name: str) -> Node:
    return next(one for one in cluster.nodes if one.name == name)


def told(cluster: Cluster, name: str, **fields: Any) -> list[dict[str, Any]]:
    """The lines that a worker has written with these fields."""
    lines = [json.loads(line) for line in node(cluster, name).output().splitlines() if line.startswith('{"timestamp')]
    return [line for line in lines if fields.items() <= line.items()]


def one(cluster: Cluster, name: str, **fields: Any) -> dict[str, Any]:
    """The one line with these fields, once it is there."""
    until_sync(lambda: told(cluster, name, **fields), 10)
    (line,) = told(cluster, name, **fields)
    return line


def messages(lines: list[LogLine]) -> list[str]:
    return [line.message for line in lines]


@pytest.mark.parametrize("pool", POOLS)
def test_each_line_of_a_run_s_code_carries_the_run_and_is_kept(cluster, pool):
    run = cluster.client.start(f"{pool}.talks", {"size": 3}, headers={"X-Correlation-ID": "c-17"})
    assert run.result(timeout=20) == 3
    first = one(cluster, pool, run_id=run.id, message="talking")
    assert first["logger"] == f"agnt5.run.{pool}.talks"
    assert (first["size"], first["name"], first["message_"], first["odd"]) == (3, "Ann", "mine", "{1}")
    same = {"run_id": run.id, "attempt": 0, "service": pool, "handler": "talks", "trace_id": first["trace_id"],
            "span_id": first["span_id"], "correlation_id": "c-17"}  # fmt: skip
    assert len(first["trace_id"]) == 32
    for message, step in [
        ("talking", None), ("library\nwith two lines", None), ("in a step's thread", "charge"), ("in a thread", None),
        ("it failed", None),
    ]:  # fmt: skip
        one(cluster, pool, message=message, step_id=step, **same)
    assert "KeyError: 'lost'" in one(cluster, pool, message="it failed", run_id=run.id)["exception"]
    kept = run.logs()
    assert messages(kept) == [
        "talking", "library\nwith two lines", "in a step's thread", "in a thread", "it failed",
    ]  # fmt: skip
    assert kept[0].fields == {"size": 3, "name": "Ann", "message": "mine", "odd": "{1}"}
    assert [line.step_id for line in kept] == [None, None, "charge", None, None]
    assert [line.level for line in kept] == ["INFO", "WARNING", "INFO", "INFO", "ERROR"]
    assert kept[-1].exception.endswith("KeyError: 'lost'")
    assert 0 < cluster.admin.pttl(keys.logs(run.id, 16)) <= cluster.admin.pttl(keys.run(run.id, 16)) + 1000


@pytest.mark.parametrize("pool", POOLS)
def test_a_plain_def_logs_with_its_run(cluster, pool):
    run = cluster.client.start(f"{pool}.blocks")
    run.result(timeout=20)
    one(cluster, pool, run_id=run.id, message="a plain def", handler="blocks")
    assert messages(run.logs()) == ["a plain def"]


@pytest.mark.parametrize("pool", POOLS)
def test_celery_s_own_lines_carry_the_task_as_a_run(cluster, pool):
    sent = cluster.celery.send_task("logged.plain", queue=queue_of(pool))
    same = {"run_id": sent.id, "service": "logged", "handler": "plain", "attempt": 0}
    one(cluster, pool, message=f"Task logged.plain[{sent.id}] received", **same)
    one(cluster, pool, message="in a task", **same)
    one(cluster, pool, message="by the task's logger", logger="logged.tasks", **same)
    until_sync(lambda: [line for line in told(cluster, pool, **same) if "succeeded in" in line["message"]], 10)
    failed = cluster.celery.send_task("logged.plain", [True], queue=queue_of(pool))
    same["run_id"] = failed.id
    until_sync(lambda: [line for line in told(cluster, pool, **same) if "a task's own" in line["message"]], 10)


def test_all_that_workers_and_beats_write_once_they_are_ready_is_json(cluster):
    for name in (*POOLS, "beat"):
        _, found, after = node(cluster, name).output().partition("ready." if name != "beat" else "Starting...")
        assert found, name
        for line in after.splitlines()[1:]:
            assert json.loads(line)["timestamp"].endswith("Z"), (name, line)


def test_lines_of_all_attempts_are_kept_with_what_became_of_them(cluster):
    run = cluster.client.start("own.fails")
    with pytest.raises(TaskFailedError):
        run.result(timeout=20)
    lines = until_sync(lambda: len(lines := run.logs()) == 4 and lines, 5)
    assert [(line.attempt, line.level) for line in lines] == [(0, "INFO"), (0, "WARNING"), (1, "INFO"), (1, "ERROR")]
    assert "ValueError: no good; tried again in" in lines[1].message
    assert "raise ValueError" in lines[3].exception
    assert "agnt5/runtime" not in lines[3].exception


@pytest.mark.parametrize("pool", ["own", "prefork"])
def test_a_replay_says_nothing_again_and_nobody_s_lines_are_told_as_another_run_s(cluster, pool):
    run = cluster.client.start(f"{pool}.replayed")
    until_sync(lambda: any("SignalAwaited" in type(event).__name__ for event in run.history()), 20)
    until_sync(lambda: run.status() == "waiting" and not run.state().host, 20)  # parked: it has to be replayed
    run.signal("go")
    run.result(timeout=20)
    said = ["begins", "begins too", "in a step behind a child's end", "goes on", "goes on too"]
    assert messages(run.logs()) == said
    for message in said:
        one(cluster, pool, run_id=run.id, message=message, handler="replayed")
    assert messages(cluster.client.logs(f"{run.id}~1")) == ["child's own"]


def test_a_project_s_own_logging_stays_as_it_is_and_lines_are_kept_all_the_same(cluster):
    run = cluster.client.start("mine.talks", {"size": 3})
    run.result(timeout=20)
    node(cluster, "mine").says("MINE agnt5.run.mine.talks talking")
    assert told(cluster, "mine") == []
    assert len(run.logs()) == 5


def test_a_killed_worker_s_lines_are_kept_but_for_the_last_moment(cluster):
    victim = node(cluster, "victim")
    run = cluster.client.start("victim.hangs")
    until_sync(lambda: messages(run.logs()) == ["before the kill"], 10)
    cluster.remove(victim)
    assert messages(run.logs()) == ["before the kill"]
    run.cancel()


# ---- the command line


@pytest.fixture(scope="module")
def agnt5(cluster):
    def run(*words: str) -> str:
        code, out, err = run_command(list(words), cwd=cluster.folder, env={"AGNT5_REDIS_URL": cluster.server.url})
        assert code == 0, err
        return out

    return run


def test_the_command_line_shows_lines_for_people_and_for_programs(cluster, agnt5):
    run = cluster.client.start("own.talks", {"size": 3})
    run.result(timeout=20)
    text = agnt5("runs", "show", run.id, "--logs")
    assert " INFO    talking  size=3 name=Ann message=mine odd={1}  agnt5.run.own.talks\n" in text
    assert " WARNING library\nwith two lines  shop.helpers\n" in text
    assert " INFO    in a step's thread  step=charge  shop.helpers\n" in text
    assert "\n    KeyError: 'lost'\n" in text
    lines = [json.loads(line) for line in agnt5("runs", "show", run.id, "--logs", "--json").splitlines()]
    assert [line["message"] for line in lines] == messages(run.logs())
    assert lines[0]["fields"] == {"size": 3, "name": "Ann", "message": "mine", "odd": "{1}"}
    quiet = cluster.client.start("own.child")
    quiet.result(timeout=20)
    cluster.admin.delete(keys.logs(quiet.id, 16))
    assert agnt5("runs", "show", quiet.id, "--logs") == "no log lines are kept with this run\n"


def test_the_command_line_follows_a_run_to_its_end(cluster, agnt5):
    run = cluster.client.start("own.fails")
    lines = [json.loads(line) for line in agnt5("runs", "show", run.id, "--logs", "--follow", "--json").splitlines()]
    assert [(line["attempt"], line["level"]) for line in lines] == [
        (0, "INFO"), (0, "WARNING"), (1, "INFO"), (1, "ERROR"),
    ]  # fmt: skip
    assert len({line["place"] for line in lines}) == 4


def test_the_command_line_shows_the_lines_of_a_whole_tree_by_time(cluster, agnt5):
    run = cluster.client.start("own.replayed")
    run.signal("go")
    child = f"{run.id}~1"
    expected = [
        (run.id, "begins"), (run.id, "begins too"), (child, "child's own"),
        (run.id, "in a step behind a child's end"), (run.id, "goes on"), (run.id, "goes on too"),
    ]  # fmt: skip
    followed = [json.loads(line) for line in agnt5("runs", "show", run.id, "--tree", "-f", "--json").splitlines()]
    assert sorted((line["run"], line["message"]) for line in followed) == sorted(expected)
    lines = [json.loads(line) for line in agnt5("runs", "show", run.id, "--logs", "--tree", "--json").splitlines()]
    assert [(line["run"], line["message"]) for line in lines] == expected
    text = agnt5("runs", "show", run.id, "--logs", "--tree").splitlines()
    assert [line.split()[0] for line in text] == [line["run"] for line in lines]

"""Secrets on real workers: they reach the code, and no journal, stream, state, error, event or log has them.

What is left behind is searched after each test (tests/support/leaks.py); here it is said what stands in their place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.dump import dump
from support.secret_values import found_in, made
from support.waiting import until_sync

from agnt5 import InvalidInputError, TaskFailedError

HERE = Path(__file__).parent
KEY = made("worker key", '-"q\\u"', prefix="sk-")
BOX = made("box key")
PHRASE = made("phrase", " battery staple", prefix="correct ")
LABEL = "[secret:api_key]"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "box_key").write_text(BOX + "\n")
    # the server's password in an address is one of the tests' secrets too
    with Cluster(["secretive"], paths=[HERE], AGNT5_SECRETS_DIR=folder, AGNT5_LINGER="100ms") as cluster:
        worker = cluster.worker(
            AGNT5_SECRET_API_KEY=KEY, AGNT5_SECRET_PHRASE=PHRASE, AGNT5_LINK_SECRET=made("link of the worker")
        )
        yield cluster.start(worker, cluster.beat())


def test_a_workflow_that_lets_secrets_go_has_them_masked_also_when_it_is_replayed(cluster):
    run = cluster.client.start("secretive.flow", {"given": "nothing"})
    until_sync(lambda: run.status() == "waiting" and not cluster.field(run.id, "host"), 20.0)  # parked
    run.signal("go", "now")
    result = run.result(timeout=20)
    assert result == {
        "step": {"key": LABEL, "given": "nothing"}, "child": f"Bearer {LABEL}", "kept": LABEL, "told": "now",
        "own": LABEL,
    }  # fmt: skip
    assert cluster.noted("flow") == [f"{LABEL} Bearer {LABEL} {LABEL} now"]
    assert cluster.client.entity_state("Box", "b").state == {"value": {"given": LABEL, "[secret:box_key]": 1}}
    (worker, _) = cluster.nodes
    worker.says(f"result of step 'read' (run {run.id}) holds the secret api_key, which was masked in it")
    assert not found_in(json.dumps([str(event) for event in run.history()]))


def test_chunks_are_masked_each_by_itself(cluster):
    run = cluster.client.start("secretive.stream")
    assert run.result(timeout=20) == ["first", {"second": LABEL}, LABEL]


def test_what_is_split_over_chunks_is_masked_and_the_handler_has_it_as_it_came(cluster):
    run = cluster.client.start("secretive.pieces")
    expected = [
        "It", " is", " [secret:phrase]", "", "", "", " .",
        {"type": "text", "text": LABEL}, {"type": "text", "text": "!"}, "sk-",
    ]  # fmt: skip
    assert list(run.stream()) == expected == run.result(timeout=20)
    assert cluster.noted("pieces") == ["True"]
    stored = repr(dump(cluster.admin))
    assert not any(part in stored for part in (KEY[:15], KEY[15:-6], PHRASE[8:32]))
    (worker, _) = cluster.nodes
    worker.says("stream of secretive.pieces holds the secret phrase, which was masked in it")


@pytest.mark.parametrize("how", ["step", "function"])
def test_errors_of_every_attempt_are_masked(cluster, how):
    run = cluster.client.start("secretive.fails", {"how": how})
    with pytest.raises(TaskFailedError) as failed:
        run.result(timeout=30)
    assert LABEL in failed.value.message
    assert LABEL in failed.value.traceback
    assert not found_in(failed.value.message + failed.value.traceback)


def test_what_people_are_asked_has_no_secrets(cluster):
    run = cluster.client.start("secretive.asks")
    until_sync(lambda: cluster.client.approvals(run_id=run.id), 20.0)
    (asked,) = cluster.client.approvals(run_id=run.id)
    assert asked.payload == {"key": LABEL}
    run.cancel("enough")


def test_a_step_is_not_named_after_a_secret(cluster):
    said = cluster.client.start("secretive.names").result(timeout=20)
    assert said.startswith(f"the name of a step 'call {LABEL}' holds the secret api_key; it is stored and shown")


def test_what_a_client_gives_is_masked_where_the_client_knows_it(cluster, monkeypatch):
    """The test's own process: its variables are its secrets."""
    from agnt5 import Client  # noqa: PLC0415
    from agnt5.contracts.masking import MASKER  # noqa: PLC0415

    before = dict(MASKER._values)
    monkeypatch.setenv("AGNT5_SECRET_CLIENTS_OWN", mine := made("clients own"))
    client = Client(cluster.server.url)
    try:
        run = client.start("secretive.echo", {"value": f"x {mine}"}, headers={"x-auth": f"Bearer {mine}"}, id="own-1")
        assert run.result(timeout=20) == "x [secret:clients_own]"
        with pytest.raises(InvalidInputError, match=r"run id .*holds the secret clients_own") as refused:
            client.start("secretive.echo", {"value": ""}, id=f"run-{mine}")
        assert not found_in(str(refused.value))
    finally:
        client.close()
        MASKER.forget()
        MASKER.learn_all((name, value) for value, name in before.items())
    assert b'"x-auth":"Bearer [secret:clients_own]"' in repr(dump(cluster.admin)).encode()


@pytest.mark.leaks  # the message of a plain task is its producer's: what it carries stands in the broker as it is
def test_events_of_plain_tasks_are_masked(cluster):
    from celery_events import told_of  # noqa: PLC0415

    (worker, _) = cluster.nodes
    told = told_of(cluster, lambda: cluster.celery.send_task("secretive.plain", [KEY]))
    failed = next(event for event in told if event["type"] == "task-failed")
    received = next(event for event in told if event["type"] == "task-received")
    assert LABEL in failed["exception"]
    assert LABEL in received["args"]
    assert not found_in(json.dumps(told))
    worker.says("Task secretive.plain")

"""What people get wrong: each mistake gives an error of the `Agnt5Error` tree that names the place and the remedy."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.server import Server
from support.waiting import until_sync

from agnt5 import (
    Agnt5Error,
    Client,
    ConfigurationError,
    DuplicateRunError,
    HandlerNotFoundError,
    InvalidInputError,
    PayloadTooLargeError,
    RunNotFoundError,
    SerializationError,
    StoreUnavailableError,
    TaskFailedError,
    workflow,
)
from agnt5.app import create_app

HERE = Path(__file__).parent
KIB = 1024


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    limits = {"AGNT5_PAYLOAD_LIMIT": "64KiB", "AGNT5_JOURNAL_LIMIT_EVENTS": "200"}
    with Cluster(["attacked"], paths=[HERE], **limits) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.fixture
def nothing_started(cluster: Cluster) -> Iterator[None]:
    """The test leaves the list of runs as it was, and no message anywhere."""
    before = [run.id for run in cluster.client.runs(limit=10_000)]
    yield
    assert [run.id for run in cluster.client.runs(limit=10_000)] == before
    assert cluster.messages("attacked") == 0
    cluster.sound()


# ---- at the start: nothing begins


@pytest.mark.parametrize(
    ("handler", "value", "error", "says"),
    [
        ("attacked.nobody", None, HandlerNotFoundError, "service 'attacked' has attacked.*single"),
        ("nowhere.nobody", None, HandlerNotFoundError, "no worker has announced service 'nowhere'; start a worker"),
        ("no-dot", None, InvalidInputError, "expected 'service.handler', for example"),
        ("attacked.limbs", {}, InvalidInputError, r"'leg' is missing; it takes \(leg, arm=...\)"),
        ("attacked.limbs", {"leg": 1, "tail": 2}, InvalidInputError, "'tail' is not a parameter"),
        ("attacked.exits", {"x": 1}, InvalidInputError, "'x' is not a parameter; it takes"),
        ("attacked.single", {"number": object()}, SerializationError, "input of attacked.single.*number"),
        ("attacked.single", {"number": float("nan")}, SerializationError, "input of attacked.single"),
        ("attacked.waiter", {"padding": "x" * 65 * KIB}, PayloadTooLargeError, "input of attacked.waiter.*65,536"),
    ],
)
def test_a_start_that_cannot_be_right_is_refused(cluster, nothing_started, handler, value, error, says):
    with pytest.raises(error, match=f"(?s){says}"):
        cluster.client.start(handler, value)


@pytest.mark.parametrize("run_id", ["", "a b", "a~b", "a{b}", "a|b", 'a"b', "a\nb", "x" * 201, 17])
def test_an_id_that_cannot_be_is_refused(cluster, nothing_started, run_id):
    with pytest.raises(InvalidInputError, match="run id"):
        cluster.client.start("attacked.single", {"number": 1}, id=run_id)


def test_many_starts_are_checked_before_the_first(cluster, nothing_started):
    with pytest.raises(InvalidInputError, match="tail"):
        cluster.client.start_many("attacked.limbs", [{"leg": 1}, {"tail": 2}])
    with pytest.raises(SerializationError):
        cluster.client.start_many("attacked.limbs", [{"leg": 1}, {"leg": object()}])


def test_the_same_id_with_other_input_is_refused(cluster):
    run = cluster.client.start("attacked.single", {"number": 1}, id="taken")
    assert run.result(timeout=20) == 1
    with pytest.raises(DuplicateRunError, match="(?s)taken.*use another id"):
        cluster.client.start("attacked.single", {"number": 2}, id="taken")
    with pytest.raises(DuplicateRunError, match="(?s)taken.*attacked.single"):
        cluster.client.start("attacked.same", {"number": 1}, id="taken")
    assert run.result() == 1


def test_what_is_not_there_is_told(cluster):
    for call in (cluster.client.get, cluster.client.cancel, cluster.client.history, cluster.client.retry):
        with pytest.raises(RunNotFoundError, match="nobody.*never started"):
            call("nobody")


# ---- in a handler: the run fails and says why


@pytest.mark.parametrize(
    ("handler", "value", "kind", "says"),
    [
        ("unspeakable", None, "SerializationError", "result of attacked.unspeakable.*object"),
        ("asks_unspeakable", None, "SerializationError", "input of attacked.single.*number"),
        ("steps_unspeakable", None, "SerializationError", "step 'odd'"),
        ("renews_unspeakable", None, "SerializationError", "continue_as_new"),
        ("big", {"size": 65 * KIB}, "PayloadTooLargeError", "result of attacked.big.*65,536.*AGNT5_PAYLOAD_LIMIT"),
        ("bad_cron", None, "InvalidInputError", "ctx.timer: cron.*'every other day'.*for example"),
        ("bad_delay", None, "InvalidInputError", "ctx.timer: delay_ms: expected milliseconds.*-1"),
        ("bad_service", None, "InvalidInputError", "'not a service.x'.*expected 'service.handler'"),
        ("bad_arguments", None, "InvalidInputError", "attacked.same.*'count'"),
        ("bad_types", None, "InvalidInputError", "attacked.same.*'number'.*integer"),
        ("single", {"number": "many"}, "InvalidInputError", "attacked.single.*'number'.*integer"),
    ],
)
def test_a_mistake_in_a_handler_fails_its_run(cluster, handler, value, kind, says):
    run = cluster.client.start(f"attacked.{handler}", value)
    with pytest.raises(TaskFailedError, match=f"(?s){says}") as failed:
        run.result(timeout=10)
    assert failed.value.type == kind
    assert run.state().attempt == 0
    cluster.sound()


def test_a_journal_past_its_limit_fails_its_run_and_names_the_remedy(cluster):
    with pytest.raises(TaskFailedError, match="continue_as_new") as failed:
        cluster.client.start("attacked.cyclic").result(timeout=30)
    assert failed.value.type == "JournalLimitError"
    cluster.sound()


def test_a_run_that_is_full_takes_no_more_signals_and_still_ends(cluster):
    run = cluster.client.start("attacked.waiter")
    with pytest.raises(Agnt5Error, match="the limit is reached"):
        for number in range(250):
            run.signal("other", number)
    run.cancel()
    until_sync(lambda: run.status().ended, 20)
    cluster.sound()


# ---- strangers


def test_a_plain_producers_mistake_is_logged_with_its_task_and_harms_nobody(cluster):
    (worker, _) = cluster.nodes
    cluster.celery.send_task("attacked.travel", kwargs={"arm": 1}, task_id="odd-arguments", queue="agnt5.attacked")
    worker.says("odd-arguments")
    cluster.celery.send_task("attacked.travel", kwargs={"leg": 1}, task_id="odd~id", queue="agnt5.attacked")
    worker.says("odd~id")
    cluster.celery.send_task("attacked.nobody", task_id="unknown-task", queue="agnt5.attacked")
    worker.says("attacked.nobody")
    assert cluster.client.start("attacked.single", {"number": 3}).result(timeout=20) == 3
    assert worker.alive
    cluster.sound()


def test_a_plain_producer_learns_of_its_wrong_arguments(cluster):
    cluster.celery.send_task("attacked.travel", kwargs={"arm": 1}, task_id="wrong", queue="agnt5.attacked")
    until_sync(lambda: cluster.client.states(["wrong"]), 10)
    with pytest.raises(TaskFailedError, match="arm") as failure:
        cluster.client.wait("wrong", timeout=5)
    assert failure.value.type == "InvalidInputError"
    assert cluster.client.state("wrong").attempt == 0


def test_garbage_in_the_queue_harms_nobody(cluster):
    (worker, _) = cluster.nodes
    good = {"body": "W10=", "properties": {"delivery_info": {"routing_key": "agnt5.attacked"}, "delivery_tag": "t"}}
    for text in ("", "{", "[]", "null", json.dumps(good), '{"body": 1, "headers": null}'):
        cluster.admin.lpush("agnt5.attacked", text)
    assert cluster.client.start("attacked.single", {"number": 3}).result(timeout=20) == 3
    assert worker.alive
    until_sync(lambda: cluster.messages("attacked") == 0, 10)


# ---- servers


def test_no_server_is_told_with_its_address_and_the_remedy():
    told = pytest.raises(StoreUnavailableError, match="127.0.0.1:1.*AGNT5_REDIS_URL")
    with Client("redis://127.0.0.1:1/0") as client, told:
        client.get("x")


def test_a_worker_without_a_server_ends_with_one_line(cluster):
    said = run_worker(cluster, AGNT5_REDIS_URL="redis://127.0.0.1:1/0")
    assert "no Redis answers at" in said
    assert "127.0.0.1:1" in said


def test_a_server_that_may_evict_runs_is_refused(cluster):
    with Server(maxmemory="100mb", **{"maxmemory-policy": "allkeys-lru"}) as server:
        with Client(server.url) as client, pytest.raises(ConfigurationError, match="allkeys-lru.*noeviction"):
            client.get("x")
        assert "set maxmemory-policy noeviction" in run_worker(cluster, AGNT5_REDIS_URL=server.url)
        assert server.admin.dbsize() == 0


def test_another_number_of_shards_is_refused(cluster):
    with Client(cluster.server.url, shards=8) as client, pytest.raises(ConfigurationError, match="AGNT5_SHARDS=16"):
        client.get("x")
    assert "set AGNT5_SHARDS=16" in run_worker(cluster, AGNT5_SHARDS="8")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("AGNT5_SHARDS", "many", "AGNT5_SHARDS: expected a whole number"),
        ("AGNT5_RETENTION", "7 fortnights", "AGNT5_RETENTION: expected a duration"),
        ("AGNT5_LIVENESS_TIMEOUT", "300ms", "at least twice AGNT5_HEARTBEAT"),
        ("AGNT5_REDIS_URL", "http://x:secret@y/", "AGNT5_REDIS_URL: expected a URL that begins with redis://"),
    ],
)
def test_a_wrong_setting_is_told_when_a_worker_starts(cluster, variable, value, says):
    said = run_worker(cluster, **{variable: value})
    assert says in said
    assert "secret" not in said


def test_a_module_that_is_not_there_is_told():
    with pytest.raises(ConfigurationError, match="no module 'nowhere'; run from the project's folder"):
        create_app(modules=["nowhere.workers"])


def test_a_bad_schedule_is_told_where_it_is_written():
    with pytest.raises(ConfigurationError, match="(?s)test_bad_input.py.*'never ever'.*for example"):

        @workflow(cron="never ever")
        async def scheduled(ctx): ...


def test_two_workers_of_one_name_are_noticed(cluster):
    twin = cluster.worker("w1", AGNT5_HEARTBEAT="1s")
    twin._log = cluster.folder / "twin.log"
    twin.spawn()
    try:
        twin.says("another worker named w1@", 20)
        assert cluster.client.start("attacked.single", {"number": 3}).result(timeout=20) == 3
    finally:
        cluster.remove(twin)
    cluster.sound(30)


def run_worker(cluster: Cluster, **env: str) -> str:
    """What a worker says that cannot start."""
    node = cluster.worker("doomed", **env)
    node._log = cluster.folder / f"doomed-{len(cluster.nodes)}-{threading.get_native_id()}-{len(env)}.log"
    node._log.unlink(missing_ok=True)
    node.spawn()
    try:
        assert node.wait_end(20) != 0
        return node.output()
    finally:
        cluster.remove(node)


def test_importing_agnt5_loads_neither_celery_nor_redis():
    heavy = ("celery", "redis", "pydantic")
    code = f"import sys; from agnt5 import function, Context; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

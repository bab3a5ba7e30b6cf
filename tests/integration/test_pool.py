"""The asyncio pool in real workers: Celery's semantics for coroutines and for sync tasks."""

import time
import uuid

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery_kit import Server, Worker, until

from agnt5.runtime.publish import Outgoing, publish, publish_async


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def app(server):
    app = server.sender()
    yield app
    app.close()


@pytest.fixture(scope="module")
def worker(server):
    with Worker(server, "-E", "-c", "120") as worker:
        yield worker
        worker.stop()
        assert "Traceback" not in worker.output().split("Warm shutdown")[-1]


def call(app, name, *args, **options):
    return app.send_task(name, args, **options)


def sig(app, name, *args, **options):
    return app.signature(name, args, **options)


# -- what Celery promises --------------------------------------------------------------------------


def test_each_of_100_concurrent_coroutines_sees_its_own_request(app, worker):
    results = [call(app, "whoami") for _ in range(100)]
    for result in results:
        assert result.get(timeout=20) == [result.id] * 5


def test_sync_tasks_run_in_threads_beside_the_loop(app, worker):
    assert call(app, "thread_name").get(timeout=10).startswith("agnt5-task")
    assert call(app, "add_sync", 1, 2).get(timeout=10) == 3


def test_chain_group_and_chord_of_both_kinds(app, worker):
    steps = chain(sig(app, "add", 1, 1), sig(app, "add_sync", 10), sig(app, "add", 100))
    assert steps.apply_async().get(timeout=10) == 112
    parts = group(sig(app, "add", n, n) for n in range(5))
    assert parts.apply_async().get(timeout=10) == [0, 2, 4, 6, 8]
    header = [sig(app, "add" if n % 2 else "add_sync", n) for n in range(20)]
    assert chord(header)(sig(app, "total")).get(timeout=15) == sum(range(20))


def test_callbacks_get_the_result_and_errbacks_the_error(server, app, worker):
    linked = uuid.uuid4().hex
    call(app, "add", 1, 2, link=sig(app, "add", 10).set(task_id=linked))
    assert app.AsyncResult(linked).get(timeout=10) == 13
    failing = call(app, "fail", link_error=sig(app, "remember_failure"))
    with pytest.raises(ValueError, match="as asked"):
        failing.get(timeout=10)
    until(lambda: server.client.hget("failures", failing.id), what="errback")
    assert "tests/integration/kit_app.py" in failing.traceback.replace("\\", "/")


def test_retry_ignore_and_reject(server, app, worker):
    assert call(app, "flaky", 2).get(timeout=10) == 2
    assert call(app, "rejected").get(timeout=10) == "third time"
    call(app, "ignored")
    until(lambda: server.client.llen("kit") == server.client.hlen("unacked") == 0, what="acknowledged")


def test_an_exit_or_a_cancellation_by_the_task_itself_fails_only_that_task(app, worker):
    for name in ("exits", "cancels_itself"):
        result = call(app, name)
        with pytest.raises(BaseException):
            result.get(timeout=10)
        assert result.state == "FAILURE"
    assert call(app, "add", 1).get(timeout=10) == 1


def test_soft_and_hard_time_limits(app, worker):
    assert call(app, "soft").get(timeout=10) == "stopped in time"
    with pytest.raises(TimeLimitExceeded):
        call(app, "hard").get(timeout=10)
    with pytest.raises(TimeLimitExceeded):
        call(app, "hang", time_limit=0.2).get(timeout=10)


def test_revoke_cancels_a_running_coroutine(server, app, worker):
    result = call(app, "hang")
    until(lambda: server.client.hget("hanging", result.id) == "started", what="started")
    active = app.control.inspect([worker.name], timeout=2).active()[worker.name]
    assert result.id in [request["id"] for request in active]
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    until(lambda: server.client.hget("hanging", result.id) == "ended", what="ended")
    until(lambda: server.client.hlen("unacked") == 0, what="acknowledged")


def test_eta_expiry_and_rate_limits(server, app, worker):
    started = time.time()
    assert call(app, "add", 1, countdown=0.5).get(timeout=10) == 1
    assert time.time() - started >= 0.5
    with pytest.raises(TaskRevokedError):
        call(app, "add", 1, expires=-1).get(timeout=10)
    server.client.delete("recorded")
    started = time.time()
    for _ in range(10):
        call(app, "throttled")
    until(lambda: server.client.hlen("recorded") == 10, what="throttled tasks")
    assert time.time() - started > 0.4


def test_inspect_and_stats(app, worker):
    inspect = app.control.inspect([worker.name], timeout=2)
    assert inspect.ping() == {worker.name: {"ok": "pong"}}
    stats = inspect.stats()[worker.name]
    assert stats["pool"]["max-concurrency"] == 120
    assert stats["pool"]["implementation"] == "agnt5.runtime.pool:TaskPool"
    assert stats["broker"]["transport"] == "redis"
    assert stats["prefetch_count"] == 120
    assert inspect.reserved() == {worker.name: []}


def test_events_arrive_in_batches_and_complete(server, app, worker):
    seen, batches = [], []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        original = receiver._receive
        receiver._receive = lambda body, message: (batches.append(body), original(body, message))
        with receiver.consumer_context(wakeup=False) as (consuming, *_):

            def turn():
                try:
                    consuming.drain_events(timeout=0.2)
                except TimeoutError:
                    pass

            until(lambda: turn() or seen, what="subscribed, as a heartbeat shows")
            messages = [Outgoing("add", uuid.uuid4().hex, "kit", args=[1]) for _ in range(200)]
            publish(app, messages)
            ids = {message.task_id for message in messages}

            def complete():
                turn()
                return len([e for e in seen if e.get("uuid") in ids]) >= 600

            until(complete, what="600 events")
    ours = [event for event in seen if event.get("uuid") in ids]
    kinds = [event["type"] for event in ours]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "task-received": 200,
        "task-started": 200,
        "task-succeeded": 200,
    }
    one = [event["type"] for event in ours if event["uuid"] == messages[7].task_id]
    assert one == ["task-received", "task-started", "task-succeeded"]
    assert max(len(body) for body in batches if isinstance(body, list)) > 24


async def test_publishing_from_a_coroutine(server, app, worker):
    server.client.delete("recorded")
    messages = [Outgoing("record", uuid.uuid4().hex, "kit") for _ in range(30)]
    await publish_async(app, messages)
    until(lambda: server.client.hlen("recorded") == 30, what="recorded")


# -- starting and stopping -------------------------------------------------------------------------


def test_a_warm_shutdown_finishes_what_it_holds_and_leaves_the_rest(app, server, worker):
    worker.stop()
    server.client.delete("recorded")
    publish(app, [Outgoing("record", uuid.uuid4().hex, "kit", args=[1.0]) for _ in range(50)])
    with Worker(server, "-c", "8", "-E") as stopping:
        until(lambda: server.client.hlen("unacked") == 8, what="8 held")
        stopping.stop()
        assert stopping.process.returncode == 0
    assert server.client.hlen("recorded") == 8
    assert server.client.llen("kit") == 42
    assert server.client.hlen("unacked") == server.client.zcard("unacked_index") == 0
    server.client.delete("kit")


def test_a_cold_shutdown_gives_the_messages_back(app, server, worker):
    worker.stop()
    results = [call(app, "hang") for _ in range(5)]
    with Worker(server, "-c", "8") as stopping:
        until(lambda: all(server.client.hget("hanging", each.id) == "started" for each in results), what="started")
        stopping.process.send_signal(3)  # SIGQUIT
        stopping.process.wait(15)
    assert server.client.llen("kit") == 5
    assert server.client.hlen("unacked") == 0
    server.client.delete("kit")


def test_without_a_number_hundreds_run_at_once(app, server, worker):
    worker.stop()
    with Worker(server):
        results = [call(app, "hang") for _ in range(100)]
        until(lambda: all(server.client.hget("hanging", each.id) == "started" for each in results), what="100 at once")
        until(lambda: not app.control.revoke([each.id for each in results], terminate=True), what="revoked")
        until(lambda: server.client.hlen("unacked") == 0, what="all ended")

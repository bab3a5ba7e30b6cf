"""Lesson 12. It is Celery: plain producers start runs, `AsyncResult` gets their results, `revoke` cancels them."""

import asyncio

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from support.cluster import Cluster, note
from support.waiting import until_sync

from agnt5 import Client, Context, RunCancelledError, TaskFailedError, function, workflow
from agnt5.app import create_app


@function(service="sums", retries=1)
async def add(ctx: Context, x: int, y: int = 0) -> int:
    if x < 0:
        raise ValueError("too small")
    return x + y


@workflow(service="sums")
async def add_twice(ctx: Context, x: int) -> int:
    return await ctx.task("sums", "add", input={"x": x, "y": await ctx.task("sums", "add", input={"x": x})})


@workflow(service="sums")
async def wait(ctx: Context) -> None:
    note("waits", ctx.run_id)
    await ctx.signal("never")


@function(service="sums")
async def hang(ctx: Context) -> None:
    note("waits", ctx.run_id)
    await asyncio.Event().wait()


@pytest.fixture(scope="module")
def stranger(cluster: Cluster) -> Celery:
    """An application that has Celery and an address, and no import of ours."""
    return Celery("stranger", broker=cluster.server.url, set_as_current=False)


@pytest.fixture(scope="module")
def app(cluster: Cluster) -> Celery:
    """The project's own Celery app."""
    return create_app(redis_url=cluster.server.url)


def test_send_task_starts_a_run(stranger: Celery, app: Celery, client: Client):
    sent = stranger.send_task("sums.add_twice", kwargs={"x": 4})
    assert app.AsyncResult(sent.id).get(timeout=20) == 8
    assert client.get(sent.id).result() == 8


def test_arguments_may_be_positional(stranger: Celery, app: Celery):
    assert app.AsyncResult(stranger.send_task("sums.add", args=[4, 3]).id).get(timeout=20) == 7


def test_errors_come_by_async_result(stranger: Celery, app: Celery):
    sent = stranger.send_task("sums.add", kwargs={"x": -1})
    with pytest.raises(TaskFailedError, match="ValueError: too small"):
        app.AsyncResult(sent.id).get(timeout=20)
    assert app.AsyncResult(sent.id).state == "FAILURE"


def test_a_task_id_that_is_sent_twice_is_one_run(stranger: Celery, app: Celery, cluster: Cluster):
    for _ in range(3):
        stranger.send_task("sums.add", kwargs={"x": 1}, task_id="only-once")
    assert app.AsyncResult("only-once").get(timeout=20) == 1


@pytest.mark.parametrize("handler", ["wait", "hang"])
@pytest.mark.parametrize("terminate", [False, True])
def test_revoke_cancels_a_run(handler: str, terminate: bool, app: Celery, client: Client, cluster: Cluster):
    run = client.start(f"sums.{handler}")
    until_sync(lambda: run.id in cluster.noted("waits"), 20)
    app.control.revoke(run.id, terminate=terminate)
    with pytest.raises(RunCancelledError, match="revoked"):
        run.result(timeout=20)
    with pytest.raises((TaskRevokedError, RunCancelledError)):
        app.AsyncResult(run.id).get(timeout=20)


def test_calling_a_task_as_celery_users_do(app: Celery):
    assert app.tasks["sums.add"].delay(x=2, y=3).get(timeout=20) == 5
    assert app.tasks["sums.add"].apply_async(args=[2], kwargs={"y": 4}, priority=3).get(timeout=20) == 6

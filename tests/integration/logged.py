"""Handlers and tasks that log. Each worker has them under a service of its own, named by LOGGED_AS."""

import asyncio
import logging
import os

from celery import shared_task, signals
from celery.utils.log import get_task_logger

from agnt5 import Context, RetryPolicy, function, workflow

AS = os.environ.get("LOGGED_AS", "own")
plain = logging.getLogger("shop.helpers")

if AS == "mine":

    @signals.setup_logging.connect(weak=False)
    def mine(loglevel=None, **_):
        """As a project does that wants its own logging."""
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("MINE %(name)s %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])


@function(service=AS)
async def talks(ctx: Context, size: int) -> int:
    ctx.log().info("talking", extra={"size": size, "name": "Ann", "message": "mine", "odd": {1}})
    plain.warning("library\nwith two lines")

    def work() -> None:
        plain.info("in a step's thread")

    await ctx.step("charge", work)
    await asyncio.to_thread(plain.info, "in a thread")
    try:
        raise KeyError("lost")
    except KeyError:
        ctx.log().exception("it failed")
    return size


@function(service=AS)
def blocks(ctx: Context) -> None:
    ctx.log().info("a plain def")


@function(service=AS, retries=RetryPolicy(max_attempts=2, initial_interval=0.01))
async def fails(ctx: Context) -> None:
    ctx.log().info("trying")
    raise ValueError("no good")


@function(service=AS)
async def child(ctx: Context) -> str:
    plain.info("child's own")
    return "done"


@workflow(service=AS)
async def replayed(ctx: Context) -> None:
    ctx.log().info("begins")
    plain.info("begins too")
    await ctx.task(child)
    await ctx.step("after", lambda: plain.info("in a step behind a child's end"))
    await ctx.signal("go")
    ctx.log().info("goes on")
    plain.info("goes on too")


@function(service=AS)
async def hangs(ctx: Context) -> None:
    ctx.log().info("before the kill")
    await asyncio.sleep(60)


@shared_task(name="logged.plain")
def celery_task(fail: bool = False) -> int:
    plain.info("in a task")
    get_task_logger("logged.tasks").info("by the task's logger")
    if fail:
        raise ValueError("a task's own")
    return 5

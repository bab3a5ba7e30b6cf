"""The Celery app of the transport and pool tests; what its tasks did is recorded in Redis, not in memory."""

import asyncio
import os
import sys
import threading
import time

import redis
from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import worker_ready

from agnt5.runtime.fastpath import use_fast_path

URL = os.environ["KIT_URL"]
app = Celery("kit", backend=URL)
use_fast_path(app, broker_url=URL, stock_transport=bool(os.environ.get("KIT_STOCK")))
if os.environ.get("KIT_STOCK"):
    app.conf.update(worker_pool="solo", worker_consumer="celery.worker.consumer:Consumer")
    app.events_cls = "celery.app.events:Events"
app.conf.update(
    task_acks_late=True,
    task_default_queue="kit",
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"unacked_lease": float(os.environ.get("KIT_LEASE", "60"))},
    result_expires=600,
)
worker_ready.connect(lambda **_: sys.stderr.write("kit worker is ready\n"), weak=False)
store = redis.Redis.from_url(URL, decode_responses=True)


def _end_with(parent):
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if "KIT_ENDS_WITH_PARENT" in os.environ:
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()


async def patiently(call, *args):
    """The tests restart the server, which must not fail a task for its own bookkeeping."""
    while True:
        try:
            return call(*args)
        except (redis.ConnectionError, redis.BusyLoadingError):
            await asyncio.sleep(0.05)


@app.task(name="record", bind=True, ignore_result=True)
async def record(self, pause=0.0):
    await asyncio.sleep(pause)
    await patiently(store.hincrby, "recorded", self.request.id, 1)


@app.task(name="record_sync", bind=True, ignore_result=True)
def record_sync(self):
    store.hincrby("recorded", self.request.id, 1)


@app.task(name="whoami", bind=True)
async def whoami(self):
    first = self.request.id
    await asyncio.sleep(0.05)

    async def child():
        await asyncio.sleep(0.01)
        return self.request.id

    in_child = await asyncio.create_task(child())
    in_thread = await asyncio.to_thread(lambda: self.request.id)
    current = app.current_task.request.id
    await asyncio.sleep(0.05)
    return [first, in_child, in_thread, current, self.request.id]


@app.task(name="add")
async def add(*numbers):
    await asyncio.sleep(0)
    return sum(numbers)


@app.task(name="add_sync")
def add_sync(*numbers):
    return sum(numbers)


@app.task(name="total")
async def total(numbers):
    return sum(numbers)


@app.task(name="flaky", bind=True, max_retries=3, default_retry_delay=0)
async def flaky(self, fails):
    if self.request.retries < fails:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(name="fail")
async def fail():
    raise ValueError("as asked")


@app.task(name="remember_failure")
def remember_failure(request, exc, traceback):
    store.hset("failures", request.id, repr(exc))


@app.task(name="ignored")
async def ignored():
    raise Ignore


@app.task(name="rejected", bind=True)
async def rejected(self):
    if store.hincrby("rejected", self.request.id, 1) < 3:
        raise Reject("again", requeue=True)
    return "third time"


@app.task(name="hang", bind=True)
async def hang(self):
    store.hset("hanging", self.request.id, "started")
    try:
        await asyncio.Event().wait()
    finally:
        store.hset("hanging", self.request.id, "ended")


@app.task(name="soft", soft_time_limit=0.1)
async def soft():
    try:
        await asyncio.sleep(30)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0.01)
        return "stopped in time"


@app.task(name="hard", time_limit=0.2)
async def hard():
    await asyncio.sleep(30)


@app.task(name="exits")
async def exits():
    raise SystemExit(3)


@app.task(name="cancels_itself")
async def cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)


@app.task(name="thread_name")
def thread_name():
    return threading.current_thread().name


@app.task(name="throttled", bind=True, rate_limit="20/s", ignore_result=True)
async def throttled(self):
    store.hincrby("recorded", self.request.id, 1)

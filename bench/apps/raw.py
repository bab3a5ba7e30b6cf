"""Plain Celery, as its users run it: prefork, kombu's transport, results in Redis."""

import os

from celery import Celery

URL = os.environ["AGNT5_REDIS_URL"].rpartition("/")[0]
app = Celery("raw", broker=f"{URL}/1", backend=f"{URL}/2")
app.conf.worker_send_task_events = True


@app.task
def noop(x=None):
    return {"ok": 1}


@app.task
def collect(xs):
    return {"n": len(xs)}


@app.task
def add(key, amount):
    import redis

    store = redis.Redis.from_url(f"{URL}/3") if not hasattr(app, "store") else app.store
    app.store = store
    with store.lock(f"lock:{key}", timeout=10, sleep=0.001):
        total = int(store.get(key) or 0) + amount
        store.set(key, total)
    return total


@app.task
def due(at):
    import time

    return {"late": time.time() - at}

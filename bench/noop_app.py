"""The Celery app of noop.py: `NOOP_FAST` selects our transport, pool and consumer, else all is stock Celery."""

import os

from celery import Celery

from agnt5.runtime.fastpath import use_fast_path

app = Celery("noop", broker=os.environ["NOOP_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1 if os.environ.get("NOOP_PF1") else 4,
    task_default_queue="noop",
    broker_connection_retry_on_startup=True,
)
if os.environ.get("NOOP_FAST"):
    use_fast_path(app, broker_url=os.environ["NOOP_URL"])


@app.task(name="noop")
def noop():
    pass


@app.task(name="anoop")
async def anoop():
    pass

"""What Celery's watchers hear."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from support.cluster import Cluster
from support.waiting import until_sync


def told_of(cluster: Cluster, act: Callable[[], Any]) -> list[dict[str, Any]]:
    """The events of tasks that an act brings about, until one has failed or succeeded."""
    heard: list[dict[str, Any]] = []
    ended = threading.Event()

    def listen() -> None:
        with cluster.celery.connection_for_read() as connection:
            receiver = cluster.celery.events.Receiver(connection, handlers={"*": heard.append})
            with receiver.consumer_context(wakeup=False) as (consuming, *_):
                while not ended.is_set():
                    try:
                        consuming.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        until_sync(lambda: any(event["type"].startswith("worker-") for event in heard), 20.0)
        act()
        until_sync(lambda: any(event["type"] in {"task-failed", "task-succeeded"} for event in heard), 20.0)
    finally:
        ended.set()
        thread.join()
    return [event for event in heard if event["type"].startswith("task-")]

"""What Celery's watchers hear."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from support.cluster import Cluster
from support.waiting import until_sync

_ENDS = {"task-failed", "task-succeeded"}


def told_of(cluster: Cluster, act: Callable[[], Any]) -> list[dict[str, Any]]:
    """The events of the task that `act` sends and gives, until it has failed or succeeded."""
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
        sent = act()
        until_sync(lambda: any(event["type"] in _ENDS and event["uuid"] == sent.id for event in heard), 20.0)
    finally:
        ended.set()
        thread.join()
    return [event for event in heard if event.get("uuid") == sent.id]

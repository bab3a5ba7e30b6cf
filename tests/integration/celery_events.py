"""What Celery's watchers hear."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.cluster import Cluster
from support.waiting import until_sync

_ENDS = {"task-failed", "task-succeeded"}


@contextmanager
def hearing(cluster: Cluster, take: Callable[[dict[str, Any]], Any]) -> Iterator[None]:
    """While it lasts `take` gets each event, in a thread of its own."""
    ended = threading.Event()

    def listen() -> None:
        with cluster.celery.connection_for_read() as connection:
            receiver = cluster.celery.events.Receiver(connection, handlers={"*": take})
            with receiver.consumer_context(wakeup=False) as (consuming, *_):
                while not ended.is_set():
                    try:
                        consuming.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def told_of(cluster: Cluster, act: Callable[[], Any]) -> list[dict[str, Any]]:
    """The events of the task that `act` sends and gives, until it has failed or succeeded."""
    heard: list[dict[str, Any]] = []
    with hearing(cluster, heard.append):
        until_sync(lambda: any(event["type"].startswith("worker-") for event in heard), 20.0)
        sent = act()
        until_sync(lambda: any(event["type"] in _ENDS and event["uuid"] == sent.id for event in heard), 20.0)
    return [event for event in heard if event.get("uuid") == sent.id]

"""One Celery request on its way through the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agnt5.runtime.tracing import Interruptible


class Job:
    """What the pool knows of one request; Celery keeps a weak reference to it and calls `terminate`."""

    __slots__ = (
        "__weakref__",
        "accepted",
        "callback",
        "coroutine",
        "ended",
        "error_callback",
        "hard_s",
        "pool",
        "run",
        "soft_s",
        "task",
        "task_id",
        "timeout_callback",
        "timers",
        "unwanted",
    )

    def __init__(self, pool: Any, task_id: str, run: Callable[[], Any]) -> None:
        self.pool = pool
        self.task_id = task_id
        #: makes the coroutine (on the loop) or computes the outcome (in a thread)
        self.run = run
        self.accepted: Callable[[int, float], Any] | None = None
        self.callback: Callable[[Any], Any] | None = None
        self.error_callback: Callable[[Any], Any] | None = None
        self.timeout_callback: Callable[[bool, float], Any] | None = None
        self.soft_s: float | None = None
        self.hard_s: float | None = None
        self.task: asyncio.Task[Any] | None = None
        self.coroutine: Interruptible | None = None
        self.timers: list[asyncio.TimerHandle] = []
        #: someone else has told the outcome (revoked, timed out): ours is of no interest
        self.unwanted = False
        self.ended = False

    def terminate(self, signal: Any = None) -> None:  # noqa: ARG002  # Celery's signature
        """Cancel the request; the caller tells its outcome. Safe from any thread."""
        self.unwanted = True
        self.pool.cancel(self)

    def discard_timers(self) -> None:
        """Stop watching the time limits."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

"""How a process that works for a worker hears that the worker stops, also one that its pool forked."""

from __future__ import annotations

import mmap
from enum import IntEnum
from typing import Any

from celery.worker import state

HEED_S = 0.1
"""How often a process looks whether its worker stops."""


class Stop(IntEnum):
    """How a worker stops; the later one is the more urgent."""

    NOT = 0
    WARM = 1
    COLD = 2


class Word:
    """What a worker tells its processes: a byte that they share, once it was made before they are forked.

    In the worker's own process Celery's signal handlers are heard too, which leave no more than a mark.
    """

    def __init__(self) -> None:
        self._page: mmap.mmap | bytearray = bytearray(1)

    def share(self) -> None:
        """Nothing is said yet, and what will be is heard by processes that are forked from now on."""
        self._page = mmap.mmap(-1, 1)

    def give(self, stop: Stop) -> None:
        """Say that the worker stops."""
        self._page[0] = max(stop, self._page[0])

    def pass_on(self) -> None:
        """Have children hear what Celery's signal handlers left in this process."""
        self.give(self.heard())

    def heard(self) -> Stop:
        """What has been said."""
        if is_cold():
            return Stop.COLD
        return max(Stop(self._page[0]), Stop.WARM if _marked(state.should_stop) else Stop.NOT)


def is_cold() -> bool:
    """Whether this worker was told to stop without waiting for what it does."""
    return _marked(state.should_terminate)


def forks(pool: Any) -> bool:
    """Whether a pool, by name or class, executes in child processes."""
    place = pool if isinstance(pool, str) else pool.__module__
    return place == "processes" or "prefork" in place


def _marked(mark: Any) -> bool:
    """Celery's marks are exit codes, so that 0 is one."""
    return mark is not None and mark is not False

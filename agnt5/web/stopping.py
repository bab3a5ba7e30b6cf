"""Waits of requests that end when the server begins to stop, so that they are answered before it does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")

LOOK_S = 0.1
"""How often it is looked, while anything waits, whether the server stops: as often as uvicorn looks itself."""


class ServerStops(Exception):  # noqa: N818 - nothing is wrong
    """The server began to stop while a request waited."""


def server_stops() -> bool:
    """Whether the server of this process has begun to stop.

    ASGI tells an app of that only once its requests have ended. A uvicorn in the main thread is found by the signal
    handler that it sets, however it was started; of another server nothing is known.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


class Stopping:
    """All waits of the running event loop, which one timer watches."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._waits: set[asyncio.Timeout] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, what: Awaitable[T]) -> T:
        """What comes of `what`. Cancels it and raises `ServerStops` when the server begins to stop, or did before."""
        limit = asyncio.timeout(0 if server_stops() else None)
        try:
            async with limit:
                self._waits.add(limit)
                if self._timer is None:
                    self._timer = self.loop.call_later(LOOK_S, self._look)
                return await what
        except TimeoutError:
            if limit.expired():
                raise ServerStops from None
            raise
        finally:
            self._waits.discard(limit)

    async def each(self, found: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """What a generator yields, until it ends or the server begins to stop; it is closed then."""
        async with aclosing(found):
            while True:
                try:
                    one = await self.wait(anext(found))
                except (ServerStops, StopAsyncIteration):
                    return
                yield one

    def _look(self) -> None:
        self._timer = None
        if server_stops():
            for limit in self._waits:
                limit.reschedule(0)
            self._waits.clear()
        if self._waits:
            self._timer = self.loop.call_later(LOOK_S, self._look)

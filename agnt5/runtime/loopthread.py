"""One asyncio loop in one thread, and batched traffic between it and the thread of Celery's event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from celery.utils.log import get_logger

from agnt5.runtime.exits import serve

logger = get_logger(__name__)

Call = tuple[Callable[..., Any], tuple[Any, ...]]


def run_calls(calls: deque[Call]) -> None:
    """Run and remove all calls; what one raises is logged, only requests to exit the process pass."""
    while calls:
        function, args = calls.popleft()
        try:
            function(*args)
        except Exception:
            logger.exception("%r failed", function)


class LoopThread:
    """An asyncio loop that runs in a daemon thread.

    `post` runs a callable on the loop. While a turn of Celery's event loop is being `held`, calls posted from its
    thread are collected and the asyncio loop is woken once, by `flush`.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._calls: deque[Call] = deque()
        self._woken = False
        self._holder: int | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            serve(self.loop)
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def stop(self, timeout_s: float) -> None:
        """Stop the loop and wait for its thread; what still runs on it is cancelled."""
        if not self._thread.is_alive():
            return
        self.loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join(timeout_s)

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        ended = asyncio.gather(*tasks, return_exceptions=True)
        ended.add_done_callback(lambda _: self.loop.stop())

    def hold(self) -> None:
        """From now on the calling thread promises to `flush` after each batch of posts."""
        self._holder = threading.get_ident()

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function(*args)` on the loop; safe from any thread."""
        self._calls.append((function, args))
        if threading.get_ident() != self._holder:
            self._wake()

    def flush(self) -> None:
        """Wake the loop if anything was posted."""
        if self._calls:
            self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        # cleared first: what is posted from here on must wake the loop again
        self._woken = False
        run_calls(self._calls)


class Outbox:
    """Calls that the loop's thread and worker threads want run by the thread of Celery's event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Call] = deque()
        self._pending = False
        self._hub: Any = None
        self.arrived = threading.Event()

    def connect(self, hub: Any) -> None:
        """Let `hub` run the calls."""
        self._hub = hub
        self._pending = False

    def tell(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function(*args)` there with the next batch; safe from any thread, in order for each thread."""
        self._calls.append((function, args))
        if not self._pending:
            self._pending = True
            self._wake()

    def tell_from_loop(self, function: Callable[..., Any], *args: Any) -> None:
        """As `tell`, from the loop's own thread: all calls of one turn of the loop travel together."""
        self._calls.append((function, args))
        if not self._pending:
            self._pending = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self.arrived.set()
        if self._hub is not None:
            self._hub.call_soon(self.drain)
        else:
            self._loop.call_soon_threadsafe(self._loop.run_in_executor, None, self.drain)

    def drain(self) -> None:
        """Run what was told; called by the receiving thread."""
        self._pending = False
        run_calls(self._calls)

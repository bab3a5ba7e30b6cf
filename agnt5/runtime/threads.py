"""Threads for blocking code. A process does not wait for them when it ends, whatever they still do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")

Call = tuple[Future[Any], Callable[[], Any]]


class Threads(Executor):
    """At most `most` threads, started as they are needed.

    They are daemons: code that cannot be stopped would keep a worker's process for as long as it takes, after its run
    was handed back. The standard library's executor joins its threads when the interpreter ends.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Call a function in a thread, in the order of submission. Raises `RuntimeError` after `shutdown`."""
        with self._lock:
            if self._closed:
                raise RuntimeError("these threads were shut down")
            future: Future[R] = Future()
            self._calls.put((future, partial(fn, *args, **kwargs)))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
                name = f"{self._name}_{len(self._threads)}"
                self._threads.append(thread := threading.Thread(target=self._work, name=name, daemon=True))
                thread.start()
            return future

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            _carry_out(*call)
            del call  # an idle thread keeps nothing
            self._idle.release()
        self._calls.put(None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with `wait` return when those that were taken have ended."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._cancel_all()
            self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _cancel_all(self) -> None:
        with suppress(Empty):
            while True:
                if (call := self._calls.get_nowait()) is not None:
                    call[0].cancel()


def _carry_out(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001  # told to who waits for it
        future.set_exception(error)
    else:
        future.set_result(result)

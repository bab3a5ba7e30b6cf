"""Requests to exit and event loops: asyncio lets `SystemExit` out of a loop from whichever task or callback it is in.

`sys.exit()` in a handler ends its run, never the worker. A signal that stops a process ends what its loop runs first.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from agnt5.contracts.errors import TaskFailedError, error_data

logger = logging.getLogger("agnt5.runtime")

R = TypeVar("R")


@contextmanager
def contained() -> Iterator[None]:
    """Around user code: `SystemExit` and `KeyboardInterrupt` become an ordinary error with their name."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:
        data = error_data(error)
        message = f"{data['message']} (a handler cannot end its worker)"
        raise TaskFailedError(message, type=data["type"], traceback=data["traceback"]) from error


def serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped, also past a task of user code that asks the process to exit."""
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            logger.error("a task of a handler raised %r; the worker goes on", error)  # noqa: TRY400
        else:
            return


def run_until_told(loop: asyncio.AbstractEventLoop, function: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> R:
    """Run `function(*args)` on a loop. SIGTERM and SIGINT cancel it, and `SystemExit` is raised when it has ended.

    Celery's own handlers raise `SystemExit` wherever the process is. In a loop that may be in the middle of a task or
    callback that others wait for, or where it is lost; so they are set aside while the loop runs.
    """
    told: list[int] = []

    def tell(number: int, _: Any) -> None:
        told.append(number)
        loop.call_soon_threadsafe(lambda: task.cancel())  # noqa: PLW0108  # there may be no task yet

    with _stop_signals(tell):
        task = loop.create_task(function(*args))
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
    if told:
        raise SystemExit
    return task.result()


@contextmanager
def _stop_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Have SIGTERM and SIGINT handled in another way, where something of this thread handles them."""
    in_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT) if in_main}
    usual = {number: callback for number, callback in found.items() if callable(callback)}
    try:
        for number in usual:
            signal.signal(number, handler)
        yield
    finally:
        for number, callback in usual.items():
            signal.signal(number, callback)

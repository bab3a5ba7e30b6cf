"""`sys.exit()` in a handler ends its run, never the worker: asyncio would let it out of the loop of all runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from agnt5.contracts.errors import TaskFailedError, error_data

logger = logging.getLogger("agnt5.runtime")


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

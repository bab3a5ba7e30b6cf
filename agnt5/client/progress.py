"""What a person sees who waits for a result at a terminal: the run, its status, and what happened last."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, Any

from agnt5.contracts.errors import Agnt5Error

if TYPE_CHECKING:
    from agnt5.client.aio import AsyncClient

QUIET_S = 1.0
"""A wait that is shorter shows nothing."""

LOOK_S = 0.5


def wait_for(result: Future[Any], describe: Callable[[], str]) -> Any:
    """The value of `result`; while it takes long and standard error is a terminal, `describe()` is shown there."""
    if not sys.stderr.isatty():
        return result.result()
    try:
        return result.result(QUIET_S)
    except NotYet:
        if result.done():  # it ended just now, or the error is its own
            return result.result()
    return _shown(result, describe)


def _shown(result: Future[Any], describe: Callable[[], str]) -> Any:
    from rich.console import Console  # noqa: PLC0415 - only people wait so long
    from rich.markup import escape  # noqa: PLC0415

    with Console(stderr=True, highlight=False).status("waiting") as status:
        while True:
            try:
                status.update(escape(describe()))
            except Agnt5Error as error:
                status.update(escape(str(error)))
            try:
                return result.result(LOOK_S)
            except NotYet:
                if result.done():
                    return result.result()


async def describe(client: AsyncClient, run_id: str) -> str:
    """A run in one line."""
    state, last = await client.last_event(run_id)
    about = getattr(last, "name", "") or getattr(last, "handler", "")
    return f"{state.handler} {run_id}: {state.status}, last {type(last).__name__} {about}".rstrip()

"""A link that fails at one chosen call, outside production code: put it where a `Link` goes.

- `before`: the call never leaves.
- `after`: it leaves, and the process is gone before the reply.
- `between`: the reply has come, and the process is gone before anybody has read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, NoReturn

from agnt5.store.link import Link
from agnt5.store.scripts import Script

Where = Literal["before", "after", "between"]
PLACES: tuple[Where, ...] = ("before", "after", "between")


class CrashError(BaseException):
    """The process is gone, as far as the test is concerned."""


def crash() -> NoReturn:
    """What happens at the chosen call; real processes pass `lambda: os.kill(os.getpid(), 9)`."""
    raise CrashError


class FaultyLink:
    """Counts script calls from 1; at call number `at` it does `action` in the chosen place. Then all is well."""

    def __init__(self, link: Link, at: int, where: Where, action: Callable[[], Any] = crash) -> None:
        self._link = link
        self._at = at
        self._where = where
        self._action = action
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def script(self, script: Script, prefix: str, args: tuple[str | bytes | int, ...]) -> asyncio.Future[Any]:
        """`Link.script`, with the fault."""
        self.count += 1
        if self.count != self._at:
            return self._link.script(script, prefix, args)
        if self._where == "before":
            self._action()
        return asyncio.ensure_future(self._fail(self._link.script(script, prefix, args)))

    async def _fail(self, sent: asyncio.Future[Any]) -> Any:
        if self._where == "between":
            await sent
        else:
            await asyncio.sleep(0)  # the tick ends and the bytes leave
            await asyncio.sleep(0)
        self._action()
        return await sent

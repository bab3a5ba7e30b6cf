"""A copy of config that keeps itself up to date, for code outside of workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agnt5.contracts.errors import Agnt5Error
from agnt5.store import keys
from agnt5.store.config import ConfigCopy
from agnt5.store.store import Store
from agnt5.store.subscriber import Subscriber

logger = logging.getLogger("agnt5.config")

LOOK_S = 3.0
"""Seconds between two looks at the version: a change whose publication was lost is found then."""


class ConfigWatch:
    """Watches from `open` to `close`. Where Redis is away at first, it goes on trying, and `copy` is None until then.

    `opened` gives the store; `on_change` is told the keys that changed, and `on_ready` that there is a copy, both on
    the loop.
    """

    def __init__(
        self,
        opened: Callable[[], Awaitable[Store]],
        *,
        on_change: Callable[[list[str]], None],
        on_ready: Callable[[], None],
    ) -> None:
        self.copy: ConfigCopy | None = None
        self._opened = opened
        self._on_change = on_change
        self._on_ready = on_ready
        self._mail: Subscriber | None = None
        self._watching: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin. Returns when all is read, or the first try has failed; raises `Agnt5Error` then, and goes on."""
        try:
            await self._begin()
        finally:
            self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop watching. What is known stays."""
        for task in (self._watching, *self._tasks):
            if task is not None:
                task.cancel()
        if self._mail is not None:
            await self._mail.close()

    async def _begin(self) -> None:
        store = await self._opened()
        copy = ConfigCopy(store.link, self._on_change)
        mail = Subscriber(store.link.address, lambda _, message: self._hear(copy, message), lambda: self._refresh(copy))
        await mail.connect()
        self._mail = mail
        await mail.subscribe(keys.CONFIG_CHANNEL)
        await copy.load()
        self.copy = copy

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if self.copy is not None:
                    await self.copy.refresh()
                    continue
                await self._begin()
            except Agnt5Error as error:
                logger.debug("config is not there yet: %s", error)
            else:
                self._on_ready()

    def _hear(self, copy: ConfigCopy, message: bytes) -> None:
        if not copy.hear(message):
            self._refresh(copy)

    def _refresh(self, copy: ConfigCopy) -> None:
        task = asyncio.get_running_loop().create_task(copy.refresh())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

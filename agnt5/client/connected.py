"""A client's connection: opened on first use, one for each event loop and process."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from agnt5.client.catalog import Catalog
from agnt5.client.follow import Follows
from agnt5.client.streams import Streams
from agnt5.client.waiting import Waits
from agnt5.contracts.settings import Settings
from agnt5.runtime.dispatch import Dispatcher, open_dispatcher
from agnt5.secrets.known import learn
from agnt5.store.opening import open_store
from agnt5.store.store import Store

PATIENCE_S = 10.0
"""How long a client's call rides out an outage of Redis before it raises `StoreUnavailableError`."""


class Connected:
    """What has a store, a way for messages, and a settings object. Closed by `close()` or the end of `async with`."""

    def __init__(self, redis_url: str | None = None, *, broker_url: str | None = None, **settings: Any) -> None:
        given = {"redis_url": redis_url, "broker_url": broker_url, **settings}
        self.settings = Settings.from_env(**{key: value for key, value in given.items() if value is not None})
        learn(self.settings)
        self._opening: asyncio.Task[tuple[Store, Dispatcher, Waits]] | None = None
        self.catalog = Catalog(self._store)
        self._follows: Follows | None = None
        self._streams: Streams | None = None

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._opening is not None:
            store, dispatcher, waits = await self._opening
            if self._follows is not None:
                await self._follows.close()
                self._follows = None
            if self._streams is not None:
                await self._streams.close()
                self._streams = None
            await dispatcher.flush()
            await waits.close()
            await store.link.close()
            self._opening = None

    async def opened(self) -> tuple[Store, Dispatcher]:
        """The store and the way for messages, for tools that look below this client's methods."""
        store, dispatcher, _ = await self._open()
        return store, dispatcher

    async def _open(self) -> tuple[Store, Dispatcher, Waits]:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._connect())
        try:
            return await asyncio.shield(self._opening)
        except BaseException:
            if self._opening.done():
                self._opening = None
            raise

    async def _store(self) -> Store:
        return (await self._open())[0]

    async def _connect(self) -> tuple[Store, Dispatcher, Waits]:
        store = await open_store(self.settings, name="agnt5:client", patience_s=PATIENCE_S)
        return store, await open_dispatcher(store, self.settings), Waits(store)

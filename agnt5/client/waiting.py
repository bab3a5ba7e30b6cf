"""Waiting for runs to end: one connection for all waits of a client."""

from __future__ import annotations

import asyncio

from agnt5.contracts.errors import ResultTimeoutError
from agnt5.store import browse, keys
from agnt5.store.replies import Record
from agnt5.store.store import Store
from agnt5.store.subscriber import Subscriber

LOOK_S = 5.0
"""A publication can get lost: each wait looks at its record again after so long."""


class Waits:
    """Who waits for which run. Subscribes before it looks, so that no end falls in between."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._prefix = len(keys.done_channel(""))
        self._ears = Subscriber(store.link.address, self._on_end, self._wake_all)
        self._connecting: asyncio.Task[None] | None = None

    async def ended(self, run_id: str, timeout_s: float | None) -> Record:
        """The record of a run once it has ended.

        Raises `ResultTimeoutError` after `timeout_s` seconds, `RunNotFoundError` where there is no such run.
        """
        record = await browse.record(self._store, run_id)
        if record.status.ended:
            return record
        try:
            async with asyncio.timeout(timeout_s):
                return await self._wait(run_id)
        except TimeoutError:
            raise ResultTimeoutError(
                f"run {run_id} has not ended after {timeout_s:g} s; it is {record.status} and goes on"
            ) from None

    async def _wait(self, run_id: str) -> Record:
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._ears.connect())
        await asyncio.shield(self._connecting)
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run_id, []).append(told)
        try:
            await self._ears.subscribe(keys.done_channel(run_id))
            while True:
                record = await browse.record(self._store, run_id)
                if record.status.ended:
                    return record
                await asyncio.wait([told], timeout=LOOK_S)
                if told.done():
                    told = asyncio.get_running_loop().create_future()
                    self._waiting.setdefault(run_id, []).append(told)
        finally:
            self._leave(run_id, told)

    def _leave(self, run_id: str, told: asyncio.Future[None]) -> None:
        others = [one for one in self._waiting.get(run_id, ()) if one is not told]
        if others:
            self._waiting[run_id] = others
        else:
            self._waiting.pop(run_id, None)
            self._ears.unsubscribe(keys.done_channel(run_id))

    def _on_end(self, channel: bytes, _status: bytes) -> None:
        self._wake(channel[self._prefix :].decode())

    def _wake(self, run_id: str) -> None:
        for told in self._waiting.get(run_id, ()):
            if not told.done():
                told.set_result(None)

    def _wake_all(self) -> None:
        for run_id in self._waiting:
            self._wake(run_id)

    async def close(self) -> None:
        """Stop listening."""
        if self._connecting:
            self._connecting.cancel()
        await self._ears.close()

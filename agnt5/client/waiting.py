"""Waiting for runs to end: one connection for all waits of a client."""

from __future__ import annotations

import asyncio
import re
from asyncio import Future

from agnt5.contracts.errors import ResultTimeoutError, RunNotFoundError
from agnt5.store import keys
from agnt5.store.store import Store
from agnt5.store.subscriber import Subscriber

_TERMINAL = re.compile(rb'\{"at":\d+,"e":"Run(?:Completed|Failed|Cancelled)"')
"""A journal ends with such an entry if, and only if, its run has ended."""


def is_end(entry: bytes) -> bool:
    """Whether a run has ended whose journal ends with this entry."""
    return _TERMINAL.match(entry) is not None


LOOK_S = 5.0
"""A publication can get lost: each wait looks at its record again after so long."""


class Waits:
    """Who waits for which run. Subscribes before it looks, so that no end falls in between.

    What is published at a run's end is its terminal journal entry, so that hearing of it is having it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, set[Future[bytes | None]]] = {}
        self._prefix = len(keys.done_channel(""))
        self._ears = Subscriber(store.link.address, self._on_end, self._look_again)
        self._connecting: asyncio.Task[None] | None = None

    async def ended(self, run_id: str, timeout_s: float | None) -> bytes:
        """The terminal journal entry of a run, once it has ended.

        Raises `ResultTimeoutError` after `timeout_s` seconds, `RunNotFoundError` where there is no such run.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._wait(run_id)
        except TimeoutError:
            status = await self._store.link.call("HGET", keys.run(run_id, self._store.shards), "status")
            raise ResultTimeoutError(
                f"run {run_id} has not ended after {timeout_s:g} s; it is {(status or b'gone').decode()} and goes on"
            ) from None

    async def _wait(self, run_id: str) -> bytes:
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._ears.connect())
        await asyncio.shield(self._connecting)
        channel = keys.done_channel(run_id)
        told: Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run_id, set()).add(told)
        try:
            await self._ears.subscribe(channel)
            while (entry := await self._look(run_id)) is None:
                await asyncio.wait([told], timeout=LOOK_S)
                if told.done():
                    if (heard := told.result()) is not None:
                        return heard
                    self._waiting[run_id].discard(told)
                    told = asyncio.get_running_loop().create_future()
                    self._waiting[run_id].add(told)
            return entry
        finally:
            others = self._waiting.get(run_id, set())
            others.discard(told)
            if not others:
                self._waiting.pop(run_id, None)
                self._ears.unsubscribe(channel)

    async def _look(self, run_id: str) -> bytes | None:
        """The terminal entry if the run has ended by now."""
        last = await self._store.link.call("LINDEX", keys.log(run_id, self._store.shards), -1)
        if last is None:
            raise RunNotFoundError(f"run {run_id}: there is none of this id (never started, or past its retention)")
        assert isinstance(last, bytes)
        return last if is_end(last) else None

    def _on_end(self, channel: bytes, entry: bytes) -> None:
        self._tell(channel[self._prefix :].decode(), entry)

    def _tell(self, run_id: str, entry: bytes | None) -> None:
        for told in self._waiting.get(run_id, ()):
            if not told.done():
                told.set_result(entry)

    def _look_again(self) -> None:
        for run_id in self._waiting:
            self._tell(run_id, None)

    async def close(self) -> None:
        """Stop listening. Who still waits looks again, and finds the link closed."""
        if self._connecting:
            self._connecting.cancel()
        await self._ears.close()
        self._look_again()

"""Channels of Redis for one event loop: subscribe, get messages, ride out reconnects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from agnt5.contracts.errors import Agnt5Error, StoreUnavailableError
from agnt5.store.link import RECONNECT_S
from agnt5.store.wire import Address, Wire, pack

logger = logging.getLogger("agnt5.store")


class Subscriber:
    """One connection that listens.

    Publications are hints: some are lost while the connection is down, so `on_mend` is called after each
    reconnect, for the listener to read what it may have missed.
    """

    def __init__(
        self, address: Address, on_message: Callable[[bytes, bytes], None], on_mend: Callable[[], None] | None = None
    ) -> None:
        self._address = address
        self._on_message = on_message
        self._on_mend = on_mend
        self._channels: set[str] = set()
        self._confirming: dict[bytes, asyncio.Future[None]] = {}
        self._wire: Wire | None = None
        self._mending: asyncio.Task[None] | None = None
        self._closed = False

    async def connect(self) -> None:
        """Connect now. Raises `StoreUnavailableError` when nobody answers."""
        try:
            self._wire = await self._address.connect(self._on_reply, self._on_lost)
        except (OSError, TimeoutError) as error:
            raise StoreUnavailableError(f"no Redis answers at {self._address} ({error})") from error

    async def subscribe(self, *channels: str) -> None:
        """Listen on further channels; returns when the server has confirmed all of them."""
        loop = asyncio.get_running_loop()
        fresh = [channel for channel in channels if channel not in self._channels]
        self._channels.update(fresh)
        futures = [loop.create_future() for _ in fresh]  # not those of a listener that gave up meanwhile
        self._confirming |= {channel.encode(): future for channel, future in zip(fresh, futures, strict=True)}
        if fresh and self._wire:
            self._wire.write(pack(("SUBSCRIBE", *fresh)))
        for future in futures:
            await future

    def unsubscribe(self, *channels: str) -> None:
        """Stop listening on channels."""
        gone = [channel for channel in channels if channel in self._channels]
        self._channels.difference_update(gone)
        if gone and self._wire:
            self._wire.write(pack(("UNSUBSCRIBE", *gone)))

    async def close(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._mending:
            self._mending.cancel()
        if self._wire:
            self._wire.drop()
            self._wire = None

    def _on_reply(self, reply: Any) -> None:
        if not isinstance(reply, list):
            return
        if reply[0] == b"message":
            try:
                self._on_message(reply[1], reply[2])
            except Exception:
                logger.exception("a message on %s could not be handled", reply[1].decode())
        elif reply[0] == b"subscribe" and (future := self._confirming.pop(reply[1], None)) and not future.done():
            future.set_result(None)

    def _on_lost(self) -> None:
        self._wire = None
        if not self._closed and (self._mending is None or self._mending.done()):
            self._mending = asyncio.get_running_loop().create_task(self._mend())

    async def _mend(self) -> None:
        for attempt in range(1_000_000_000):
            await asyncio.sleep(RECONNECT_S[min(attempt, len(RECONNECT_S) - 1)])
            try:
                self._wire = await self._address.connect(self._on_reply, self._on_lost)
            except (OSError, TimeoutError, Agnt5Error):
                continue
            if self._channels:
                self._wire.write(pack(("SUBSCRIBE", *self._channels)))
            if self._on_mend:
                self._on_mend()
            return

"""A TCP proxy before Redis that can delay, cut, refuse, and lose replies for real.

It has a thread and a loop of its own, so that it serves sync code, async code and other processes alike.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self


class Proxy:
    """Forwards to `port`. Counts in `lost` the replies that it swallowed, in `connections` those it took."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-proxy", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._muted: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._lose: Callable[[bytes], bool] | None = None
        self._losses = 0
        self.delay_s = 0.0
        self.refusing = False
        self.port = 0
        self.lost = 0
        self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_replies_to(self, marker: bytes | Callable[[bytes], bool], times: int = 1) -> None:
        """Forward the next request that holds `marker`, let it take effect, swallow the reply, reset the line."""
        self._losses = times
        self._lose = marker if callable(marker) else (lambda data: marker in data)

    def mute(self) -> None:
        """Say nothing more on the connections that are open, as a machine without power would. New ones work."""
        self._muted |= self._writers

    def cut(self) -> None:
        """Reset every connection now."""
        self._do(self._cut())

    # ---- in the proxy's own thread

    def _do(self, coro: object) -> None:
        asyncio.run_coroutine_threadsafe(coro, self._loop).result(10)  # type: ignore[arg-type]

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cut(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refusing:
            _reset(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        ends = {writer, up_writer}
        self._writers |= ends
        swallow = asyncio.Event()
        try:
            await asyncio.gather(
                self._pump(reader, up_writer, swallow, up=True), self._pump(up_reader, writer, swallow, up=False)
            )
        except (OSError, _LostError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                _reset(end)
            self._writers -= ends

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: asyncio.Event, *, up: bool
    ) -> None:
        while data := await reader.read(1 << 18):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if up and self._lose and self._losses and self._lose(data):
                self._losses -= 1
                swallow.set()
            elif not up and swallow.is_set():
                self.lost += 1
                raise _LostError
            if writer in self._muted:
                continue
            writer.write(data)
            await writer.drain()
        raise _LostError


class _LostError(Exception):
    pass


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        raw = writer.get_extra_info("socket")
        if raw is not None and raw.fileno() != -1:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()

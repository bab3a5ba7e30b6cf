"""Connections to MCP servers: one for each server and event loop, closed when idle, made anew when it has ended."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import Implementation

CONNECT_S = 30.0
"""How long a server may take to start and to greet."""

Transport = AbstractAsyncContextManager[Any]


@asynccontextmanager
async def stdio(parameters: StdioServerParameters, stderr: str | None, ended: Callable[[], None]) -> AsyncIterator[Any]:
    """Start a server and talk with it over its pipes; `ended` is called when it closes its output.

    What it writes to stderr goes to the file `stderr`, or nowhere: it may tell what only the server should know.
    """
    with open(stderr or os.devnull, "a", encoding="utf-8") as log:  # noqa: ASYNC230, PTH123 - a local file, once
        async with stdio_client(parameters, errlog=log) as (read, write), anyio.create_task_group() as group:
            put, get = anyio.create_memory_object_stream[SessionMessage | Exception](0)

            async def watch() -> None:
                try:
                    async with put:
                        async for message in read:
                            await put.send(message)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    pass
                finally:
                    ended()

            group.start_soon(watch)
            try:
                yield get, write
            finally:
                group.cancel_scope.cancel()


@asynccontextmanager
async def http(url: str, headers: dict[str, str], timeout: float) -> AsyncIterator[Any]:  # noqa: ASYNC109
    """Talk with a server over streamable HTTP."""
    limits = httpx2.Timeout(CONNECT_S, read=max(300.0, timeout + 10))
    async with (
        httpx2.AsyncClient(headers=headers, timeout=limits) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams


class Connection:
    """One session, held open by a task of its own: anyio's scopes have to be left in the task that entered them."""

    def __init__(self, transport: Callable[[Callable[[], None]], Transport], *, idle_s: float, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._idle_s = idle_s
        self._timeout = timeout
        self.listed = False
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Client] = self._loop.create_future()
        # in a context of its own: it outlives the step that asks for it first
        self.task = self._loop.create_task(self._hold(), context=contextvars.Context())

    @property
    def usable(self) -> bool:
        """Whether it may be used further."""
        return not self._stop.is_set() and not self.task.done()

    @property
    def connected(self) -> bool:
        """Whether the server has answered, ever."""
        return self._ready.done() and self._ready.exception() is None

    def stop(self) -> None:
        """Close it, and let nobody use it from now on."""
        self._stop.set()

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Client]:
        """The session. Raises what kept it from being made."""
        self._users += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            yield await asyncio.shield(self._ready)
        finally:
            self._users -= 1
            if self._users == 0 and self.usable:
                self._timer = self._loop.call_later(self._idle_s, self.stop)

    async def _hold(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S) as limit, AsyncExitStack() as stack:
                info = Implementation(name="agnt5", version="1")
                transport = self._transport(self.stop)
                client = Client(transport, client_info=info, cache=None, read_timeout_seconds=self._timeout)
                await stack.enter_async_context(client)
                limit.reschedule(None)
                self._ready.set_result(client)
                await self._stop.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(_reason(error))
                self._ready.exception()  # looked at: those who wait are told, and there may be none
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._stop.set()


def _reason(error: BaseException) -> Exception:
    """The one error of a group of errors; `TimeoutError` and others as they are."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, asyncio.CancelledError):
        return ConnectionError("the worker ends")
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


class Connections:
    """The connections to one server, one for each event loop of this process."""

    def __init__(self, transport: Callable[[Callable[[], None]], Transport], *, idle_s: float, timeout: float) -> None:
        self._transport = transport
        self._idle_s = idle_s
        self._timeout = timeout
        self._pid = os.getpid()
        self._by_loop: dict[asyncio.AbstractEventLoop, Connection] = {}

    def get(self) -> tuple[Connection, bool]:
        """The connection for the running loop, and whether it was there before."""
        if self._pid != os.getpid():  # a pool's child: its parent's pipes are not its own
            self._pid, self._by_loop = os.getpid(), {}
        self._by_loop = {loop: one for loop, one in self._by_loop.items() if not loop.is_closed()}
        loop = asyncio.get_running_loop()
        known = self._by_loop.get(loop)
        if known is not None and known.usable:
            return known, True
        made = self._by_loop[loop] = Connection(self._transport, idle_s=self._idle_s, timeout=self._timeout)
        return made, False

    async def close(self) -> None:
        """Close the running loop's connection, and wait until it is closed."""
        known = self._by_loop.pop(asyncio.get_running_loop(), None)
        if known is not None:
            known.stop()
            await asyncio.wait([known.task])

"""A streamed answer between the step that receives it and the handler that reads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, Self

from agnt5.contracts.errors import RunFailedError, model_error
from agnt5.llm.responses import LLMChunk, LLMResponse

ROOM = 64
"""Chunks that wait for a reader; beyond that the provider has to wait."""


class Relay:
    """Chunks on their way. One writes, one reads, on one loop."""

    def __init__(self) -> None:
        self._chunks: deque[LLMChunk] = deque()
        self._come = asyncio.Event()
        self._gone = asyncio.Event()

    async def put(self, chunk: LLMChunk) -> None:
        """Pass a chunk on; waits while the reader is behind."""
        while len(self._chunks) >= ROOM:
            self._gone.clear()
            await self._gone.wait()
        self._chunks.append(chunk)
        self._come.set()

    def end(self, step: asyncio.Future[Any]) -> None:
        """Nothing more will come."""
        if not step.cancelled():
            step.exception()  # seen: the reader may have left
        self._come.set()

    async def take(self, done: Callable[[], bool]) -> LLMChunk | None:
        """The next chunk; None when all are taken and it is `done`."""
        while not self._chunks:
            if done():
                return None
            self._come.clear()
            await self._come.wait()
        self._gone.set()
        return self._chunks.popleft()


class LLMStream(Awaitable["LLMStream"], AsyncIterator[LLMChunk]):
    """An answer as it comes. `async for chunk in await ctx.llm.stream(...)`; the `await` may be left out.

    `response` is the whole answer, once the last chunk was read.
    """

    def __init__(
        self, start: Callable[[], asyncio.Future[Any]], read: Callable[[Any], LLMResponse], relay: Relay | None
    ) -> None:
        self._start = start
        self._read = read
        self._relay = relay
        self._loop: asyncio.AbstractEventLoop | None = None
        self._step: asyncio.Future[Any] | None = None
        self._texts = False
        self._last: LLMChunk | None = None
        self._over = False
        self.response: LLMResponse | None = None

    def __await__(self) -> Generator[Any, None, Self]:
        return self._begun().__await__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LLMChunk:
        """The next chunk. Raises what the step raises."""
        if self._over:
            raise StopAsyncIteration
        if self._last is not None:
            self._over = True
            return self._last
        step = self._begin()
        if self._relay is not None and (chunk := await self._relay.take(step.done)) is not None:
            self._texts = True
            return chunk
        return await self._end(step)

    async def aclose(self) -> None:
        """Leave the stream; closes the connection where it still goes on."""
        self._over = True
        if self._step is not None and not self._step.done():
            self._step.cancel()
            if self._relay is not None:
                await asyncio.wait([self._step])

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._step is None or self._relay is None or self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop may be closed, and the collector runs on any thread
            if not self._step.done():
                self._loop.call_soon_threadsafe(self._step.cancel)

    # ---- inside

    async def _begun(self) -> Self:
        self._begin()
        return self

    def _begin(self) -> asyncio.Future[Any]:
        if self._step is None:
            self._step = self._start()
            if self._relay is not None:
                self._loop = asyncio.get_running_loop()
                self._step.add_done_callback(self._relay.end)
        return self._step

    async def _end(self, step: asyncio.Future[Any]) -> LLMChunk:
        """The text of an answer that came as a whole, then the last chunk; of one that came in parts, the last."""
        try:
            self.response = self._read(await step)
        except RunFailedError as failed:
            self._over = True
            raise (model_error(failed) or failed) from None
        except BaseException:
            self._over = True
            raise
        last = LLMChunk(response=self.response)
        if self._texts or not self.response.text:
            self._over = True
            return last
        self._last = last
        return LLMChunk(text=self.response.text)

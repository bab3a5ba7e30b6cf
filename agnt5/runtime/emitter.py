"""What a generator yields, on its way to the run's stream: at once, in order, and never far ahead of the store."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from agnt5 import codec
from agnt5.contracts.errors import PayloadTooLargeError, StreamLimitError
from agnt5.contracts.masking import MASKER
from agnt5.contracts.seams import Seams
from agnt5.runtime.exits import contained

if TYPE_CHECKING:
    from agnt5.runtime.live import LiveRun

AHEAD = 64
"""Chunks that a generator may be ahead of the store."""

AHEAD_BYTES = 1_048_576

TICK_S = 0.001
"""A generator that never awaits lets the loop go on after so long: else its chunks would leave together, and late."""

LOOK_S = 1.0
"""How often a thread that waits for room looks whether anybody still wants what it yields."""


class Emitter:
    """The chunks of one attempt: `push` on the host's loop, `push_from_thread` in a handler's thread.

    Nothing is tried again here: where the store has lost the run to another worker, the host stops its code.
    What follows one another as text is masked as one text (`contracts/seams.py`); anything else ends it.
    """

    def __init__(self, live: LiveRun) -> None:
        self.values: list[Any] = []
        self.closed = False
        self._live = live
        self._loop = live.host.loop
        self._seams = Seams(f"stream of {live.handler.address}")
        self._held: deque[tuple[int, bytes, str]] = deque()
        self._waiting: list[bytes] = []
        self._given = 0
        self._sent = 0
        self._stored = 0
        self._bytes = 2
        self._ahead_bytes = 0
        self._sending = False
        self._ticked_s = 0.0
        self._error: StreamLimitError | None = None
        self._lost = False
        self._moved: asyncio.Future[None] | None = None

    async def push(self, value: Any) -> None:
        """Send a chunk; returns when the generator may go on.

        Raises `SerializationError`; `PayloadTooLargeError` for a chunk, or for the result that all make together;
        `StreamLimitError`.
        """
        if self.closed:
            return
        idle = self._given == self._stored  # nothing is on the way: why wait for company
        self._take(value)
        pause = self._loop.time() - self._ticked_s > TICK_S
        if pause or idle:
            self._send()
        elif not self._sending:
            self._sending = True
            self._loop.call_soon(self._send)
        if pause:
            await asyncio.sleep(0)
            self._ticked_s = self._loop.time()
        while self._is_ahead():
            await self._news()
        if self._error is not None:
            raise self._error

    def push_from_thread(self, value: Any) -> bool:
        """`push` for a thread; whether the run wants more."""
        pushed = asyncio.run_coroutine_threadsafe(self.push(value), self._loop)
        while not self.closed:
            try:
                pushed.result(LOOK_S)
            except concurrent.futures.TimeoutError:
                continue
            break
        return not self.closed

    async def settled(self) -> None:
        """Wait until all chunks are in the store. Raises `StreamLimitError`."""
        await self.rest()
        if self._error is not None:
            raise self._error

    async def rest(self) -> None:
        """Send what waits for what would have followed, and wait for all, unless the run is no longer ours."""
        self._let_go(self._seams.end())
        self._send()
        while self._error is None and self._stored < self._given and not self._live.ended:
            await self._news()

    def _is_ahead(self) -> bool:
        """Whether the generator has to wait; past the limit, for the store's refusal."""
        if self._error is not None or self._stored == self._given:
            return False
        full = self._given - self._stored >= AHEAD or self._ahead_bytes >= AHEAD_BYTES
        return full or self._given > self._live.host.store.stream_limit

    def _take(self, value: Any) -> None:
        """Give what can go, of this chunk and of those before it."""
        number = len(self.values) + 1
        what = f"chunk {number} of {self._live.handler.address}"
        data = codec.plain(value, what=what)
        chunk = codec.freed(data, what=what, limit=self._live.host.settings.payload_limit)
        self._count(chunk, number)
        shown = codec.loads(chunk)  # as it is now: generators like to yield one object again and again
        self.values.append(shown)
        text = _text_of(shown if chunk is data else codec.loads(data)) if MASKER.knows else None
        if text is None:
            self._let_go(self._seams.end())
            self._give(chunk)
        else:
            self._held.append((number - 1, chunk, _text_of(shown) or ""))
            self._let_go(self._seams.add(text))

    def _count(self, chunk: bytes, number: int) -> None:
        address, limit = self._live.handler.address, self._live.host.settings.payload_limit
        self._bytes += len(chunk) + (number > 1)
        if self._bytes > limit:  # it could not end otherwise: better now than after hours
            raise PayloadTooLargeError(
                f"result of {address}: its first {number:,} chunks are {self._bytes:,} bytes of JSON, at most"
                f" {limit:,} are allowed (AGNT5_PAYLOAD_LIMIT); yield less, or split the work into several runs"
            )

    def _let_go(self, texts: list[str]) -> None:
        """Give the first chunks that are held, with these texts."""
        for text in texts:
            at, chunk, alone = self._held.popleft()
            if text != alone:  # it has a part of a secret
                value = self.values[at] = _with_text(self.values[at], text)
                masked, chunk = chunk, codec.plain(value, what="chunk")
                self._bytes += len(chunk) - len(masked)
            self._give(chunk)

    def _give(self, chunk: bytes) -> None:
        self._given += 1
        self._waiting.append(chunk)
        self._ahead_bytes += len(chunk)

    def _send(self) -> None:
        self._sending = False
        if not self._waiting or self._lost or self._live.ended:
            return
        chunks, self._waiting = self._waiting, []
        pending = self._live.host.store.emit(self._live.own, first=self._sent + 1, chunks=chunks)
        self._sent += len(chunks)
        self._live.host.spawn(self._acknowledge(pending, chunks), self._live)

    async def _acknowledge(self, pending: Awaitable[None], chunks: list[bytes]) -> None:
        try:
            await pending
        except StreamLimitError as error:
            self._error = self._error or error
        except BaseException:
            if self._lost:
                return
            self._lost = True
            raise  # the run is told of it, once, and stops its code
        else:
            self._stored += len(chunks)
            self._ahead_bytes -= sum(map(len, chunks))
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    async def _news(self) -> None:
        if self._moved is None or self._moved.done():
            self._moved = self._loop.create_future()
        await asyncio.shield(self._moved)


def _text_of(value: Any) -> str | None:
    """The text of a chunk: it, or its `text`, as agents and models have it."""
    text = value.get("text") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _with_text(value: Any, text: str) -> Any:
    return {**value, "text": text} if isinstance(value, dict) else text


async def emit_all(live: LiveRun, chunks: AsyncGenerator[Any]) -> list[Any]:
    """Stream what an async generator yields, and give the list of it.

    However this ends, the generator is closed, and what it had yielded is in the store.
    """
    emitter = Emitter(live)
    try:
        with contained():
            async with aclosing(chunks):
                async for value in chunks:
                    await emitter.push(value)
        await emitter.settled()
    except (Exception, asyncio.CancelledError):
        await emitter.rest()
        raise
    return emitter.values


async def emit_from_thread(live: LiveRun, begin: Callable[[], Generator[Any]]) -> list[Any]:
    """`emit_all` for a generator that runs in a thread. Where its run is over, it is closed at its next `yield`."""
    emitter = Emitter(live)

    def work() -> None:
        with closing(begin()) as chunks:
            for value in chunks:
                if not emitter.push_from_thread(value):
                    return

    try:
        await live.host.call(work)
        await emitter.settled()
    except (Exception, asyncio.CancelledError):
        emitter.closed = True
        await emitter.rest()
        raise
    return emitter.values

"""Waits that end when the server begins to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Iterator

import pytest

from agnt5.web.stopping import ServerStops, Stopping, server_stops


class Server:
    """What uvicorn's server is to a signal."""

    should_exit = False

    def handle_exit(self, *_: object) -> None:
        self.should_exit = True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    yield server
    signal.signal(signal.SIGTERM, before)


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_wait_ends_when_the_server_stops_and_none_begins_after(server: Server):
    stopping = Stopping()
    waits = [asyncio.create_task(stopping.wait(never())) for _ in range(3)]
    assert await stopping.wait(asyncio.sleep(0, "done")) == "done"
    signal.raise_signal(signal.SIGTERM)
    for one in waits:
        with pytest.raises(ServerStops):
            await one
    with pytest.raises(ServerStops):
        await stopping.wait(never())


async def test_a_timeout_of_what_is_awaited_is_no_stop():
    assert not server_stops()

    async def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await Stopping().wait(late())


async def test_a_generator_is_closed_when_the_server_stops_or_its_reader_leaves(server: Server):
    closed: list[str] = []

    async def numbers(name: str) -> AsyncGenerator[int]:
        try:
            yield 1
            await never()
        finally:
            await asyncio.sleep(0)
            closed.append(name)

    stopping = Stopping()
    left = stopping.each(numbers("left"))
    assert await anext(left) == 1
    await left.aclose()
    assert closed == ["left"]
    read = stopping.each(numbers("read"))
    assert await anext(read) == 1
    signal.raise_signal(signal.SIGTERM)
    assert [one async for one in read] == []
    assert closed == ["left", "read"]

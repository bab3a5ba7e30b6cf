"""Fixtures of every test folder. No test mocks the store: each xdist worker has a real server, empty at each test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
import redis
from support import promtool as promtools
from support.leaks import LEAKS
from support.mutants import apply_mutant
from support.proxy import Proxy
from support.server import Server

from agnt5.store.link import Link
from agnt5.store.store import Store

if chosen := os.environ.get("AGNT5_TEST_MUTANT"):
    apply_mutant(chosen)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """A test fails that left one of the tests' secrets in a server's data, in events or in what a process wrote."""
    yield
    found = LEAKS.look()
    if found and item.get_closest_marker("leaks") is None:
        pytest.fail("\n".join(found), pytrace=False)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """The server that all tests of this process share."""
    with Server() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """The shared server, emptied. Tests may not stop it: for that there is `own_server`."""
    shared_server.admin.flushall()
    return shared_server


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server of this test alone, to be killed, paused, restarted."""
    with Server(appendfsync="always") as server:
        yield server


@pytest.fixture
def redis_url(server: Server) -> str:
    """Where the shared server is."""
    return server.url


@pytest.fixture
def admin(server: Server) -> redis.Redis:
    """A plain client of the shared server, to look and to set traps."""
    return server.admin


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before the shared server."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[Link]:
    """A link to the shared server."""
    link = Link(redis_url)
    await link.connect()
    yield link
    await link.close()


@pytest.fixture
async def store(link: Link) -> Store:
    """A store on the shared server, with a retention of a minute."""
    return Store(link, shards=16, retention_ms=60_000)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Where promtool is; a test fails that needs it and finds none."""
    return promtools.found()

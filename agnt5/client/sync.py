"""`Client`: the same methods without await. Delegates to `AsyncClient` on a thread of its own."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from agnt5.client import progress
from agnt5.client.aio import AsyncClient
from agnt5.client.entities import EntityCaller
from agnt5.client.follow import Followed, Place
from agnt5.client.run import AsyncRun
from agnt5.client.streams import Chunk, ChunkPlace, StreamReset
from agnt5.contracts.errors import StoreUnavailableError
from agnt5.contracts.ids import entity_name
from agnt5.contracts.settings import Settings
from agnt5.sdk.entities import type_name

P = ParamSpec("P")
R = TypeVar("R")


class _Portal:
    """An event loop in a daemon thread; a forked child gets a new one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._open = threading.Lock()
        self._closed = False
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="agnt5-client", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self.loop.run_forever()
        self.loop.run_until_complete(self._end_all())
        self.loop.close()

    @staticmethod
    async def _end_all() -> None:
        """End all tasks, and tell the threads that wait for what comes of one, also of one that has just ended."""
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    def submit(self, coro: Coroutine[Any, Any, R]) -> Future[R]:
        with self._open:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(coro, self.loop)
        coro.close()
        raise StoreUnavailableError("the client was closed")

    def close(self) -> None:
        """End the thread, and with it the loop; what is under way in it is cancelled."""
        with self._open:
            self._closed = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def run(self, coro: Coroutine[Any, Any, R]) -> R:
        future = self.submit(coro)
        with _waiting_for(future):
            return future.result()


@contextmanager
def _waiting_for(future: Future[Any]) -> Iterator[None]:
    try:
        yield
    except CancelledError:
        raise StoreUnavailableError("the client was closed") from None
    except BaseException:
        future.cancel()  # a KeyboardInterrupt ends the wait, not the run
        raise


def _client_method(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Client, P], R]:
    @functools.wraps(method)
    def call(self: Client, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", self.wrap(self.call(method, *args, **kwargs)))

    return call  # type: ignore[return-value]  # wraps renames self


def _run_giver(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncRun]],
) -> Callable[Concatenate[Client, P], Run]:
    """`_client_method` of one that gives a run."""
    return cast("Any", _client_method(method))  # type: ignore[no-any-return]  # wrap makes Runs of AsyncRuns


def _runs_giver(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, list[AsyncRun]]],
) -> Callable[Concatenate[Client, P], list[Run]]:
    """`_client_method` of one that gives runs."""
    return cast("Any", _client_method(method))  # type: ignore[no-any-return]


def _run_method(
    method: Callable[Concatenate[AsyncRun, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Run, P], R]:
    @functools.wraps(method)
    def call(self: Run, *args: P.args, **kwargs: P.kwargs) -> R:
        async def on(client: AsyncClient) -> R:
            return await method(self.run.rebound(client), *args, **kwargs)

        return self.client.call(on)

    return call  # type: ignore[return-value]  # wraps renames self


def _each(client: Client, begin: Callable[[AsyncClient], AsyncGenerator[R]]) -> Iterator[R]:
    """What an async generator of the client's loop yields, one at a time, each when it is asked for."""

    async def begun(target: AsyncClient) -> AsyncGenerator[R]:
        return begin(target)

    async def following(_: AsyncClient) -> R | _End:
        return await anext(found, _End.NONE)

    async def end(_: AsyncClient) -> None:
        await found.aclose()

    found = client.call(begun)
    try:
        while (one := client.call(following)) is not _End.NONE:
            yield one
    finally:
        client.submit(end)  # not waited for: a forgotten iterator may be collected in the client's own thread


class _End(Enum):
    NONE = 0


class Run:
    """A run, wherever it is. The methods are those of `AsyncRun`."""

    def __init__(self, client: Client, run: AsyncRun) -> None:
        self.client = client
        self.run = run
        self.id = run.id

    def __repr__(self) -> str:
        return repr(self.run)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Its result; see `AsyncRun.result`. At a terminal a long wait shows its progress on standard error."""

        async def on(client: AsyncClient) -> Any:
            return await self.run.rebound(client).result(timeout)

        waiting = self.client.submit(on)
        with _waiting_for(waiting):
            return progress.wait_for(waiting, lambda: self.client.call(progress.describe, self.id))

    def follow(self, after: Place | str | None = None) -> Iterator[Followed]:
        """Each journal event as it comes, until it has ended; see `AsyncClient.follow`."""
        return _each(self.client, lambda client: client.follow(self.id, after=after))

    def stream(self, after: ChunkPlace | str | None = None) -> Iterator[Any]:
        """What its handler yields, as it comes, until it has ended; see `AsyncRun.stream`."""
        return _each(self.client, lambda client: client.stream(self.id, after=after))

    def chunks(self, after: ChunkPlace | str | None = None) -> Iterator[Chunk | StreamReset]:
        """As `stream`, each chunk with its place; see `AsyncClient.chunks`."""
        return _each(self.client, lambda client: client.chunks(self.id, after=after))

    status = _run_method(AsyncRun.status)
    state = _run_method(AsyncRun.state)
    history = _run_method(AsyncRun.history)
    logs = _run_method(AsyncRun.logs)
    signal = _run_method(AsyncRun.signal)
    cancel = _run_method(AsyncRun.cancel)
    retry = _run_method(AsyncRun.retry)


class Client:
    """Starts and reads runs from ordinary code: web views, scripts, shells. Thread-safe, survives `fork`.

    Arguments and methods are those of `AsyncClient`. Use it in `with`, or leave it open for the process's life.
    """

    def __init__(self, redis_url: str | None = None, *, broker_url: str | None = None, **settings: Any) -> None:
        self._make = functools.partial(AsyncClient, redis_url, broker_url=broker_url, **settings)
        self._async = self._make()
        self._portal: _Portal | None = None
        self._lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        """What it was made with."""
        return self._async.settings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and the thread. Calls of other threads that are under way raise
        `StoreUnavailableError`.
        """
        with self._lock:
            portal, self._portal = self._portal, None
        if portal is not None and portal.pid == os.getpid():
            portal.run(self._async.close())
            portal.close()
        self._async = self._make()

    def call(self, method: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any) -> R:
        portal, target = self._opened()
        return portal.run(method(target, *args, **kwargs))

    def submit(self, method: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any) -> Future[R]:
        """`call` without waiting for it."""
        portal, target = self._opened()
        return portal.submit(method(target, *args, **kwargs))

    def _opened(self) -> tuple[_Portal, AsyncClient]:
        with self._lock:
            if self._portal is None or self._portal.pid != os.getpid():
                self._portal, self._async = _Portal(), self._make()
            return self._portal, self._async

    def wrap(self, value: Any) -> Any:
        if isinstance(value, AsyncRun):
            return Run(self, value)
        return [self.wrap(one) for one in value] if isinstance(value, list) else value

    def entity(self, entity_type: Any, key: str, *, timeout: float | timedelta | None = None) -> EntityCaller[Any]:
        """An entity to call: `client.entity("Counter", "c-1").add(5)`. See `AsyncClient.entity`."""

        def invoke(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            async def on(client: AsyncClient) -> Any:
                return await getattr(client.entity(entity_type, key, timeout=timeout), method)(*args, **kwargs)

            return self.call(on)

        return EntityCaller(entity_name(type_name(entity_type), key), invoke)

    def stream(self, run_id: str, *, after: ChunkPlace | str | None = None) -> Iterator[Any]:
        """What a run's handler yields, as it comes. See `AsyncRun.stream`."""
        return _each(self, lambda client: client.stream(run_id, after=after))

    start = _run_giver(AsyncClient.start)
    start_many = _runs_giver(AsyncClient.start_many)
    get = _run_giver(AsyncClient.get)
    handlers = _client_method(AsyncClient.handlers)
    state = _client_method(AsyncClient.state)
    states = _client_method(AsyncClient.states)
    history = _client_method(AsyncClient.history)
    logs = _client_method(AsyncClient.logs)
    runs = _client_method(AsyncClient.runs)
    run_page = _client_method(AsyncClient.run_page)
    history_page = _client_method(AsyncClient.history_page)
    fleet = _client_method(AsyncClient.fleet)
    wait = _client_method(AsyncClient.wait)
    entities = _client_method(AsyncClient.entities)
    entity_state = _client_method(AsyncClient.entity_state)
    delete_entity = _client_method(AsyncClient.delete_entity)
    budgets = _client_method(AsyncClient.budgets)
    budget = _client_method(AsyncClient.budget)
    reset_budget = _client_method(AsyncClient.reset_budget)
    set_config = _client_method(AsyncClient.set_config)
    unset_config = _client_method(AsyncClient.unset_config)
    config = _client_method(AsyncClient.config)
    configs = _client_method(AsyncClient.configs)
    config_history = _client_method(AsyncClient.config_history)
    explain_config = _client_method(AsyncClient.explain_config)
    approvals = _client_method(AsyncClient.approvals)
    approval = _client_method(AsyncClient.approval)
    decide = _client_method(AsyncClient.decide)
    signal = _client_method(AsyncClient.signal)
    cancel = _client_method(AsyncClient.cancel)
    retry = _client_method(AsyncClient.retry)

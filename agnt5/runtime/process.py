"""The runtime of one process: its loop, its store, its host. Made on first use, made anew in a forked child."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any

from agnt5.contracts.errors import Agnt5Error
from agnt5.contracts.settings import Settings
from agnt5.payload_keys import sealer_of
from agnt5.registry import Registry
from agnt5.runtime.configuration import HostFlags, Provider
from agnt5.runtime.dispatch import Dispatcher, open_dispatcher
from agnt5.runtime.exits import serve
from agnt5.runtime.host import Arrival, Host
from agnt5.runtime.leaving import SETTLE_S
from agnt5.runtime.liveness import Liveness
from agnt5.runtime.slot import Slot, Teller
from agnt5.runtime.stopping import HEED_S, Stop, Word
from agnt5.sealing import Sealer
from agnt5.secrets.provider import SecretProvider
from agnt5.secrets.reader import SecretReader
from agnt5.store import keys
from agnt5.store.opening import open_store
from agnt5.store.store import Store
from agnt5.telemetry.spans import active, start_tracing

logger = logging.getLogger("agnt5.runtime")


class Runtime:
    """What a Celery app carries for agnt5. One host for each process that executes runs."""

    def __init__(
        self, app: Any, settings: Settings, registry: Registry, *, secrets: Sequence[SecretProvider] | None = None,
        provider: Callable[[], Provider] | None = None,
    ) -> None:  # fmt: skip
        self._provider = provider
        self.app = app
        self.settings = settings
        self.registry = registry
        self.secrets = SecretReader.of(settings, secrets)
        self.node = "agnt5@localhost"
        self._pid = 0
        self._left = 0
        self.word = Word()
        self._leaving: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_loop = False
        self._host: asyncio.Future[Host] | None = None
        self._liveness: Liveness | None = None

    @cached_property
    def sealer(self) -> Sealer:
        """Opens what this process reads without a store. Raises `ConfigurationError`."""
        return sealer_of(self.settings)

    # ---- from any thread

    def use_loop(self, loop: asyncio.AbstractEventLoop, teller: Teller) -> None:
        """Run the host on a loop that exists (the pool's)."""
        with self._lock:
            self._pid, self._loop, self._own_loop = os.getpid(), loop, False
        asyncio.run_coroutine_threadsafe(self._begin(teller, linger=True), loop).result()

    def open_again(self) -> None:
        """A worker starts in this process, maybe not its first; processes that it forks hear its word."""
        self._left = 0
        self.word.share()

    def submit(self, arrival: Arrival, slot: Slot, teller: Teller) -> None:
        """Give a message to this process's host, starting it if need be; it is refused once that was shut down."""
        with self._lock:
            if self._pid != os.getpid() and not self.has_left:
                try:
                    self._start_thread(teller)
                except Agnt5Error as error:
                    logger.error("no host can be opened: %s", error)  # noqa: TRY400
                    slot.refuse(str(error))
                    return
            if self.has_left or self._loop is None:
                slot.refuse("this worker is shutting down")
                return
            self._loop.call_soon_threadsafe(self.receive, arrival, slot)  # before what shuts the host down

    @property
    def has_left(self) -> bool:
        """Whether this process takes no more messages, because its worker stops or it ends itself."""
        return self._left == os.getpid()

    def run(self, coro: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the host's loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coro, self._loop)

    def hurry(self) -> None:
        """A drain that goes on waits for functions no longer. From any thread."""
        if (host := self.host) is not None:
            host.hurry()

    def shut_down(self, grace_s: float) -> None:
        """Give all runs back, or wait for that where it goes on; returns when it is done."""
        with self._lock:
            started, self._pid, self._left = self._pid == os.getpid(), 0, os.getpid()
            loop = self._loop
        if not started or loop is None:
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._leave(grace_s), loop).result(grace_s + 5)
        if self._own_loop:
            loop.call_soon_threadsafe(loop.stop)

    def _start_thread(self, teller: Teller) -> None:
        self._own_loop, self._host, self._leaving = True, None, None
        self._loop = loop = asyncio.new_event_loop()
        threading.Thread(target=serve, args=[loop], name="agnt5-loop", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._heed(), loop)
        try:
            asyncio.run_coroutine_threadsafe(self._begin(teller, linger=False), loop).result()
        except BaseException:
            loop.call_soon_threadsafe(loop.stop)
            if not self.has_left:
                raise
        else:
            self._pid = os.getpid()

    # ---- on the loop

    async def _begin(self, teller: Teller, *, linger: bool) -> None:
        self._host = asyncio.ensure_future(self._open(teller, linger=linger))
        await self._host

    async def _heed(self) -> None:
        """Leave as soon as the worker stops, which has no way to a process, or thread, that waits for its runs."""
        while not (stop := self.word.heard()) or self._host is None:  # noqa: ASYNC110  # said from other processes
            await asyncio.sleep(HEED_S)
        self._left = os.getpid()
        if not self._host.done():
            self._host.cancel()  # the store is away
            return
        leaving = asyncio.ensure_future(self._leave(0 if stop is Stop.COLD else self.settings.shutdown_grace_ms / 1000))
        while not leaving.done():
            if self.word.heard() is Stop.COLD:
                self.hurry()
            await asyncio.wait([leaving], timeout=HEED_S)
        if error := leaving.exception():
            logger.error("shutting down: %r", error)

    async def _leave(self, grace_s: float) -> None:
        """Drain once, whoever asks, and as fast as the most urgent of them wants it."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self.drain(grace_s))
        elif (host := self.host) is not None:
            host.hurry(grace_s)
        await asyncio.shield(self._leaving)

    async def _open(self, teller: Teller, *, linger: bool) -> Host:
        store = await open_store(self.settings, name=f"agnt5:{self.node}")
        start_tracing(f"{self.node}/{os.getpid()}")
        host = Host(
            node=f"{self.node}/{os.getpid()}",
            settings=self.settings,
            registry=self.registry,
            store=store,
            dispatcher=await self.dispatcher(store),
            teller=teller,
            linger=linger,
            flags=HostFlags(store.link, os.environ, None if self._provider is None else self._provider()),
            secrets=self.secrets,
        )
        self.secrets.prefetch(self.settings.secrets_prefetch)
        await host.open()
        self._liveness = Liveness(host, self.settings.redis_url, interval_s=self.settings.heartbeat_ms / 1000)
        await self._liveness.start()
        await self.announce(store)
        host.spawn(host.house.wake_refused())
        return host

    def dispatcher(self, store: Store) -> Awaitable[Dispatcher]:
        """How messages leave this process."""
        return open_dispatcher(store, self.settings, self.app)

    async def announce(self, store: Store) -> None:
        """Tell clients which handlers there are, with their parameters."""
        described = [part for h in self.registry for part in (h.address, json.dumps(h.describe()))]
        if described:
            await store.link.call("HSET", keys.handlers(), *described)

    def receive(self, arrival: Arrival, slot: Slot) -> None:
        """Take a message, on the loop."""
        host = self.host
        if host is None:
            slot.refuse("this worker is not open")
        else:
            host.receive(arrival, slot)

    @property
    def host(self) -> Host | None:
        """This process's host, once it is open."""
        if self._host is None or not self._host.done() or self._host.cancelled() or self._host.exception():
            return None
        return self._host.result()

    async def drain(self, grace_s: float) -> None:
        """Give all runs back and stop."""
        host = self.host
        if host is None:
            return
        try:
            await host.drain(grace_s)
            async with asyncio.timeout(SETTLE_S):
                await host.dispatcher.flush()
        except (Agnt5Error, TimeoutError) as error:
            logger.warning("shutting down: %s; beat takes over what was left", str(error) or "the store is away")
        if self._liveness:
            self._liveness.stop()
        await host.store.link.close()
        if (tracing := active()) is not None:
            await asyncio.to_thread(tracing.flush)

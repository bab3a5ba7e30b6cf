"""The Celery beat scheduler: fires timers, starts cron workflows, picks up after the dead.

It blocks on Redis until something is due or a nudge comes. Any number of beats may run; each act is idempotent.
Entries of plain Celery's `beat_schedule` go on working, once per due time over all beats: what ran last is shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

import redis
from celery.beat import Scheduler as CeleryScheduler

from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import Agnt5Error, StoreUnavailableError
from agnt5.runtime.dispatch import Dispatcher
from agnt5.runtime.endings import Endings
from agnt5.runtime.exits import run_until_told
from agnt5.runtime.looks import Looks
from agnt5.runtime.process import Runtime
from agnt5.runtime.schedules import Schedules
from agnt5.runtime.sweep import LOOK_MS, Sweeper
from agnt5.store import keys
from agnt5.store.opening import open_store
from agnt5.store.scripts import script
from agnt5.store.store import Store
from agnt5.store.subscriber import Subscriber
from agnt5.telemetry import metrics_endpoint
from agnt5.telemetry.spans import active, start_tracing

logger = logging.getLogger("agnt5.beat")

TRIM_S = 60.0
RETRY_S = 1.0

R = TypeVar("R")


class Beat:
    """One beat's connection to the store. `turn` is called over and over."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._nudged = asyncio.Event()
        self._store: Store | None = None
        self._due_look_s = 0.0
        self._due_trim_s = 0.0

    async def open(self) -> None:
        """Connect. Raises `ConfigurationError` for a server that cannot be used."""
        runtime = self._runtime
        metrics_endpoint.prepare(runtime.settings, "beat")
        metrics_endpoint.serve(runtime.settings)
        start_tracing(f"beat@{socket.gethostname()}/{os.getpid()}")
        self._store = store = await open_store(runtime.settings, name="agnt5:beat")
        self._dispatcher: Dispatcher = await runtime.dispatcher(store)
        self._sweeper = Sweeper(store, self._dispatcher, runtime.settings)
        self._schedules = Schedules(store, self._dispatcher, runtime.settings, runtime.registry)
        self._looks = Looks(store, runtime.settings)
        self._endings = Endings(store)
        self._ears = Subscriber(store.link.address, lambda *_: self._nudged.set(), self._nudged.set)
        await self._ears.connect()
        await self._ears.subscribe(keys.BEAT_CHANNEL)

    async def turn(self, at_most_s: float) -> None:
        """Do what is due, then wait until something else is: a timer, a fire, a look around, or a nudge."""
        loop, store = asyncio.get_running_loop(), self._store
        assert store is not None, "open comes first"
        self._nudged.clear()
        _, timer_ms = await self._sweeper.fire()
        now_ms = await store.now_ms()
        cron_ms = await self._schedules.fire(now_ms)
        if loop.time() >= self._due_look_s:
            self._due_look_s = loop.time() + LOOK_MS / 1000
            await self._sweeper.look()
            await self._sweeper.answer()
            await self._endings.tell()
        if loop.time() >= self._due_trim_s:
            self._due_trim_s = loop.time() + TRIM_S
            await self._sweeper.trim()
        await self._looks.turn(now_ms)
        waits = [ms / 1000 for ms in (timer_ms, cron_ms) if ms is not None]
        wait_s = min([at_most_s, self._due_look_s - loop.time(), *waits])
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._nudged.wait()

    async def close(self) -> None:
        """Send what is still to be sent, and disconnect."""
        if self._store is not None:
            await self._dispatcher.flush()
            await self._ears.close()
            await self._store.link.close()
            self._store = None
            if (tracing := active()) is not None:
                await asyncio.to_thread(tracing.flush)


class Scheduler(CeleryScheduler):  # type: ignore[misc]  # Celery is untyped
    """Celery's scheduler for plain entries, and a `Beat` for all that is ours."""

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self._redis = redis.Redis.from_url(app.agnt5.settings.redis_url)
        self._beat: Beat | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(app, *args, **kwargs)

    # ---- ours

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send due plain entries, then serve runs until the next one is due. Blocks; returns 0."""
        wait_s = super().tick(*args, **kwargs)
        try:
            if self._beat is None:
                beat = Beat(self.app.agnt5)
                self._run(beat.open)
                self._beat = beat
            self._run(self._beat.turn, wait_s)
        except StoreUnavailableError as error:
            logger.warning("%s; trying again", error)
            return RETRY_S
        except Agnt5Error as error:
            logger.critical("agnt5: %s", error)
            raise SystemExit(1) from None
        return 0.0

    def _run(self, function: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> R:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return run_until_told(self._loop, function, *args)

    def close(self) -> None:
        """Disconnect."""
        super().close()
        if self._beat is not None and self._loop is not None:
            beat, self._beat = self._beat, None
            with contextlib.suppress(Agnt5Error):
                self._run(beat.close)
            self._loop.close()
            self._loop = None

    # ---- plain entries, once per due time across beats

    def is_due(self, entry: Any) -> Any:
        """Whether an entry is due, by what any beat has run last."""
        self._share(entry)
        return entry.is_due()

    def _share(self, entry: Any) -> None:
        with contextlib.suppress(redis.RedisError):
            self._redis.hsetnx(keys.static(), entry.name, _ms(entry.last_run_at))
            shared = self._redis.hget(keys.static(), entry.name)
            if shared:
                entry.last_run_at = at_ms(int(shared)).astimezone(entry.last_run_at.tzinfo)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send an entry, unless another beat has sent this one."""
        advance, now = script("advance"), _ms(entry.default_now())
        args = (1, keys.prefix(0), entry.name, _ms(entry.last_run_at), now)
        try:
            won = self._redis.evalsha(advance.sha, *args)
        except redis.exceptions.NoScriptError:
            won = self._redis.eval(advance.source, *args)
        if won == b"OK":
            super().apply_entry(entry, producer=producer)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)

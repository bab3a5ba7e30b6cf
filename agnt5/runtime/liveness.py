"""Says once a second that this host lives, from a thread of its own: a handler that blocks the loop is not dead."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import redis

from agnt5.contracts.clock import monotonic_s, now_ms
from agnt5.store import keys
from agnt5.store.scripts import script

if TYPE_CHECKING:
    from agnt5.runtime.host import Host

logger = logging.getLogger("agnt5.runtime")

BLOCKED_S = 2.0
"""A loop that does not turn for so long is reported, with what it does."""


class Liveness:
    """A host's heartbeat."""

    def __init__(self, host: Host, redis_url: str, *, interval_s: float = 1.0) -> None:
        self._host = host
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agnt5-liveness", daemon=True)
        self._turned_s = monotonic_s()
        self._loop_thread = threading.get_ident()
        self._reported = False
        self._listed = False

    async def start(self) -> None:
        """Beat a first time, so that the host is listed before it owns anything, then go on in the thread."""
        await asyncio.to_thread(self._beat)
        self._thread.start()

    def stop(self) -> None:
        """Stop beating."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._beat()
            except redis.RedisError as error:
                logger.debug("no heartbeat: %s", error)
            self._watch_loop()

    def _beat(self) -> None:
        heart = script("heart")
        asked_ms = now_ms()
        try:
            reply = self._redis.evalsha(heart.sha, 1, keys.prefix(0), self._host.name)
        except redis.exceptions.NoScriptError:
            reply = self._redis.eval(heart.source, 1, keys.prefix(0), self._host.name)
        state, store_ms = reply
        self._host.clock_offset_ms = int(store_ms) - (asked_ms + now_ms()) // 2
        if state == b"NEW" and self._listed and not self._host.draining:
            logger.warning("host %s had been taken for dead", self._host.name)
            self._host.loop.call_soon_threadsafe(lambda: self._host.spawn(self._host.house.reaped()))
        self._listed = True

    def _watch_loop(self) -> None:
        now = monotonic_s()
        if now - self._turned_s > BLOCKED_S + self._interval_s and not self._reported:
            self._reported = True
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the way to see another thread
            stack = "".join(traceback.format_stack(frame)) if frame else ""
            logger.warning(
                "the event loop has been blocked for %.1f s; put blocking work into a sync function or ctx.step:\n%s",
                now - self._turned_s,
                stack,
            )
        self._host.loop.call_soon_threadsafe(self._turned)

    def _turned(self) -> None:
        self._turned_s = monotonic_s()
        self._reported = False

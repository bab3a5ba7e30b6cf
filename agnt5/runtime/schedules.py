"""Cron workflows: `@workflow(cron=...)` runs that beat starts, each once, however many beats there are.

A run's id is `cron:<address>:<fire time>`, so that the start is idempotent; what was fired last is kept in the
store. After an outage the handler's `catch_up` says what becomes of missed fires, and its `overlap` whether a new
run may start beside one that still goes on.
"""

from __future__ import annotations

import contextlib
import logging

from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import Agnt5Error, RunEndedError, RunNotFoundError
from agnt5.contracts.settings import Settings
from agnt5.registry import Handler, Registry
from agnt5.runtime.dispatch import Dispatcher
from agnt5.runtime.starting import StartRequest, start_run
from agnt5.sdk.cron import next_fire_ms
from agnt5.sealing import is_sealed
from agnt5.store import keys
from agnt5.store.store import Store

logger = logging.getLogger("agnt5.beat")

LATE_MS = 60_000
"""A fire later than this was missed: nobody was there to start it."""

CATCH_UP_LIMIT = 1000
"""Fires that `catch_up="all"` makes up for, at most; the latest ones."""


def run_id_of(address: str, fire_ms: int) -> str:
    """The id of a scheduled run."""
    return f"cron:{address}:{at_ms(fire_ms).strftime('%Y-%m-%dT%H:%M:%SZ')}"


class Schedules:
    """The cron workflows of a registry."""

    def __init__(self, store: Store, dispatcher: Dispatcher, settings: Settings, registry: Registry) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._told = False
        self._handlers = [handler for handler in registry if handler.options.cron is not None]

    async def fire(self, now_ms: int) -> int | None:
        """Start what is due; gives the ms until the next fire, None when there is no schedule."""
        waits: list[int] = []
        for handler in self._handlers:
            try:
                waits.append(await self._fire(handler, now_ms) - now_ms)
            except Agnt5Error as error:
                logger.error("schedule of %s: %s", handler.address, error)  # noqa: TRY400 - its text says all
        return min(waits, default=None)

    async def _fire(self, handler: Handler, now_ms: int) -> int:
        """Start one schedule's due fires, and give the time of its next one."""
        last_ms = await self._last(handler, now_ms)
        due, next_ms = _fires(handler, last_ms, now_ms)
        for fire_ms in _chosen(handler, due, now_ms):
            await self._start(handler, fire_ms)
        if due:
            await self._store.link.call("HSET", keys.schedules(), _field(handler), due[-1])
        return next_ms

    async def _last(self, handler: Handler, now_ms: int) -> int:
        field = _field(handler)
        await self._store.link.call("HSETNX", keys.schedules(), field, now_ms)
        return int(await self._store.link.call("HGET", keys.schedules(), field))

    async def _start(self, handler: Handler, fire_ms: int) -> None:
        run_id = run_id_of(handler.address, fire_ms)
        if not await self._may_start(handler, run_id):
            logger.info("%s: skipped, the run before it still goes on", run_id)
            return
        request = StartRequest(run_id, handler.address, handler.options.input)
        if request.input is not None and self._store.sealer.codec is None and not self._told:
            await self._tell_if_others_seal(handler)
        created = await start_run(self._store, self._settings, request, handler)
        self._dispatcher.send(created.out)
        await self._store.link.call("HSET", keys.schedules(), f"{handler.address}#run", run_id)

    async def _tell_if_others_seal(self, handler: Handler) -> None:
        """Say once that inputs are in clear here, if a worker has sealed what came of the run before."""
        before = await self._store.link.call("HGET", keys.schedules(), f"{handler.address}#run")
        if before is None:
            return
        last = await self._store.link.call("LINDEX", keys.log(before.decode(), self._store.shards), -1)
        if last is not None and is_sealed(last):
            self._told = True
            logger.warning(
                "schedule of %s: the workers seal what they store, and this beat has no payload keys, so that the"
                " inputs of the runs that it starts are in clear; give it the AGNT5_PAYLOAD_KEYS (or"
                " AGNT5_PAYLOAD_KEYS_FILE, or payload_codec) of the workers",
                handler.address,
            )

    async def _may_start(self, handler: Handler, run_id: str) -> bool:
        if handler.options.overlap == "allow":
            return True
        before = await self._store.link.call("HGET", keys.schedules(), f"{handler.address}#run")
        if before is None or before.decode() == run_id:
            return True
        previous = before.decode()
        if handler.options.overlap == "cancel_previous":
            with contextlib.suppress(RunNotFoundError, RunEndedError):
                _, out = await self._store.cancel(previous, reason=b'"the next scheduled run begins"')
                self._dispatcher.send(out)
            return True
        status = await self._store.link.call("HGET", keys.run(previous, self._store.shards), "status")
        return status in {None, b"completed", b"failed", b"cancelled"}


def _field(handler: Handler) -> str:
    """A changed cron expression begins anew."""
    return f"{handler.address}#{handler.options.cron}#{handler.options.timezone}"


def _fires(handler: Handler, last_ms: int, now_ms: int) -> tuple[list[int], int]:
    """The fires after `last_ms` up to now (the latest of them), and the first one in the future."""
    cron, timezone = handler.options.cron, handler.options.timezone
    assert cron is not None
    due: list[int] = []
    at = next_fire_ms(cron, after_ms=last_ms, timezone=timezone)
    while at <= now_ms:
        due.append(at)
        if len(due) > 2 * CATCH_UP_LIMIT:
            del due[:CATCH_UP_LIMIT]
        at = next_fire_ms(cron, after_ms=at, timezone=timezone)
    return due[-CATCH_UP_LIMIT:], at


def _chosen(handler: Handler, due: list[int], now_ms: int) -> list[int]:
    """Which of the due fires are made up for."""
    match handler.options.catch_up:
        case "all":
            return due
        case "none":
            return [at for at in due[-1:] if now_ms - at <= LATE_MS]
        case _:
            return due[-1:]

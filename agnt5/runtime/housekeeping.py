"""What a host does beside its runs' turns: looks again at what waits, parks it, agrees with the store on its runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from itertools import count
from typing import TYPE_CHECKING

from agnt5.contracts.runs import Kind
from agnt5.runtime.live import LiveRun
from agnt5.store import keys

if TYPE_CHECKING:
    from agnt5.runtime.host import Host

logger = logging.getLogger("agnt5.runtime")

RECONCILE_TURNS = 30
"""Seconds between two comparisons with what the store lists as ours; after a reconnect it is done at once."""

CONFIG_TURNS = 3
"""Seconds between two looks at the version of config: a change whose publication was lost is found then."""


class Housekeeping:
    """Of one host, on its loop."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def run(self) -> None:
        """Once a second: read again what waits, with growing distance, and park what has waited long."""
        reconnects = self._host.store.link.reconnects
        for turn in count(1):
            await asyncio.sleep(1.0)
            self._host.observer.turned(self._host)
            if reconnects != self._host.store.link.reconnects or turn % RECONCILE_TURNS == 0:
                reconnects = self._host.store.link.reconnects
                self._host.spawn(self.reconcile())
            if turn % CONFIG_TURNS == 0:
                self._host.spawn(self._host.flags.copy.refresh())
            now = self._host.loop.time()
            due = [live for live in self._host.live.values() if _doubled(now - live.idle_since_s)]
            if due:
                await self.check(due)
            await self._park_idle(now)

    async def check(self, lives: list[LiveRun]) -> None:
        """Compare what is known of journals with their lengths, and read what is missing."""
        pending = self._host.store.lengths([live.run_id for live in lives])
        for live, length in zip(lives, pending, strict=True):
            live.check(await length)

    async def reconcile(self) -> None:
        """Agree with the store on what is ours.

        A server that came back from an older state (AOF everysec) lists runs that we have finished, and has
        forgotten claims that we have made. The first nobody would ever go on with; the second are others' by now.
        """
        await self.reaped()
        for shard in range(self._host.store.shards):
            for member in await self._host.store.link.call("SMEMBERS", keys.owned(shard, self._host.name)):
                run_id = member.decode()
                if run_id not in self._host.live and run_id not in self._host.claiming:
                    logger.warning("run %s is listed as ours and is not; it is queued again", run_id)
                    self._host.dispatcher.send(await self._host.store.disown(run_id, host=self._host.name))

    async def reaped(self) -> None:
        """We were taken for dead: drop every run that another host owns by now."""
        lives = list(self._host.live.values())
        store = self._host.store
        pending = [store.link.call("HGET", keys.run(live.run_id, store.shards), "epoch") for live in lives]
        for live, epoch in zip(lives, pending, strict=True):
            if (await epoch) != live.own.epoch.encode():
                logger.warning("run %s was taken over while this worker looked dead", live.run_id)
                live.leave()

    async def wake_refused(self) -> None:
        """A new worker may have the code that fits: queue what earlier ones refused."""
        for shard in range(self._host.store.shards):
            for run_id in await self._host.store.link.call("SMEMBERS", keys.refused(shard)):
                self._host.dispatcher.send(await self._host.store.wake(run_id.decode()))

    async def _park_idle(self, now: float) -> None:
        linger_s = self._host.settings.linger_ms / 1000 if self._host.linger else 0.0
        excess = len(self._host.idlers) - self._host.settings.max_hosted
        parked: list[Awaitable[bool]] = []
        for at, live in enumerate(list(self._host.idlers.values())):
            if at >= excess and now - live.idle_since_s < linger_s:
                break
            if live.waiting and live.handler.kind is Kind.WORKFLOW:
                parked.append(live.park())
        if parked:
            await asyncio.gather(*parked)


def _doubled(waited_s: float) -> bool:
    """True in the seconds 1, 2, 4, 8, 16... of a wait."""
    second = int(waited_s)
    return second > 0 and second & (second - 1) == 0

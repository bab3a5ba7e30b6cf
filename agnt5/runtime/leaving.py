"""How a host gives back what it has when its worker stops: with time for functions, or at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agnt5.contracts.runs import Kind
from agnt5.runtime.live import LiveRun
from agnt5.store.replies import More
from agnt5.store.store import Ownership

if TYPE_CHECKING:
    from agnt5.runtime.host import Host

SETTLE_S = 2.0
"""How long replies of the store are waited for after the grace: it may be away, and then beat takes over."""

LOOK_S = 0.02


async def give_all_back(host: Host, grace_s: float) -> None:
    """Park workflows, wait for functions, hand back what is still there after `grace_s` (or `host.hurry()`).

    Claims and ends that are on the wire count as there: their slots are told, and the messages they bring are sent.
    """
    host.grace_ends_s = host.loop.time() + grace_s
    giving = host.loop.create_task(_give_all_back(host))
    while not giving.done() and host.loop.time() < host.grace_ends_s + SETTLE_S:
        await asyncio.wait([giving], timeout=LOOK_S)
    giving.cancel()
    await asyncio.wait([giving])


async def _give_all_back(host: Host) -> None:
    while host.live or host.claiming or host.ending:
        if host.loop.time() < host.grace_ends_s:
            await _give_back([live for live in host.live.values() if live.waiting], park=True)
        else:
            await _give_back(list(host.live.values()), park=False)
        await asyncio.sleep(LOOK_S)


async def _give_back(lives: list[LiveRun], *, park: bool) -> None:
    """Side by side; what one of them meets keeps none of the others here."""
    ways = [live.park() if park and live.handler.kind is Kind.WORKFLOW else live.hand_back() for live in lives]
    for live, met in zip(lives, await asyncio.gather(*ways, return_exceptions=True), strict=True):
        if isinstance(met, Exception):
            live.went_wrong(met)


async def give_away(host: Host, own: Ownership, seen: int) -> None:
    """Queue a run that is ours and that we cannot run."""
    if not isinstance(out := await host.store.hand_back(own, seen=seen), More):
        host.dispatcher.send(out)

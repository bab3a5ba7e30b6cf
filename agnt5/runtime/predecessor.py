"""A restarted worker takes over at once what its predecessor of the same node name owned."""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from agnt5.runtime.dispatch import Dispatcher
from agnt5.runtime.sweep import reap_host
from agnt5.store import keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store
from agnt5.telemetry.figures import current

logger = logging.getLogger("agnt5.runtime")

SILENT_MS = 1500
"""Without its process to look at, a host that has not beaten for so long is taken for dead by its successor."""

LOOKS = 8
LOOK_S = 0.25


async def reap_predecessors(store: Store, dispatcher: Dispatcher, node: str) -> None:
    """Reap hosts of this node's name that live no more. One that still beats is left alone."""
    for _ in range(LOOKS):
        alive = False
        now_ms = await store.now_ms()
        page = await store.link.call("ZRANGE", keys.hosts(), 0, -1, "WITHSCORES")
        for name, score in pairs(page):
            host = name.decode()
            if not host.startswith(f"{node}/"):
                continue
            if _process_gone(host, node) or now_ms - int(score) > SILENT_MS:
                reaped = await reap_host(store, dispatcher, host)
                current().reaped("silent" if int(score) else "left", reaped)
                logger.info("took over %d runs of %s, which is gone", reaped, host)
            else:
                alive = True
        if not alive:
            return
        await asyncio.sleep(LOOK_S)
    logger.warning("another worker named %s lives; give each worker its own name (-n)", node)


def _process_gone(host: str, node: str) -> bool:
    """Whether the host's process ran on this machine and is no more."""
    if node.partition("@")[2].partition(".")[0] != socket.gethostname().partition(".")[0]:
        return False
    pid = host.removeprefix(f"{node}/").partition("/")[0]
    if not pid.isdigit() or int(pid) == os.getpid():
        return pid.isdigit()
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

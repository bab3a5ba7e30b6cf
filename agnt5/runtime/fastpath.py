"""Sets a Celery app up for our transport, pool, consumer and events."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from agnt5.runtime.transport import transport_for

POOL = "agnt5.runtime.pool:TaskPool"
CONSUMER = "agnt5.runtime.consumer:Consumer"
EVENTS = "agnt5.runtime.consumer:BatchingEvents"


def asks_for_prefork(argv: Sequence[str]) -> bool:
    """Whether a command line says `-P prefork`, which Celery cannot tell from its default and would not heed."""
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    return any(
        one + two in {"-Pprefork", "--poolprefork"} or one in {"-Pprefork", "--pool=prefork"} for one, two in pairs
    )


def use_fast_path(app: Any, *, broker_url: str, stock_transport: bool = False) -> None:
    """Make our pool, consumer and events the app's default, and our transport where the broker is Redis.

    Each is a plain Celery setting that the user can still override (`-P prefork` on the command line, too). Must run
    before the app's first connection; opens none.
    """
    app.conf.broker_url = broker_url
    app.conf.broker_transport = None if stock_transport else transport_for(broker_url)
    app.conf.worker_pool = "prefork" if asks_for_prefork(sys.argv) else POOL
    app.conf.worker_consumer = CONSUMER
    # one backend for all threads: with one for each, every thread of the pool opened its own connections
    app.conf.result_backend_thread_safe = True
    app.events_cls = EVENTS

"""Small durable acts from a thread that has no host: connect, act, disconnect."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from agnt5.contracts.errors import RunEndedError, RunNotFoundError
from agnt5.runtime.process import Runtime
from agnt5.store.opening import open_store


def cancel_runs(runtime: Runtime, run_ids: list[str]) -> None:
    """Cancel runs, on a connection of its own: works on every pool. Returns at once."""
    if not run_ids:
        return
    threading.Thread(target=lambda: asyncio.run(_cancel(runtime, run_ids)), daemon=True).start()


async def _cancel(runtime: Runtime, run_ids: list[str]) -> None:
    store = await open_store(runtime.settings, name="agnt5:control", patience_s=10)
    try:
        dispatcher = await runtime.dispatcher(store)
        for run_id in run_ids:
            with contextlib.suppress(RunNotFoundError, RunEndedError):
                _, out = await store.cancel(run_id, reason=b'"revoked"')
                dispatcher.send(out)
        await dispatcher.flush()
    finally:
        await store.link.close()

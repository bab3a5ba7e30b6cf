"""Ties a Celery worker's life to its host: open before the first message, give runs back at shutdown."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from contextlib import suppress
from typing import Any

from celery import bootsteps, signals

from agnt5.contracts.errors import Agnt5Error
from agnt5.runtime.events import BatchingDispatcher
from agnt5.runtime.pool import COLD_S, TaskPool
from agnt5.runtime.predecessor import reap_predecessors
from agnt5.runtime.process import Runtime
from agnt5.runtime.stopping import HEED_S, Stop, forks, is_cold
from agnt5.runtime.tellers import EventTeller
from agnt5.store.opening import open_store
from agnt5.telemetry import metrics_endpoint

logger = logging.getLogger("agnt5.runtime")


def _teller(worker: Any) -> EventTeller:
    """Tells by the worker's own dispatcher: in Celery's thread, so that the order with the requests' events is kept.

    Runs that never had a request are told of at once: a batching dispatcher takes events from any thread.
    """

    def at_once(type_: str, fields: dict[str, Any]) -> None:
        consumer = worker.consumer
        eventer = consumer.event_dispatcher if consumer else None
        if isinstance(eventer, BatchingDispatcher) and eventer.enabled:
            eventer.send(type_, **fields)
        else:
            send(type_, fields)

    def send(type_: str, fields: dict[str, Any]) -> None:
        consumer = worker.consumer
        eventer = consumer.event_dispatcher if consumer else None
        if eventer and eventer.enabled:
            worker.pool.tell(lambda: eventer.send(type_, **fields))

    return EventTeller(send, unasked=at_once, shown=worker.app.agnt5.settings.shows_values)


class HostStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is untyped
    """Opens the host once the pool runs, and drains it before the pool stops."""

    requires = ("celery.worker.components:Pool",)
    _passing_on: Any = None

    def start(self, worker: Any) -> None:
        """On our pool the host shares its loop; on others each process makes its host on its first run."""
        if isinstance(worker.pool, TaskPool):
            worker.app.agnt5.use_loop(worker.pool.loop, _teller(worker))
            _tune_interpreter()
        metrics_endpoint.serve(worker.app.agnt5.settings)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """In a cold shutdown Celery waits for children in its signal handler: timers are all that goes on then."""
        if self._passing_on is not None:
            self._passing_on.cancel()
        if forks(type(worker.pool)):
            self._passing_on = hub.call_repeatedly(HEED_S, worker.app.agnt5.word.pass_on)

    def stop(self, worker: Any) -> None:
        """Warm shutdown: park workflows, wait for functions for a while (unless it turns cold), hand back the rest."""
        runtime: Runtime = worker.app.agnt5
        grace_s = runtime.settings.shutdown_grace_ms / 1000
        if not isinstance(worker.pool, TaskPool):
            runtime.word.give(Stop.WARM)
            runtime.shut_down(grace_s)
            return
        draining = runtime.run(runtime.drain(grace_s))
        while not draining.done():
            if is_cold():
                runtime.hurry()
            worker.pool.turn()
        if error := draining.exception():
            logger.error("shutting down: %r", error)

    def terminate(self, worker: Any) -> None:
        """Cold shutdown: hand everything back at once."""
        runtime: Runtime = worker.app.agnt5
        if isinstance(worker.pool, TaskPool):
            with suppress(TimeoutError):  # the store is away: beat takes over
                runtime.run(runtime.drain(0)).result(COLD_S)
        else:
            runtime.word.give(Stop.COLD)
            runtime.shut_down(0)


def _tune_interpreter() -> None:
    """Collect garbage less often: thousands of hosted runs make each full collection cost tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    # two threads take turns in small pieces: one must not wait five milliseconds for the other
    sys.setswitchinterval(0.001)


def connect(app: Any, runtime: Runtime) -> None:
    """Hook the host into every worker of the app."""
    app.steps["worker"].add(HostStep)

    @signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery is untyped
    def check(sender: Any = None, **_: Any) -> None:
        if sender.app is app:
            runtime.node = sender.hostname
            runtime.open_again()
            metrics_endpoint.prepare(runtime.settings, "worker", forks=forks(sender.pool_cls))
            _check(runtime)

    @signals.worker_process_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery is untyped
    def leave(**_: Any) -> None:
        runtime.shut_down(1.0)


def _check(runtime: Runtime) -> None:
    """Refuse to start on a store that cannot be used, and take over what our predecessor owned."""
    try:
        asyncio.run(_prepare(runtime))
    except Agnt5Error as error:
        sys.stderr.write(f"agnt5: {error}\n")
        raise SystemExit(1) from None


async def _prepare(runtime: Runtime) -> None:
    store = await open_store(runtime.settings, name=f"agnt5:{runtime.node}", patience_s=10)
    try:
        dispatcher = await runtime.dispatcher(store)
        await reap_predecessors(store, dispatcher, runtime.node)
        await runtime.announce(store)  # pools that make their host at the first run would never get one
        await dispatcher.flush()
    finally:
        await store.link.close()

"""Celery's consumer with the short way for coroutine tasks and with batched events.

Select it with `worker_consumer = "agnt5.runtime.consumer:Consumer"`; on other pools than ours it changes only events.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.app.events import Events
from celery.exceptions import InvalidTaskError
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.exceptions import ContentDisallowed, DecodeError

from agnt5.runtime.events import DELAY_S, BatchingDispatcher
from agnt5.runtime.pool import TaskPool
from agnt5.runtime.run_strategy import express
from agnt5.runtime.strangers import pass_on
from agnt5.runtime.strategy import Strategy, fast_strategy
from agnt5.runtime.transport.channel import Channel


class BatchingEvents(Events):  # type: ignore[misc]  # Celery is untyped
    """`app.events` whose dispatchers batch."""

    dispatcher_cls = BatchingDispatcher


class Batch(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is untyped
    """Connects the dispatcher, once there is one, to Celery's event loop."""

    requires = ("celery.worker.consumer.events:Events",)

    def start(self, consumer: Any) -> None:
        """Flush a batch a few milliseconds after its first event, or at once when it is full."""
        dispatcher, hub = consumer.event_dispatcher, consumer.hub
        if hub is None or not isinstance(dispatcher, BatchingDispatcher):
            return
        thread, pool = threading.get_ident(), consumer.pool
        tell = pool.tell if isinstance(pool, TaskPool) else hub.call_soon  # ours wakes Celery's thread

        def schedule(seconds: float) -> None:
            # timers belong to the thread of the event loop
            if threading.get_ident() == thread:
                hub.call_later(seconds, dispatcher.flush)
            else:
                tell(hub.call_later, seconds, dispatcher.flush)

        dispatcher.schedule = schedule
        # what the dispatcher before could not publish
        schedule(DELAY_S)

    def shutdown(self, consumer: Any) -> None:
        """Publish the last batch."""
        if isinstance(consumer.event_dispatcher, BatchingDispatcher):
            consumer.event_dispatcher.flush()


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery is untyped
    """The consumer; see the module's docstring."""

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc]
        """Celery's steps and ours."""

        default_steps = (*CeleryConsumer.Blueprint.default_steps, "agnt5.runtime.consumer:Batch")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._fast: dict[str, Strategy] = {}
        super().__init__(*args, **kwargs)

    def update_strategies(self) -> None:
        """Build the strategies of all tasks, anew at each connection."""
        super().update_strategies()
        self._fast.clear()
        if self.hub is None or not isinstance(self.pool, TaskPool):
            return
        for name, task in self.app.tasks.items():
            # a task with a strategy of its own wants to be handled by it
            tracer = self.pool.tracer(task) if task.Strategy == "celery.worker.strategy:default" else None
            if tracer is not None:
                self._fast[name] = fast_strategy(self, task, tracer)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """The function that receives every message."""
        usual = super().create_task_handler(*args, **kwargs)
        self._open_express()
        strategies, callbacks = self._fast, self.on_task_message

        def on_task_received(message: Any) -> Any:
            try:
                strategy = strategies.get(message.headers["task"])
            except (TypeError, KeyError, AttributeError):
                strategy = None
            if strategy is None or callbacks or not self._maximum_prefetch_restored:
                return usual(message)
            try:
                if strategy(message):
                    return None
            except (InvalidTaskError, ContentDisallowed) as error:
                return self.on_invalid_task(None, message, error)
            except DecodeError as error:
                return self.on_decode_error(message, error)
            return usual(message)

        return on_task_received

    def on_unknown_task(self, body: Any, message: Any, exc: Any) -> None:
        """Bring a message to the workers that have its handler, instead of throwing it away."""
        if self.hub is None or not hasattr(self.app, "agnt5") or not pass_on(self, message):
            super().on_unknown_task(body, message, exc)

    def _open_express(self) -> None:
        """Take messages of runs as text, where pool and transport are ours."""
        channel = self.task_consumer.channel
        if self.hub is not None and isinstance(self.pool, TaskPool) and isinstance(channel, Channel):
            channel.express = express(self)

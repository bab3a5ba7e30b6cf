"""The short way of a message to our pool: for coroutine tasks without ETA, expiry, rate limit or special callbacks.

It creates Celery's own `Request` and calls the same callbacks, signals and events as Celery's default strategy; it
only leaves out what such a message does not need. Everything else goes Celery's way.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import Any
from weakref import ref

from celery import signals
from celery.app.trace import LOG_RECEIVED
from celery.exceptions import TaskRevokedError
from celery.utils.imports import symbol_by_name
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import create_request_cls

from agnt5.runtime.job import Job
from agnt5.runtime.pool import TaskPool
from agnt5.runtime.tracing import Tracer

logger = get_logger("celery.worker.strategy")
JSON = "application/json"

#: Takes a message, or returns False to leave it to Celery.
Strategy = Callable[[Any], bool]


def request_class(consumer: Any, task: Any, tracer: Tracer) -> Any:
    """Celery's request class for the task, which enters our pool without a detour."""
    pool: TaskPool = consumer.pool
    base = create_request_cls(
        symbol_by_name(task.Request),
        task,
        pool,
        consumer.hostname,
        consumer.event_dispatcher,
        app=consumer.app,
    )
    default_soft, default_hard = task.soft_time_limit, task.time_limit

    class Request(base):  # type: ignore[misc, valid-type]
        def execute_using_pool(self, pool: TaskPool, **_: Any) -> Job:
            if self.revoked():
                raise TaskRevokedError(self.id)
            args, kwargs, embed = self._payload
            request = self._request_dict
            request["is_eager"] = False
            if embed:
                request.update(embed)
            job = Job(pool, self.id, functools.partial(tracer, self.id, args, kwargs, request))
            job.accepted = self.on_accepted
            job.callback = self.on_success
            job.error_callback = self.on_failure
            job.timeout_callback = self.on_timeout
            hard, soft = self.time_limits
            job.soft_s = soft or default_soft or pool.options.get("soft_timeout")
            job.hard_s = hard or default_hard or pool.options.get("timeout")
            self._apply_result = ref(job)
            pool.start_job(job, on_loop=True)
            return job

    return Request


def fast_strategy(consumer: Any, task: Any, tracer: Tracer) -> Strategy:
    """The short way for one task."""
    cls = request_class(consumer, task, tracer)
    app, pool, eventer = consumer.app, consumer.pool, consumer.event_dispatcher
    send = eventer.send if eventer and eventer.enabled and task.send_events else None
    buckets, name, errors = consumer.task_buckets, task.name, consumer.connection_errors
    process, revoked, received = consumer.on_task_request, state.revoked, signals.task_received
    log = logger.isEnabledFor(logging.INFO)

    def handle(message: Any) -> bool:
        headers = message.headers
        if headers.get("eta") or headers.get("expires") or buckets[name]:
            return False
        _decode(message)
        request = cls(
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            app=app,
            hostname=consumer.hostname,
            eventer=eventer,
            task=task,
            connection_errors=errors,
            body=message.body,
            headers=headers,
            utc=True,
        )
        if log:
            _log_received(request)
        if request.id in revoked and request.revoked():
            return True
        if received.receivers:
            received.send(sender=consumer, request=request)
        if send is not None:
            _send_received(send, request, headers)
        state.task_reserved(request)
        process(request)
        return True

    # a pool of another kind has no short way
    assert isinstance(pool, TaskPool)
    return handle


def _decode(message: Any) -> None:
    """Decode a plain JSON body in place of kombu, which builds a decoder with Python hooks for each message.

    Bodies with kombu's type markers, other content types and what the worker does not accept are left to kombu.
    """
    body = message.body
    if message.content_type != JSON or (message.accept is not None and JSON not in message.accept):
        return
    if isinstance(body, bytes) and b"__type__" not in body:
        try:
            message._decoded_cache = json.loads(body)  # noqa: SLF001
        except ValueError:
            # kombu raises it as what Celery expects
            return


def _log_received(request: Any) -> None:
    context = {
        "id": request.id,
        "name": request.name,
        "args": request.argsrepr,
        "kwargs": request.kwargsrepr,
        "eta": None,
    }
    logger.info(LOG_RECEIVED, context, extra={"data": context})


def _send_received(send: Callable[..., Any], request: Any, headers: Any) -> None:
    send(
        "task-received",
        uuid=request.id,
        name=request.name,
        args=request.argsrepr,
        kwargs=request.kwargsrepr,
        root_id=request.root_id,
        parent_id=request.parent_id,
        retries=headers.get("retries", 0),
        eta=None,
        expires=None,
    )

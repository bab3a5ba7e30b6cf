"""Runs a Celery task that is a coroutine function, with the semantics of Celery's own tracer.

Celery's tracer runs a function from start to end in one thread. A coroutine is interleaved with others, so the parts
before and after it are run here, from Celery's public pieces: signals, `TraceInfo`, result backend, signatures.
What may block (storing results, sending callbacks, `on_failure`...) is done in a thread, not on the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Generator
from time import monotonic
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import canvas, signals, states
from celery._state import _task_stack
from celery.app.task import Context, get_actual_ignore_result
from celery.app.trace import (
    LOG_SUCCESS,
    TraceInfo,
    get_task_name,
    report_internal_error,
    task_has_custom,
    traceback_clear,
)
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, WorkerLostError
from celery.utils.log import get_logger
from celery.utils.saferepr import saferepr
from kombu.exceptions import EncodeError, OperationalError
from kombu.utils import encoding

logger = get_logger("celery.app.trace")
# kombu announces types that it does not have
safe_repr: Any = encoding.safe_repr

#: failed?, the error's ExceptionInfo or the result's repr, seconds
Outcome = tuple[int, Any, float]
InThread = Callable[..., "asyncio.Future[Any]"]

_scope: contextvars.ContextVar[object | None] = contextvars.ContextVar("agnt5_celery_scope", default=None)


def _scope_ident() -> object:
    """Who asks for the current task: the coroutine's context if there is one, else the thread."""
    return _scope.get() or threading.get_ident()


def make_context_safe(stack: Any) -> None:
    """Let a stack of Celery's (current task, current request) follow the context instead of the thread.

    A coroutine, the asyncio tasks that it creates and `asyncio.to_thread` then see their own `self.request`.
    """
    if hasattr(type(stack), "__ident_func__"):
        stack.__ident_func__ = _scope_ident


def is_coroutine_task(task: Any) -> bool:
    """Whether the task's body is an `async def`."""
    return inspect.iscoroutinefunction(inspect.unwrap(task.run))


class Interruptible(Coroutine[Any, Any, Any]):
    """A coroutine into which `SoftTimeLimitExceeded` can be thrown at the place where it waits."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        self._task: asyncio.Task[Any] | None = None
        self._soft = False

    def exceed(self, task: asyncio.Task[Any]) -> None:
        """Interrupt: asyncio can only cancel, `throw` turns that into the time limit's error."""
        self._soft = True
        task.cancel()

    def send(self, value: Any) -> Any:
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        if self._soft and isinstance(error[0], asyncio.CancelledError):
            self._soft = False
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            return self._inner.throw(SoftTimeLimitExceeded())
        return self._inner.throw(*error)

    def close(self) -> None:
        self._inner.close()

    def __next__(self) -> Any:
        return self._inner.send(None)

    def __await__(self) -> Generator[Any, Any, Any]:
        # itself, so that what is thrown at an awaiting task comes by `throw`
        return self  # type: ignore[return-value]


class Tracer:
    """Traces the runs of one task."""

    def __init__(self, app: Any, task: Any, hostname: str, in_thread: InThread) -> None:
        self.app = app
        self.task = task
        self._hostname = hostname
        self._in_thread = in_thread
        self._call = task if task_has_custom(task, "__call__") else task.run
        self._before_start = task.before_start if task_has_custom(task, "before_start") else None
        self._on_success = task.on_success if task_has_custom(task, "on_success") else None
        self._after_return = task.after_return if task_has_custom(task, "after_return") else None
        self._task_init = app.loader.on_task_init
        self._inherit_priority = app.conf.task_inherit_parent_priority
        make_context_safe(_task_stack)
        make_context_safe(task.request_stack)

    async def __call__(self, task_id: str, args: Any, kwargs: Any, request_dict: dict[str, Any]) -> Outcome:
        """Run the task; every outcome but cancellation is returned, as Celery's request handler expects it."""
        started = monotonic()
        _scope.set(object())
        request = Context(request_dict, args=args, called_directly=False, kwargs=kwargs)
        _task_stack.push(self.task)
        self.task.request_stack.push(request)
        state, retval = None, None
        try:
            await self._begin(task_id, args, kwargs, request)
            state, retval, outcome = await self._outcome(args, kwargs, request, started)
            await self._returned(state, retval, request)
        except Exception as error:  # noqa: BLE001  # of hooks, signals, the backend: not the task's own
            return 1, report_internal_error(self.task, error), monotonic() - started
        else:
            return outcome
        finally:
            self._end(task_id, args, kwargs, retval, state)

    async def _outcome(self, args: Any, kwargs: Any, request: Any, started: float) -> tuple[str, Any, Outcome]:
        try:
            retval = await self._call(*args, **kwargs)
        except asyncio.CancelledError as error:
            if _cancelled_from_outside():
                raise
            return await self._failed(error, request, started)
        except BaseException as error:  # noqa: BLE001  # each kind is told apart there
            return await self._failed(error, request, started)
        state, outcome = await self._succeeded(retval, request, started)
        return state, retval, outcome

    async def _begin(self, task_id: str, args: Any, kwargs: Any, request: Any) -> None:
        task = self.task
        if signals.task_prerun.receivers:
            signals.task_prerun.send(sender=task, task_id=task_id, task=task, args=args, kwargs=kwargs)
        self._task_init(task_id, task)
        if task.track_started and not get_actual_ignore_result(task, request):
            meta = {"pid": os.getpid(), "hostname": self._hostname}
            await self._in_thread(lambda: task.backend.store_result(task_id, meta, states.STARTED, request=request))
        if self._before_start is not None:
            self._before_start(task_id, args, kwargs)

    async def _succeeded(self, retval: Any, request: Any, started: float) -> tuple[str, Outcome]:
        publish = not get_actual_ignore_result(self.task, request)
        if publish or request.callbacks or request.chain or request.chord:
            try:
                await self._in_thread(self._pass_on, retval, request, publish)
            except (EncodeError, OperationalError) as error:
                state, _, outcome = await self._failed(error, request, started)
                return state, outcome
        runtime = monotonic() - started
        text = saferepr(retval, self.task.resultrepr_maxsize)
        if self._on_success is not None:
            await self._hook(self._on_success, retval, request.id, request.args, request.kwargs)
        if signals.task_success.receivers:
            signals.task_success.send(sender=self.task, result=retval, runtime=runtime)
        if logger.isEnabledFor(logging.INFO):
            self._log_success(request, text, runtime)
        return states.SUCCESS, (0, text, runtime)

    def _pass_on(self, retval: Any, request: Any, publish: bool) -> None:
        """Send callbacks and the next task of a chain, then store the result, so that it knows its children."""
        family: dict[str, Any] = {"parent_id": request.id, "root_id": request.root_id or request.id}
        family["priority"] = request.delivery_info.get("priority") if self._inherit_priority else None
        for callback in request.callbacks or ():
            self._send(callback, retval, **family)
        if request.chain:
            self._send(request.chain[-1], retval, chain=request.chain[:-1], **family)
        self.task.backend.mark_as_done(request.id, retval, request, publish)

    def _send(self, signature: Any, retval: Any, **options: Any) -> None:
        bound = canvas.maybe_signature(signature, app=self.app)
        self.app.amqp._retry_publish(bound.apply_async, (retval,), **options)  # noqa: SLF001

    async def _failed(self, error: BaseException, request: Any, started: float) -> tuple[str, Any, Outcome]:
        info, einfo = await self._in_thread(self._record, error, request)
        traceback_clear(error)
        return info.state, info.retval, (1, einfo, monotonic() - started)

    def _record(self, error: BaseException, request: Any) -> tuple[TraceInfo, Any]:
        try:
            raise error  # noqa: TRY301  # Celery's handlers look at the error being handled
        except Reject:
            info, einfo = TraceInfo(states.REJECTED, error), ExceptionInfo(internal=True)
            info.handle_reject(self.task, request)
        except Ignore:
            info, einfo = TraceInfo(states.IGNORED, error), ExceptionInfo(internal=True)
            info.handle_ignore(self.task, request)
        except Retry:
            info = TraceInfo(states.RETRY, error)
            einfo = info.handle_error_state(self.task, request, call_errbacks=False)
        except Exception:  # noqa: BLE001  # a task may raise anything
            info = TraceInfo(states.FAILURE, error)
            einfo = info.handle_error_state(self.task, request)
        except BaseException:  # noqa: BLE001  # SystemExit in a task must not end the worker's loop
            lost = WorkerLostError(repr(error)).with_traceback(error.__traceback__)
            info = TraceInfo(states.FAILURE, lost)
            einfo = info.handle_error_state(self.task, request)
        return info, einfo

    async def _returned(self, state: str, retval: Any, request: Any) -> None:
        if self._after_return is not None and state not in {states.IGNORED, states.RETRY, states.REJECTED}:
            await self._hook(self._after_return, state, retval, request.id, request.args, request.kwargs, None)

    async def _hook(self, hook: Callable[..., Any], *args: Any) -> None:
        try:
            await self._in_thread(hook, *args)
        except Exception:
            logger.exception("Task %s: %r raised after the outcome was stored", self.task.name, hook)

    def _end(self, task_id: str, args: Any, kwargs: Any, retval: Any, state: str | None) -> None:
        try:
            if signals.task_postrun.receivers:
                signals.task_postrun.send(
                    sender=self.task,
                    task_id=task_id,
                    task=self.task,
                    args=args,
                    kwargs=kwargs,
                    retval=retval,
                    state=state,
                )
        finally:
            _task_stack.pop()
            self.task.request_stack.pop()

    def _log_success(self, request: Any, text: str, runtime: float) -> None:
        context = {
            "id": request.id,
            "name": get_task_name(request, self.task.name),
            "return_value": text,
            "runtime": runtime,
            "args": request.get("argsrepr") or safe_repr(request.args),
            "kwargs": request.get("kwargsrepr") or safe_repr(request.kwargs),
        }
        logger.info(LOG_SUCCESS, context, extra={"data": context})


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

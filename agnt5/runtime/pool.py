"""Celery pool with one asyncio loop per worker process: hundreds of coroutines, and threads for sync tasks.

Select it with `worker_pool = "agnt5.runtime.pool:TaskPool"`. `async def` tasks run on the loop, up to the worker's
concurrency (250 where none is given); sync tasks run in threads, at most `THREADS` at once. Time limits and
`revoke(terminate=True)` cancel coroutines where they wait; a thread cannot be stopped, so a sync task past its hard
limit is reported as failed while its thread goes on to its end.

Celery's callbacks always run in the thread of Celery's event loop. Traffic between the threads is batched: one wake-up
for all that was posted in a turn.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.concurrency.base import BasePool
from celery.utils import log as celery_log
from celery.utils.log import get_logger
from kombu import serialization

from agnt5.runtime.job import Job
from agnt5.runtime.loopthread import LoopThread, Outbox
from agnt5.runtime.stopping import is_cold
from agnt5.runtime.threads import Threads
from agnt5.runtime.tracing import Interruptible, Tracer, is_coroutine_task

logger = get_logger(__name__)
# kombu announces types that it does not have
serial: Any = serialization

#: Coroutines at once where the worker was started without `-c`.
CONCURRENCY = 250
#: Sync tasks at once.
THREADS = 64
#: Seconds that a cold shutdown waits for cancelled coroutines.
COLD_S = 5.0


class TaskPool(BasePool):  # type: ignore[misc]  # Celery is untyped
    """The pool; see the module's docstring."""

    body_can_be_buffer = True
    signal_safe = False
    #: waiting for another task's result inside a coroutine would block all others
    task_join_will_block = True
    limit: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._thread = LoopThread("agnt5-loop")
        self._outbox = Outbox(self._thread.loop)
        self._executor = Threads(min(self.limit, THREADS), "agnt5-task")
        # apart from the tasks' threads, so that outcomes can be stored while all those are busy
        self._side = ThreadPoolExecutor(8, thread_name_prefix="agnt5-side")
        self._tracers: dict[str, Tracer | None] = {}
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._in_threads: set[Job] = set()
        self._held: set[asyncio.Task[Any]] = set()
        self._jobs = 0
        self._stopping = False
        self._hub: Any = None

    # -- for the run executor --------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop on which coroutines run."""
        return self._thread.loop

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function(*args)` on the loop; a coroutine it returns becomes a task. Batched, from any thread."""
        self._thread.post(self._submitted, function, args)

    def _submitted(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        result = function(*args)
        if asyncio.iscoroutine(result):
            task = self.loop.create_task(result)
            self._held.add(task)
            task.add_done_callback(self._released)

    def _released(self, task: asyncio.Task[Any]) -> None:
        self._held.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("Submitted coroutine failed", exc_info=task.exception())

    def tell(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function(*args)` in the thread of Celery's event loop, batched; safe from any thread."""
        self._outbox.tell(function, *args)

    def in_thread(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run a blocking function beside the loop, in the caller's context."""
        context = contextvars.copy_context()
        return self.loop.run_in_executor(self._side, functools.partial(context.run, function, *args))

    # -- Celery's side -----------------------------------------------------------------------------

    def on_start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()

    def grow(self, n: int = 1) -> None:
        """Celery's `pool_grow`: n more coroutines may run at once; Celery raises what it prefetches as well."""
        self.limit += n
        self._thread.post(self._fill)

    def shrink(self, n: int = 1) -> None:
        """Celery's `pool_shrink`: n fewer, at least one; what runs goes on to its end."""
        self.limit = max(1, self.limit - n)

    def register_with_event_loop(self, hub: Any) -> None:
        """Let Celery's event loop run callbacks, and wake ours once per turn."""
        self._hub = hub
        self._thread.hold()
        self._outbox.connect(hub)
        hub.on_tick.add(self._thread.flush)

    def tracer(self, task: Any) -> Tracer | None:
        """The tracer of a coroutine task, None for a sync one."""
        try:
            return self._tracers[task.name]
        except KeyError:
            tracer = None
            if is_coroutine_task(task):
                hostname = (self.options.get("initargs") or (None, ""))[1]
                tracer = Tracer(self.app, task, hostname, self.in_thread)
            self._tracers[task.name] = tracer
            return tracer

    def on_apply(self, target: Callable[..., Any], args: Any = None, kwargs: Any = None, **options: Any) -> Job:
        """Celery's entrance: `target` is its tracer, `args` are the request's parts."""
        name, task_id, request = args[0], args[1], args[2]
        tracer = self.tracer(self.app.tasks[name])
        if tracer is None:
            job = Job(self, task_id, functools.partial(target, *args, **(kwargs or {})))
        else:
            job = Job(self, task_id, functools.partial(self._trace_encoded, tracer, task_id, request, *args[3:]))
        job.accepted = options.get("accept_callback")
        job.callback = options.get("callback")
        job.error_callback = options.get("error_callback")
        job.timeout_callback = options.get("timeout_callback")
        job.soft_s = options.get("soft_timeout") or self.options.get("soft_timeout")
        job.hard_s = options.get("timeout") or self.options.get("timeout")
        self.start_job(job, on_loop=tracer is not None)
        return job

    def _trace_encoded(self, tracer: Tracer, task_id: str, request: dict[str, Any], body: Any, *encoding: Any) -> Any:
        content_type, content_encoding = encoding
        if content_type:
            accept = serial.prepare_accept_content(self.app.conf.accept_content)
            body = serial.loads(body, content_type, content_encoding, accept=accept)
        args, kwargs, embed = body
        request.update({"args": args, "kwargs": kwargs, "is_eager": False}, **embed or {})
        return tracer(task_id, args, kwargs, request)

    def start_job(self, job: Job, *, on_loop: bool) -> None:
        """Run a job as soon as there is a slot."""
        self._jobs += 1
        if on_loop:
            self._thread.post(self._admit, job)
        else:
            self._executor.submit(self._run_in_thread, job)

    # -- coroutines, on the loop -------------------------------------------------------------------

    def _admit(self, job: Job) -> None:
        if len(self._running) < self.limit:
            self._start(job)
        else:
            self._waiting.append(job)

    def _start(self, job: Job) -> None:
        self._running.add(job)
        if job.accepted is not None:
            self._outbox.tell_from_loop(job.accepted, os.getpid(), monotonic())
        if job.unwanted:
            self._ended(job)
            return
        job.task = self.loop.create_task(self._run(job))
        if job.soft_s:
            job.timers.append(self.loop.call_later(job.soft_s, self._soft_limit, job))
        if job.hard_s:
            job.timers.append(self.loop.call_later(job.hard_s, self._hard_limit, job))

    async def _run(self, job: Job) -> None:
        try:
            coroutine = job.run()
            if job.soft_s:
                coroutine = job.coroutine = Interruptible(coroutine)
            outcome = await coroutine
        except asyncio.CancelledError as error:
            # told by who cancelled; at a cold shutdown the message goes back to its queue with the channel's end
            if not self._stopping:
                self._outbox.tell_from_loop(_tell_error, job, error)
        except BaseException as error:  # noqa: BLE001  # an error outside of the task's own code
            self._outbox.tell_from_loop(_tell_error, job, error)
        else:
            self._outbox.tell_from_loop(_tell_outcome, job, outcome)
        finally:
            self._ended(job)

    def _ended(self, job: Job) -> None:
        job.ended = True
        job.discard_timers()
        self._running.discard(job)
        self._outbox.tell_from_loop(self._forget)
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self.limit:
            self._start(self._waiting.popleft())

    def _forget(self) -> None:
        self._jobs -= 1

    def _soft_limit(self, job: Job) -> None:
        if job.timeout_callback is not None:
            self._outbox.tell_from_loop(job.timeout_callback, True, job.soft_s)
        if job.coroutine is not None and job.task is not None:
            job.coroutine.exceed(job.task)

    def _hard_limit(self, job: Job) -> None:
        job.unwanted = True
        if job.timeout_callback is not None:
            self._outbox.tell_from_loop(job.timeout_callback, False, job.hard_s)
        if job.task is not None:
            job.task.cancel()

    def cancel(self, job: Job) -> None:
        """Cancel a coroutine that runs; one that waits for its slot will not start."""
        self._thread.post(self._cancel, job)

    def _cancel(self, job: Job) -> None:
        if job.task is not None:
            job.task.cancel()

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Nothing: all jobs share this process; Celery also calls the job's own `terminate`."""

    # -- sync tasks, in threads --------------------------------------------------------------------

    def _run_in_thread(self, job: Job) -> None:
        tell = self._outbox.tell
        if job.accepted is not None:
            tell(job.accepted, os.getpid(), monotonic())
        try:
            if job.unwanted:
                return
            if job.hard_s:
                self._thread.post(self._watch_thread, job)
            tell(_tell_outcome, job, job.run())
        except BaseException as error:  # noqa: BLE001  # an error outside of the task's own code
            tell(_tell_error, job, error)
        finally:
            job.ended = True
            if job.hard_s:
                self._thread.post(job.discard_timers)
            tell(self._forget)

    def _watch_thread(self, job: Job) -> None:
        if job.hard_s and not job.ended:
            job.timers.append(self.loop.call_later(job.hard_s, self._hard_limit, job))

    # -- the end -------------------------------------------------------------------------------------

    def on_stop(self) -> None:
        """Warm shutdown: finish what the worker holds, with its acknowledgements and events, unless it turns cold."""
        if celery_log._in_sighandler:  # noqa: SLF001  # there is no other sign of it
            # Celery's handler of a cold shutdown interrupts anything, the end of a warm one too: who turned Celery's
            # event loop goes on behind it, and the host on our loop has to give its runs back before that stops
            return
        while self._jobs and not is_cold():
            self.turn()
        self._stop(COLD_S)

    def on_terminate(self) -> None:
        """Cold shutdown: cancel coroutines, wait for nothing."""
        self._stop(COLD_S)

    def turn(self) -> None:
        """One turn of Celery's event loop, which nobody else turns any more; without one, wait for callbacks."""
        self._thread.flush()
        if self._hub is None:
            self._outbox.arrived.wait(0.1)
            self._outbox.arrived.clear()
            return
        try:
            self._hub.run_once()
        except Exception as error:  # noqa: BLE001  # the broker is away: outcomes must still be told
            logger.warning("Error while waiting for tasks: %r", error)
            self._outbox.arrived.wait(0.1)
            self._outbox.drain()

    def _stop(self, timeout_s: float) -> None:
        self._stopping = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._thread.stop(timeout_s)
        self._side.shutdown(wait=False, cancel_futures=True)
        self._outbox.drain()

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info |= {"coroutines": len(self._running), "waiting": len(self._waiting), "threads": THREADS}
        return info


def _tell_outcome(job: Job, outcome: Any) -> None:
    if not job.unwanted and job.callback is not None:
        job.callback(outcome)


def _tell_error(job: Job, error: BaseException) -> None:
    """Report an error that the tracer itself did not handle, as the error being handled, as Celery expects."""
    if job.unwanted or job.error_callback is None:
        return
    try:
        raise error  # noqa: TRY301
    except BaseException:  # noqa: BLE001  # whatever it was, it must not end the worker
        job.error_callback(ExceptionInfo())


@signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _default_concurrency(sender: Any = None, **_: Any) -> None:
    """Start with `CONCURRENCY` instead of one per core where neither `-c` nor `worker_concurrency` is given."""
    given = sender.options.get("concurrency") or sender.app.conf.worker_concurrency
    pool = sender.pool_cls
    ours = pool == f"{TaskPool.__module__}:{TaskPool.__name__}" or (
        isinstance(pool, type) and issubclass(pool, TaskPool)
    )
    if ours and not given:
        sender.concurrency = CONCURRENCY

"""The event loop that workflow code runs on: ready callbacks in order, time from events, and no I/O.

It runs inside the thread and the running loop of its host, for the moment of one activation.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import sys
from asyncio import tasks as _asyncio_tasks
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from types import AsyncGeneratorType
from typing import Any, NoReturn

from agnt5.contracts.errors import Agnt5Error, InvalidInputError, WorkflowIOError
from agnt5.replay.futures import OrderedFuture, OrderedTask

log = logging.getLogger("agnt5.workflow")

MAX_CALLBACKS = 1_000_000
"""Callbacks that one event may cause before the workflow counts as endless."""

MAX_MS = 1 << 53
"""Times past this are refused: they are not exact as JSON numbers in every reader."""

_swap_current_task: Callable[[Any, Any], Any] | None = getattr(_asyncio_tasks, "_swap_current_task", None)
_CLOSE_TRIES = 100


_keeps_generators: contextvars.ContextVar[bool] = contextvars.ContextVar("agnt5_keeps_generators", default=False)


@contextmanager
def generators_kept() -> Iterator[None]:
    """For libraries that iterate async generators inside workflow code.

    What is left of one is kept until the workflow ends, and closed then, in order: the garbage collector's timing
    decides nothing. Their `finally` blocks can then ask for nothing.
    """
    token = _keeps_generators.set(True)
    try:
        yield
    finally:
        _keeps_generators.reset(token)


class Halted(BaseException):
    """Ends workflow code that may not go on. Not an Exception, so that `except Exception` can't hold it up."""


class EndlessLoopError(Agnt5Error):
    """Workflow code went on and on without waiting for anything."""


class ReadyHandle(asyncio.Handle):
    """A callback in the queue. Leaner than asyncio's: no debug mode, no source traceback."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: DeterministicLoop,
        context: contextvars.Context | None = None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None

    def cancel(self) -> None:
        """Take the callback out of the queue."""
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]


class DurableTimerHandle(asyncio.TimerHandle):
    """A `call_later` of workflow code. `seq` is its timer's command number, or 0 when it was due at once."""

    __slots__ = ("_live", "seq")

    def __init__(
        self,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: DeterministicLoop,
        context: contextvars.Context | None = None,
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.seq = 0
        self._live = False

    def cancel(self) -> None:
        """Take the timer back."""
        if self._cancelled:
            return
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]
        if self._live:
            self._live = False
            self._loop.cancel_timer(self.seq)  # type: ignore[attr-defined]


class DeterministicLoop(asyncio.AbstractEventLoop):
    """Runs workflow code, and only while its owner calls `run_ready` between `enter` and `leave`.

    `start_timer(due_ms, handle) -> seq` and `cancel_timer(seq)` are the owner's: a timer is durable.
    Same events, same order of callbacks, same `time()`: that is the promise.
    """

    def __init__(
        self,
        *,
        start_timer: Callable[[int, DurableTimerHandle], int],
        cancel_timer: Callable[[int], None],
        max_callbacks: int = MAX_CALLBACKS,
    ) -> None:
        self.now_ms = 0
        self.halted = False
        self.active = False
        self.cancel_timer = cancel_timer
        self._start_timer = start_timer
        self._max_callbacks = max_callbacks
        self._ready: deque[asyncio.Handle] = deque()
        self._number = 0
        self._tasks: list[OrderedTask] = []
        self._prune_at = 64
        self._generators: list[AsyncGeneratorType[Any, Any]] = []
        self._prune_generators_at = 64
        self._exception_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self._outer: tuple[Any, Any, Any] | None = None

    # ---- for the owner

    def enter(self) -> None:
        """Become the running loop of this thread. `leave` has to follow, whatever happens."""
        outer = asyncio._get_running_loop()  # noqa: SLF001
        # since 3.14 a thread has one current task; before, one per loop
        task = _swap_current_task(outer, None) if outer is not None and _swap_current_task is not None else None
        self._outer = (outer, task, sys.get_asyncgen_hooks())
        asyncio._set_running_loop(self)  # noqa: SLF001
        sys.set_asyncgen_hooks(firstiter=self._first_iterated, finalizer=None)
        self.active = True

    def leave(self) -> None:
        """Give the thread back to the loop and the task that were running before."""
        assert self._outer is not None
        (outer, task, hooks), self._outer = self._outer, None
        self.active = False
        sys.set_asyncgen_hooks(*hooks)
        asyncio._set_running_loop(outer)  # noqa: SLF001
        if outer is not None and _swap_current_task is not None:
            _swap_current_task(outer, task)

    def run_ready(self) -> None:
        """Run callbacks, first in first out, until none is ready or `halt` was called.

        Raises `EndlessLoopError` past the bound, and what is not the workflow's own to catch:
        `KeyboardInterrupt`, and subclasses of `SystemExit`, which servers raise from signal handlers.
        """
        ready = self._ready
        left = self._max_callbacks
        while ready and not self.halted:
            handle = ready.popleft()
            callback: Callable[..., Any] | None = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001
            if callback is None:
                continue
            if (left := left - 1) < 0:
                raise EndlessLoopError(
                    f"more than {self._max_callbacks:,} callbacks ran for one event; a loop such as "
                    "'while not done: await asyncio.sleep(0)' never waits: await a task, signal or timer instead"
                )
            try:
                handle._context.run(callback, *handle._args)  # type: ignore[attr-defined]  # noqa: SLF001
            except BaseException as error:  # noqa: BLE001
                self._callback_raised(callback, error)

    def fire(self, handle: DurableTimerHandle) -> None:
        """Queue the callback of a timer that is due."""
        handle._live = False  # noqa: SLF001
        self._ready.append(handle)

    def halt(self) -> None:
        """Run no further callback, ever."""
        self.halted = True
        self._ready.clear()

    def dispose(self, *, report: bool) -> None:
        """Close all coroutines that have not ended. Their `finally` blocks run, and can ask for nothing.

        `report`: tell now of tasks that failed and that nobody looked at; else the next replay will meet them.
        """
        self.halt()
        nested = self.active
        if not nested:
            self.enter()
        try:
            for _ in range(_CLOSE_TRIES):  # clean-up may create more tasks
                tasks, self._tasks = self._tasks, []
                if not tasks:
                    break
                self._close_all(tasks, report=report)
            generators, self._generators = self._generators, []
            for generator in generators:
                _close_generator(generator)
        finally:
            if not nested:
                self.leave()

    def next_number(self) -> int:
        """The number of the next task or future."""
        self._number = number = self._number + 1
        return number

    # ---- what asyncio calls

    def time(self) -> float:
        """Seconds, from the time of the event that is being fed."""
        return self.now_ms / 1000

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: ARG002
        return

    def is_running(self) -> bool:
        return self.active

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return OrderedFuture(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if options.get("name", "") is None:
            del options["name"]
        task = OrderedTask(coro, loop=self, **options)
        # strong: asyncio holds tasks weakly, and the collector's timing must not decide what runs
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            # failures that nobody has looked at are kept until the end: only then are they known to be nobody's
            self._tasks = [task for task in self._tasks if not task.done() or task._log_traceback]  # noqa: SLF001
            self._prune_at = 64 + 2 * len(self._tasks)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = ReadyHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._timer(self.now_ms + _up_to_ms(delay), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._timer(_up_to_ms(when), callback, args, context)

    def _timer(
        self, due_ms: int, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.TimerHandle:
        handle = DurableTimerHandle(due_ms / 1000, callback, args, self, context)
        if due_ms <= self.now_ms:
            self._ready.append(handle)
        else:
            handle.seq = self._start_timer(due_ms, handle)
            handle._live = True  # noqa: SLF001
        return handle

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None:
        return self._exception_handler

    def set_exception_handler(
        self, handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
    ) -> None:
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        log.error("in workflow code: %s", context.get("message", ""), exc_info=error)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an error that nobody can catch (a background task's, a callback's). It fails nothing."""
        if isinstance(context.get("exception"), Halted):
            return
        try:
            if self._exception_handler is None:
                self.default_exception_handler(context)
            else:
                self._exception_handler(self, context)
        except Exception:
            log.exception("the exception handler of a workflow raised")

    def _first_iterated(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Called by the interpreter when an async generator is first iterated."""
        assert isinstance(generator, AsyncGeneratorType)
        # @asynccontextmanager is let through: `async with` bounds the life of its generator
        if sys._getframe(1).f_globals.get("__name__") == "contextlib":  # noqa: SLF001
            return
        if not _keeps_generators.get():
            raise _refused_generator(generator)
        if len(self._generators) >= self._prune_generators_at:
            self._generators = [one for one in self._generators if one.ag_frame is not None]
            self._prune_generators_at = 64 + 2 * len(self._generators)
        self._generators.append(generator)

    def _close_all(self, tasks: list[OrderedTask], *, report: bool) -> None:
        for task in tasks:
            if not task.done():
                _close(task.get_coro())
            elif task._log_traceback:  # noqa: SLF001
                # here and now: asyncio would tell of it whenever the collector finds the task
                task._log_traceback = False  # noqa: SLF001
                if report:
                    what = f"{task.get_name()} failed, and nobody awaited it"
                    self.call_exception_handler({"message": what, "exception": task.exception(), "task": task})

    def _callback_raised(self, callback: Any, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            if type(error) is not SystemExit:
                raise error
            if isinstance(getattr(callback, "__self__", None), asyncio.Task):
                return  # sys.exit() in workflow code: the task holds it as its error
        self.call_exception_handler({"message": f"callback {callback!r} raised", "exception": error})


def _up_to_ms(seconds: float) -> int:
    """Whole milliseconds, rounded up, but not for what is only the noise of floating point."""
    ms = seconds * 1000
    if not -MAX_MS < ms < MAX_MS:
        raise InvalidInputError(f"timer: a delay or time of {seconds!r} seconds is out of range")
    near = round(ms)
    return near if abs(ms - near) < 0.01 else math.ceil(ms)  # noqa: PLR2004


def _close(coro: Any) -> None:
    """Close a coroutine even if its `finally` blocks await something."""
    for _ in range(_CLOSE_TRIES):
        try:
            coro.close()
        except KeyboardInterrupt:
            raise
        except RuntimeError as error:
            if "ignored GeneratorExit" in str(error):
                continue
            return
        except BaseException:  # noqa: BLE001 - a dropped workflow has nobody to tell
            return
        else:
            return


def _close_generator(generator: AsyncGeneratorType[Any, Any]) -> None:
    """Close an async generator; what it awaits meanwhile is not waited for."""
    closing = generator.aclose()
    with suppress(BaseException):
        closing.send(None)
    _close(closing)


def _refused_generator(generator: AsyncGeneratorType[Any, Any]) -> WorkflowIOError:
    name = getattr(generator, "__qualname__", "?")
    return WorkflowIOError(
        f"async generator {name!r} inside workflow code: what is left of it would be closed "
        "when the garbage collector likes; use a plain loop, or iterate it in ctx.step or in a function"
    )


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refused(_self: DeterministicLoop, *_args: Any, **_options: Any) -> NoReturn:
        raise WorkflowIOError(
            f"loop.{name}() inside workflow code: it cannot be replayed; do it in ctx.step(...) or in a function"
        )

    refused.__name__ = name
    return refused


for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(DeterministicLoop):
        setattr(DeterministicLoop, _name, _refusing(_name))

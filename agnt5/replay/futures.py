"""Tasks and futures of workflow code, hashed by their number so that sets of them iterate in one order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class OrderedTask(asyncio.Task[Any]):
    """A task whose hash is its number.

    `asyncio.wait`, `TaskGroup` and `as_completed` keep tasks in sets; with the usual hash, an address,
    the order in which they cancel or return tasks would differ from one replay to the next.
    """

    __slots__ = ("number",)

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: Any, name: str | None = None, **more: Any) -> None:
        self.number: int = loop.next_number()
        super().__init__(coro, loop=loop, name=name or f"workflow-task-{self.number}", **more)
        # a parked workflow is dropped with its tasks pending, on purpose
        self._log_destroy_pending = False

    def __hash__(self) -> int:
        return self.number


class OrderedFuture(asyncio.Future[Any]):
    """A future whose hash is its number."""

    __slots__ = ("number",)

    def __init__(self, *, loop: Any) -> None:
        super().__init__(loop=loop)
        self.number: int = loop.next_number()

    def __hash__(self) -> int:
        return self.number


class CommandFuture(OrderedFuture):
    """Answers one command. Tells its owner when user code cancels it."""

    __slots__ = ("abandon", "seq")

    def __init__(self, seq: int, abandon: Callable[[int], None] | None, *, loop: Any) -> None:
        super().__init__(loop=loop)
        self.seq = seq
        self.abandon = abandon

    def cancel(self, msg: Any | None = None) -> bool:
        """As for any future; the owner may take the command back."""
        if not super().cancel(msg=msg):
            return False
        if self.abandon is not None:
            self.abandon(self.seq)
        return True

    def fail(self, error: BaseException) -> None:
        """Set the error, without a log entry should nobody look at it: the journal has it."""
        self.set_exception(error)
        self._log_traceback = False


class SignalFuture(CommandFuture):
    """Waits for one signal, and gives it back when its waiter is cancelled before it took the signal."""

    __slots__ = ("consumed", "give_back")

    def __init__(
        self, seq: int, abandon: Callable[[int], None], give_back: Callable[[SignalFuture], None], *, loop: Any
    ) -> None:
        super().__init__(seq, abandon, loop=loop)
        self.give_back: Callable[[SignalFuture], None] | None = give_back
        self.consumed: Callable[[int], None] | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """As for any future; called on a delivered signal that nobody took, it puts the signal back."""
        if self.consumed is not None and self.give_back is not None:
            give_back, self.give_back, self.consumed = self.give_back, None, None
            give_back(self)
        return super().cancel(msg=msg)

    def result(self) -> Any:
        """The payload. Asking for it is what consumes the signal."""
        if self.give_back is None:
            raise asyncio.CancelledError
        if self.consumed is not None:
            consumed, self.consumed = self.consumed, None
            consumed(self.seq)
        return super().result()

    def __await__(self) -> Generator[Any, None, Any]:
        # the C iterator reads the value without calling result(), and would leave the signal unconsumed
        if not self.done():
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    __iter__ = __await__

"""Handles of child runs: futures that user code awaits, cancels, or forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from agnt5.contracts.errors import InvalidInputError, RunCancelledError, RunFailedError
from agnt5.contracts.runs import RunStatus
from agnt5.sdk.port import CommandPort, TaskRef

NO_DEFAULT: Any = ...


class Outcome(asyncio.Future[Any]):
    """A child's result in the form that its caller expects. A failure that nobody awaits is not logged."""

    def __init__(self, ref: TaskRef, *, coerce: Callable[[Any], Any] | None = None, default: Any = NO_DEFAULT) -> None:
        super().__init__(loop=ref.future.get_loop())
        self._ref = ref
        self._coerce = coerce
        self._default = default
        ref.future.add_done_callback(self._settle)

    @property
    def id(self) -> str:
        """The child's run id."""
        return self._ref.id

    def status(self) -> RunStatus:
        """`running` until this run has learnt of the child's end, then how it ended."""
        source = self._ref.future
        if not source.done():
            return RunStatus.RUNNING
        if source.cancelled() or isinstance(source.exception(), RunCancelledError):
            return RunStatus.CANCELLED
        return RunStatus.COMPLETED if source.exception() is None else RunStatus.FAILED

    # asyncio keeps futures in sets; the usual hash, an address, would order them differently in each replay
    def __hash__(self) -> int:
        return self._ref.seq

    def __eq__(self, other: object) -> bool:
        return self is other

    def _settle(self, source: asyncio.Future[Any]) -> None:
        error = None if source.cancelled() else source.exception()
        if self.done():
            return
        if source.cancelled():
            super().cancel()
        elif error is None:
            self._complete(source.result())
        elif self._default is not NO_DEFAULT and _is_final(error):
            self.set_result(self._default)
        else:
            self._fail(error)

    def _complete(self, value: Any) -> None:
        try:
            self.set_result(value if self._coerce is None else self._coerce(value))
        except InvalidInputError as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.set_exception(error)
        self.exception()  # marks it as seen


class TaskHandle(Outcome):
    """What `ctx.task` returns: a future of the child's result that also has its `id` and `status()`.

    Whatever cancels the wait for it (`asyncio.timeout`, a cancelled workflow, `cancel()`) cancels the child.
    It works wherever asyncio takes a future: `asyncio.wait`, `asyncio.gather`, `ctx.parallel`.
    """

    def __init__(
        self,
        port: CommandPort,
        ref: TaskRef,
        *,
        coerce: Callable[[Any], Any] | None = None,
        default: Any = NO_DEFAULT,
    ) -> None:
        super().__init__(ref, coerce=coerce, default=default)
        self._port = port

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the child. Whoever awaits the handle gets `asyncio.CancelledError`."""
        if not self.done() and not self._ref.future.done():
            self._port.cancel_task(self._ref)
        return super().cancel(msg=msg)


class SpawnHandle:
    """What `ctx.spawn` returns. The child goes on whether or not anybody waits for it.

    `await handle` is `await handle.result()`.
    """

    def __init__(
        self,
        port: CommandPort,
        ref: TaskRef,
        *,
        coerce: Callable[[Any], Any] | None = None,
        waits_for: Callable[[TaskRef], None] | None = None,
    ) -> None:
        self._port = port
        self._ref = ref
        self._outcome = Outcome(ref, coerce=coerce)
        self._waits_for = waits_for

    @property
    def id(self) -> str:
        """The child's run id, for `Client.get` or `ctx.signal.emit`."""
        return self._ref.id

    def result(self) -> asyncio.Future[Any]:
        """The child's result, to be awaited; as often as you like.

        Raises `TaskFailedError` when the child finally failed, `RunTimeoutError`, `RunCancelledError` or
        `WorkerLostError` when it ended so. Cancelling the wait leaves the child alone.
        """
        if self._waits_for is not None and not self._ref.future.done():
            self._waits_for(self._ref)
        return asyncio.shield(self._outcome)

    def status(self) -> RunStatus:
        """`running` until this run has learnt of the child's end, then how it ended."""
        return self._outcome.status()

    def cancel(self) -> None:
        """Ask the child to end. `result()` then raises `RunCancelledError`; nothing happens if it has ended."""
        if not self._ref.future.done():
            self._port.cancel_task(self._ref)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()


def _is_final(error: BaseException) -> bool:
    """A final failure is the child's own; that somebody cancelled it is none."""
    return isinstance(error, RunFailedError) and not isinstance(error, RunCancelledError)

"""Coordination APIs: `ctx.signal`, `ctx.timer`, `ctx.sleep`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from agnt5.contracts.clock import to_ms
from agnt5.contracts.errors import InvalidInputError, WrongContextError
from agnt5.sdk.cron import next_fire_ms
from agnt5.sdk.port import CommandPort, WorkflowPort

MAX_DELAY_MS = 1 << 50
"""About 35,000 years; what is longer is a mistake of units."""


class Signals:
    """`ctx.signal` in a function: it can send signals."""

    def __init__(self, port: CommandPort) -> None:
        self._port = port

    async def __call__(self, name: str, timeout_ms: int | None = None, default: Any = None) -> Any:
        """Workflows only; raises `WrongContextError`."""
        del timeout_ms, default
        raise WrongContextError(
            f"ctx.signal({name!r}) waits, and only a workflow can wait for a signal; "
            "make the handler a @workflow, or send a signal with ctx.signal.emit(...)"
        )

    async def emit(self, name: str, payload: Any = None, *, target_workflow_id: str) -> None:
        """Send a signal to the run `target_workflow_id`.

        It is delivered once, also when this run crashes in between. Raises `RunNotFoundError` or
        `RunEndedError` as the target's state tells, `InvalidInputError` for a name that is empty.
        """
        _signal_name(name, "ctx.signal.emit: name")
        _text(target_workflow_id, f"ctx.signal.emit({name!r}): target_workflow_id", "a run id")
        await self._port.emit_signal(name, target_workflow_id, payload)


class WorkflowSignals(Signals):
    """`ctx.signal` in a workflow: it can send signals and wait for them."""

    def __init__(self, port: WorkflowPort) -> None:
        super().__init__(port)
        self._workflow_port = port

    async def __call__(self, name: str, timeout_ms: int | None = None, default: Any = None) -> Any:
        """The payload of the next signal `name`, or `default` when `timeout_ms` milliseconds pass without one.

        Signals that came early are kept, in order, and each is given to one wait only. The wait is durable:
        it holds no worker, and its deadline stands through any restart.
        """
        port = self._workflow_port
        delay_ms = None if timeout_ms is None else _delay(timeout_ms, f"ctx.signal({name!r}): timeout_ms")
        signal = port.await_signal(_signal_name(name, "ctx.signal: name"))
        if delay_ms is None or signal.done():
            return await signal
        timer = port.start_timer(port.now_ms() + delay_ms, f"signal:{name}")
        try:
            await asyncio.wait([signal, timer], return_when=asyncio.FIRST_COMPLETED)
            # the signal first: when both have come, nothing is lost
            return signal.result() if signal.done() else default
        finally:
            # takes back the loser, or both; a delivered signal that was not read is kept for the next wait
            signal.cancel()
            timer.cancel()


async def timer(
    port: CommandPort, *, delay_ms: int | None = None, cron: str | None = None, timezone: str | None = None
) -> None:
    """Wait for a delay or until a cron expression fires. The arguments are those of `Context.timer`."""
    if (delay_ms is None) == (cron is None):
        raise InvalidInputError(
            f"ctx.timer: expected either delay_ms or cron, found delay_ms={delay_ms!r} and cron={cron!r}"
        )
    now_ms = port.now_ms()
    if cron is not None:
        due_ms = next_fire_ms(cron, after_ms=now_ms, timezone=timezone or "UTC", what="ctx.timer: cron")
        await port.start_timer(due_ms, "cron")
        return
    if timezone is not None:
        raise InvalidInputError(f"ctx.timer: timezone={timezone!r} has a meaning only together with cron")
    await port.start_timer(now_ms + _delay(delay_ms, "ctx.timer: delay_ms"), "timer")


async def sleep(port: CommandPort, delay: timedelta | float) -> None:
    """Wait for a timedelta or a number of seconds."""
    delay_ms = to_ms(delay, "ctx.sleep")
    if delay_ms is None:
        raise InvalidInputError("ctx.sleep: a timedelta or a number of seconds is needed, found None")
    await port.start_timer(port.now_ms() + _delay(delay_ms, "ctx.sleep"), "sleep")


def _delay(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_DELAY_MS:
        raise InvalidInputError(f"{what}: expected milliseconds, a number from 0, found {value!r}")
    return round(value)


def _signal_name(value: Any, what: str) -> str:
    name = _text(value, what, "the name of a signal")
    if name.startswith("human."):
        raise InvalidInputError(f"{what} {name!r}: names that begin with 'human.' are reserved; see ctx.human.approval")
    return name


def _text(value: Any, what: str, expected: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what}: expected {expected}, found {value!r}")
    return value

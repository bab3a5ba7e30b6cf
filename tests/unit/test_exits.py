"""A loop that is told to stop by a signal ends what it runs first, and loses nothing of what others wait for."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from agnt5.runtime.exits import run_until_told


def raise_exit(*_: object) -> None:
    """What Celery's beat does with a signal."""
    raise SystemExit


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a process whose signals raise `SystemExit`."""
    loop = asyncio.new_event_loop()
    usual = {number: signal.signal(number, raise_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    yield loop
    assert [signal.getsignal(number) for number in usual] == [raise_exit, raise_exit], "Celery has its handlers back"
    for number, handler in usual.items():
        signal.signal(number, handler)
    loop.close()


def kill_self(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_another_task_breaks_neither_it_nor_what_waits_for_it(loop, number):
    done: list[str] = []

    async def other() -> None:
        kill_self(number)
        done.append("other")

    async def main() -> None:
        try:
            await asyncio.create_task(other())
            await asyncio.sleep(60)
        finally:
            done.append("cleared up")

    with pytest.raises(SystemExit):
        run_until_told(loop, main)
    assert done == ["other", "cleared up"]


def test_a_signal_in_a_callback_of_the_loop_wakes_what_sleeps(loop):
    async def main() -> None:
        asyncio.get_running_loop().call_soon(kill_self)
        await asyncio.sleep(60)

    with pytest.raises(SystemExit):
        run_until_told(loop, main)


def test_a_signal_from_outside_ends_a_wait(loop):
    async def main() -> None:
        threading.Timer(0.05, kill_self).start()
        await asyncio.sleep(60)

    with pytest.raises(SystemExit):
        run_until_told(loop, main)


def test_a_signal_in_the_last_moment_is_not_lost(loop):
    async def main() -> str:
        kill_self()
        return "done"

    with pytest.raises(SystemExit):
        run_until_told(loop, main)


def test_what_ends_by_itself_gives_its_result_or_its_error(loop):
    async def main(error: Exception | None) -> str:
        if error:
            raise error
        return "done"

    assert run_until_told(loop, main, None) == "done"
    with pytest.raises(ValueError, match="wrong"):
        run_until_told(loop, main, ValueError("wrong"))


def test_a_loop_of_another_thread_leaves_the_signals_alone(loop):
    handlers: list[object] = []

    async def main() -> None:
        handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run_until_told, args=(loop, main))
    thread.start()
    thread.join(5)
    assert handlers == [raise_exit]


def test_a_process_that_handles_no_signal_is_ended_by_it_as_usual(loop):
    async def main() -> object:
        return signal.getsignal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert run_until_told(loop, main) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, raise_exit)

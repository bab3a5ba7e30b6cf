"""Threads for blocking code: as many as needed, and none that keeps its process."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from agnt5.runtime.threads import Threads

ENDS = """\
import atexit, threading, time
from agnt5.runtime.threads import Threads

begun = threading.Event()
atexit.register(lambda: print("said goodbye"))
Threads(4, "test").submit(lambda: (begun.set(), time.sleep(600)))
begun.wait()
"""


def test_a_process_ends_while_its_threads_work():
    ended = subprocess.run([sys.executable, "-c", ENDS], timeout=30, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "said goodbye\n", "")


def test_values_and_errors_come_back():
    threads = Threads(2, "test")
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(5)
    with pytest.raises(SystemExit):
        threads.submit(sys.exit).result(5)
    threads.shutdown()


def test_there_are_as_many_threads_as_are_needed_and_no_more_than_allowed():
    threads = Threads(3, "test")
    for _ in range(5):  # one after the other: one thread will do
        threads.submit(int).result(5)
        assert threads._idle.acquire(timeout=5)
        threads._idle.release()
    assert len(threads._threads) == 1
    go, meet = threading.Event(), threading.Barrier(4)
    side_by_side = [threads.submit(meet.wait, 5) for _ in range(3)]
    waits = threads.submit(go.set)
    assert len(threads._threads) == 3
    assert not waits.done()
    meet.wait(5)
    assert {future.result(5) for future in side_by_side} <= {0, 1, 2, 3}
    assert go.wait(5)
    threads.shutdown()
    assert not any(thread.is_alive() for thread in threads._threads)


def test_what_waits_is_cancelled_and_what_runs_goes_on():
    threads = Threads(1, "test")
    begun, go = threading.Event(), threading.Event()
    runs = threads.submit(lambda: (begun.set(), go.wait(5)))
    waits = threads.submit(int)
    begun.wait(5)
    threads.shutdown(wait=False, cancel_futures=True)
    assert (waits.cancelled(), runs.done()) == (True, False)
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(int)
    go.set()
    assert runs.result(5)
    threads.shutdown()

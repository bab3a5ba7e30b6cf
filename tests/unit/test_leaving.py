"""A worker that stops gives everything back: whatever one run meets, whenever the store answers, however it is told."""

from __future__ import annotations

import asyncio
import logging
import pickle
import queue
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import trace_task
from celery.exceptions import Reject
from celery.utils.log import in_sighandler
from celery.worker import state
from celery.worker.consumer import Consumer

from agnt5.contracts.errors import StaleEpochError, StoreUnavailableError
from agnt5.contracts.runs import Kind, RunStatus
from agnt5.contracts.settings import Settings
from agnt5.registry import Registry
from agnt5.runtime import leaving, tasks
from agnt5.runtime.host import Arrival
from agnt5.runtime.leaving import give_all_back
from agnt5.runtime.live import LiveRun
from agnt5.runtime.pool import TaskPool
from agnt5.runtime.process import Runtime
from agnt5.runtime.run_strategy import RunRequest
from agnt5.runtime.slot import Begun
from agnt5.runtime.stopping import Stop, Word
from agnt5.runtime.tasks import BlockingRequest, BlockingSlot, RunTask, register
from agnt5.runtime.tellers import Apart
from agnt5.runtime.worker import HostStep


class Store:
    """Answers a park when the test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Any]] = []

    async def park(self, _own: Any, *, seen: int) -> Any:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


class Host:
    """What is left of a host for those who give its runs back."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.live: dict[str, Any] = {}
        self.claiming: set[str] = set()
        self.ending: set[Any] = set()
        self.grace_ends_s = 0.0
        self.store = Store()
        self.dispatcher = SimpleNamespace(send=lambda out: None)
        self.observer = SimpleNamespace(parked=lambda live: None)

    def forget(self, live: LiveRun) -> None:
        self.live.pop(live.run_id, None)


class Waiting(LiveRun):
    """A workflow that waits."""

    def start(self, events: Any) -> None:
        """It has no code."""


def waiting(host: Host, run_id: str = "r") -> LiveRun:
    own, claimed = SimpleNamespace(run_id=run_id, host="h", epoch="1"), SimpleNamespace(generation=0)
    live = Waiting(host, SimpleNamespace(kind=Kind.WORKFLOW), own, claimed, None)
    live._status = RunStatus.WAITING
    host.live[run_id] = live
    return live


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_run_is_parked_once_though_it_is_idle_while_its_worker_stops():
    host = Host()
    live = waiting(host)
    first = asyncio.ensure_future(live.park())
    await turns()
    assert not await asyncio.wait_for(live.park(), 2)
    assert len(host.store.asked) == 1
    host.store.asked[0].set_result(())
    assert await first
    assert not host.live


async def test_a_run_that_is_no_longer_ours_is_left_when_it_is_parked():
    host = Host()
    parking = asyncio.ensure_future(waiting(host).park())
    await turns()
    host.store.asked[0].set_exception(StaleEpochError("another worker owns it"))
    assert not await parking
    assert not host.live


async def test_what_one_run_meets_keeps_no_other_here():
    host = Host()
    bad = waiting(host, "bad")
    bad.went_wrong = lambda error: host.forget(bad)
    waiting(host, "good")
    giving = asyncio.ensure_future(give_all_back(host, 60))
    await turns()
    host.store.asked[0].set_exception(ValueError("of any kind"))
    host.store.asked[1].set_result(())
    await asyncio.wait_for(giving, 2)
    assert not host.live


async def test_claims_and_ends_on_the_wire_are_waited_for_even_without_a_grace():
    host = Host()
    host.claiming.add("r")
    giving = asyncio.ensure_future(give_all_back(host, 0))
    await turns()
    host.ending.add("r")
    host.claiming.clear()
    await asyncio.wait([giving], timeout=3 * leaving.LOOK_S)
    assert not giving.done()
    host.ending.clear()
    await asyncio.wait_for(giving, 2)


async def test_a_store_that_is_away_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(leaving, "SETTLE_S", 0.1)
    host = Host()
    waiting(host)
    await asyncio.wait_for(give_all_back(host, 0.05), 5)
    assert host.live, "beat takes it over"


async def test_a_grace_can_be_cut_short():
    host = Host()
    handed: list[str] = []

    async def hand_back() -> None:
        handed.append("busy")
        host.live.clear()

    host.live["busy"] = SimpleNamespace(waiting=False, handler=SimpleNamespace(kind=Kind.FUNCTION), hand_back=hand_back)
    giving = asyncio.ensure_future(give_all_back(host, 3600))
    await asyncio.wait([giving], timeout=3 * leaving.LOOK_S)
    assert not handed
    host.grace_ends_s = host.loop.time()
    await asyncio.wait_for(giving, 2)
    assert handed == ["busy"]


def test_a_message_that_comes_after_the_shutdown_is_refused_and_starts_no_host():
    runtime = Runtime(None, Settings(), Registry())
    runtime.shut_down(0)
    slot = BlockingSlot(lambda begun: None)
    runtime.submit(Arrival("r", "service.handler"), slot, None)
    assert slot._told.get_nowait() == ("refuse", "this worker is shutting down")
    assert runtime._loop is None


def test_a_cold_shutdown_of_celery_leaves_runs_to_their_host():
    task = SimpleNamespace(name="service.handler", acks_late=True)
    consumer = SimpleNamespace(pool=None, hostname="w")
    request = RunRequest(consumer, task, "r", lambda requeue: pytest.fail("it is the host that gives it back"), None)
    state.active_requests.add(request)
    try:
        Consumer.cancel_active_requests(consumer)
    finally:
        state.active_requests.discard(request)


def test_celerys_handler_of_a_cold_shutdown_does_not_stop_the_loop_under_the_host(monkeypatch):
    pool = TaskPool(1)
    pool.start()
    monkeypatch.setattr(state, "should_terminate", True)
    pool._jobs = 1  # and waits for nothing
    with in_sighandler():
        pool.stop()
    assert pool._thread._thread.is_alive()
    pool.stop()
    assert not pool._thread._thread.is_alive()


# ---- pools whose tasks block


def slot() -> BlockingSlot:
    return BlockingSlot(lambda begun: None)


def told(slot: BlockingSlot) -> tuple[str, Any]:
    return slot._told.get(timeout=10)


class Opens(Runtime):
    """Its host, or what keeps it from opening one."""

    def __init__(self, host: Any = None, error: Exception | None = None) -> None:
        super().__init__(None, Settings(), Registry())
        self.made, self.error = host, error
        self.opening = threading.Event()
        self.drained: list[float] = []

    async def _open(self, _teller: Any, *, linger: bool) -> Any:
        assert not linger
        self.opening.set()
        if self.error is not None:
            raise self.error
        return self.made or await asyncio.Event().wait()

    async def drain(self, grace_s: float) -> None:
        self.drained.append(grace_s)
        self.drained.append(await asyncio.to_thread(self.made.hurried.get, timeout=10))


class Receives:
    """A host that has every message wait."""

    def __init__(self) -> None:
        self.hurried: queue.SimpleQueue[float] = queue.SimpleQueue()
        self.receive = lambda arrival, slot: None

    def hurry(self, grace_s: float = 0.0) -> None:
        self.hurried.put(grace_s)


def test_a_word_is_heard_by_all_and_only_gets_more_urgent(monkeypatch):
    word = Word()
    word.share()
    assert word.heard() is Stop.NOT
    monkeypatch.setattr(state, "should_stop", 0)  # an exit code
    assert word.heard() is Stop.WARM
    monkeypatch.setattr(state, "should_stop", None)
    word.give(Stop.COLD)
    word.give(Stop.WARM)
    assert word.heard() is Stop.COLD
    word.share()
    monkeypatch.setattr(state, "should_terminate", 0)
    assert word.heard() is Stop.COLD


def test_children_hear_a_cold_shutdown_though_celery_waits_for_them_in_its_signal_handler(monkeypatch):
    due: list[Any] = []
    hub = SimpleNamespace(call_repeatedly=lambda delay, callback: due.append(callback) or SimpleNamespace(cancel=int))
    runtime = Runtime(None, Settings(), Registry())
    pool = type("TaskPool", (), {"__module__": "celery.concurrency.prefork"})()
    worker = SimpleNamespace(pool=pool, app=SimpleNamespace(agnt5=runtime))
    HostStep(worker).register_with_event_loop(worker, hub)
    monkeypatch.setattr(state, "should_terminate", True)
    due[0]()
    monkeypatch.setattr(state, "should_terminate", None)  # what a child sees
    assert runtime.word.heard() is Stop.COLD


def test_a_process_leaves_when_its_worker_stops_and_faster_when_that_turns_cold():
    runtime = Opens(host := Receives())
    runtime.submit(Arrival("r", "service.handler"), slot(), None)
    assert not runtime.has_left
    runtime.word.give(Stop.WARM)
    while not runtime.drained:
        assert host.hurried.empty()
    assert runtime.has_left
    runtime.submit(Arrival("late", "service.handler"), late := slot(), None)
    assert told(late) == ("refuse", "this worker is shutting down")
    runtime.word.give(Stop.COLD)
    while len(runtime.drained) < 2:
        assert threading.active_count() > 1
    runtime.shut_down(7)
    assert runtime.drained == [Settings().shutdown_grace_ms / 1000, 0], "once"


def test_who_asks_while_a_process_leaves_waits_and_may_hurry_it():
    runtime = Opens(host := Receives())
    runtime.submit(Arrival("r", "service.handler"), slot(), None)
    runtime.word.give(Stop.WARM)
    while not runtime.drained:
        assert host.hurried.empty()
    runtime.shut_down(7)
    assert runtime.drained == [Settings().shutdown_grace_ms / 1000, 7]


def test_a_message_whose_host_cannot_open_while_its_worker_stops_is_refused():
    runtime = Opens()
    thread = threading.Thread(target=runtime.submit, args=[Arrival("r", "service.handler"), one := slot(), None])
    thread.start()
    assert runtime.opening.wait(10)
    runtime.word.give(Stop.WARM)
    thread.join(10)
    assert told(one) == ("refuse", "this worker is shutting down")
    runtime.shut_down(0)


def test_a_process_whose_host_could_not_be_opened_tries_again():
    runtime = Opens(Receives(), StoreUnavailableError("no Redis answers"))
    runtime.submit(Arrival("r", "service.handler"), one := slot(), None)
    assert told(one) == ("refuse", "no Redis answers")
    runtime.error = None
    taken: list[Arrival] = []
    runtime.made.receive = lambda arrival, slot: (taken.append(arrival), slot.release())
    runtime.submit(Arrival("r", "service.handler"), again := slot(), None)
    assert told(again) == ("release", None)
    assert len(taken) == 1


@pytest.fixture
def task() -> RunTask:
    """A handler's task, in a worker that shuts down."""
    app, runtime = Celery("leaving", set_as_current=False), Runtime(None, Settings(), Registry())
    runtime.shut_down(0)
    register(app, runtime)
    body = {"name": "service.refused", "runtime": runtime, "handler": None}
    return app.register_task(type("Run_refused", (RunTask,), body)())


@pytest.mark.parametrize("headers", [{}, {"agnt5": "1"}])
@pytest.mark.parametrize("leaves", [True, False])
def test_a_refused_message_goes_back_to_its_queue_without_a_traceback(task, headers, leaves, monkeypatch, caplog):
    slept: list[float] = []
    monkeypatch.setattr(tasks, "sleep", slept.append)
    if not leaves:
        task.runtime._left = 0
        monkeypatch.setattr(task.runtime, "submit", lambda arrival, slot, teller: slot.refuse("no host"))
    outcome = trace_task(task, "r", (), {}, {"id": "r", **headers}, app=task.app)
    rejected = outcome.info.retval
    assert isinstance(rejected, Reject)
    assert pickle.loads(pickle.dumps(rejected)).requeue, "children tell their parent"
    assert slept == ([] if leaves else [tasks.AGAIN_S]), "what may come back at once is not asked for at once"
    (line,) = (record for record in caplog.records if "reject" in record.getMessage())
    assert (line.levelno, line.exc_info) == (logging.WARNING, None)


def test_a_cold_shutdown_kills_children_only(task):
    killed: list[int] = []
    pool = type("TaskPool", (), {"__module__": "celery.concurrency.prefork"})()
    pool.terminate_job = lambda pid, signal: killed.append(pid)
    request = BlockingRequest.__new__(BlockingRequest)
    request._announce_cancelled = lambda emit_retry: None
    request.time_start, request.worker_pid, request._apply_result = 1.0, 77, None
    threads = type("TaskPool", (), {"__module__": "celery.concurrency.thread", "terminate_job": pool.terminate_job})()
    request.cancel(threads)
    assert not killed
    request.cancel(pool)
    assert killed == [77]


class Absent:
    """An app's events, while its broker is away at first."""

    def __init__(self) -> None:
        self.left = 1
        self.sent: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.events = self
        self.default_dispatcher = lambda hostname: self

    def __enter__(self) -> Any:
        if self.left:
            self.left -= 1
            raise OSError("no broker")
        return self

    def __exit__(self, *_: object) -> None:
        """It stays."""

    def send(self, type_: str, **_: Any) -> None:
        self.sent.put(type_)


def test_an_event_that_cannot_be_sent_is_one_line_and_its_run_goes_on(task, monkeypatch, caplog):
    task.app.conf.worker_send_task_events = True

    def send_event(*_: Any, **__: Any) -> None:
        raise OSError("no broker")

    monkeypatch.setattr(task, "send_event", send_event)
    task.push_request(id="r")
    task._tell_begun(Begun(input={}, attempt=0))
    (line,) = (record for record in caplog.records if "no broker" in record.getMessage())
    assert (line.levelno, line.exc_info) == (logging.WARNING, None)


def test_events_are_sent_again_once_the_broker_is_back(caplog):
    app = Absent()
    apart = Apart(app, "w")
    apart.send("task-lost", {})
    while app.left:
        assert app.sent.empty()
    apart.send("task-told", {})
    assert app.sent.get(timeout=10) == "task-told"
    assert "events of runs are not told: no broker" in caplog.text

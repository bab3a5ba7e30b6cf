"""A worker that stops gives everything back: whatever one run meets, whenever the store answers, however it is told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from celery.utils.log import in_sighandler
from celery.worker import state
from celery.worker.consumer import Consumer

from agnt5.contracts.errors import StaleEpochError
from agnt5.contracts.runs import Kind, RunStatus
from agnt5.contracts.settings import Settings
from agnt5.registry import Registry
from agnt5.runtime import leaving
from agnt5.runtime.host import Arrival
from agnt5.runtime.leaving import give_all_back
from agnt5.runtime.live import LiveRun
from agnt5.runtime.pool import TaskPool
from agnt5.runtime.process import Runtime
from agnt5.runtime.run_strategy import RunRequest
from agnt5.runtime.tasks import BlockingSlot


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

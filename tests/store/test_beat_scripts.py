"""deliver, fire, heart, reap, requeue: what comes from outside, from time, and from the death of hosts."""

from __future__ import annotations

import asyncio

import pytest
from support import runs
from support.dump import dump
from support.waiting import until

from agnt5.contracts.errors import JournalLimitError, RunNotFoundError
from agnt5.contracts.ids import shard_of
from agnt5.store import keys
from agnt5.store.replies import Claimed
from agnt5.store.store import Batch, Store

SLOT = f"{runs.QUEUE}:5"
SIGNAL = runs.body("SignalReceived", name="s", payload=2**53 + 1)
SHARD = shard_of("r", 16)


async def now(store: Store) -> int:
    seconds, micros = await store.link.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def fire(store: Store, run_id: str = "r", limit: int = 100):
    return await store.fire(shard_of(run_id, store.shards), limit=limit, timeout_error=runs.LATE)


# ---- deliver


async def test_a_signal_is_taken_once_per_operation(store, admin):
    await runs.parked(store)
    assert len(await store.deliver("r", operation="1", body=SIGNAL)) == 1
    before = dump(admin)
    assert await store.deliver("r", operation="1", body=SIGNAL) == []
    assert dump(admin) == before
    await store.deliver("r", operation="2", body=SIGNAL)
    assert (await runs.names(store, "r")).count("SignalReceived") == 2
    assert (await store.entries("r", 0))[-1].endswith(b'"payload":9007199254740993}')


async def test_a_signal_that_was_taken_is_a_duplicate_even_after_the_end(store):
    own = await runs.owned(store)
    await store.deliver("r", operation="1", body=SIGNAL)
    await store.finish(own, "completed", b"1")
    assert await store.deliver("r", operation="1", body=SIGNAL) == []


async def test_a_signal_to_a_run_that_never_was_is_told(store, admin):
    before = dump(admin)
    with pytest.raises(RunNotFoundError):
        await store.deliver("none", operation="1", body=SIGNAL)
    assert dump(admin) == before


async def test_a_full_journal_takes_no_signal_but_still_a_childs_end(store):
    small = Store(store.link, shards=16, retention_ms=60_000, journal_limit=2)
    own = await runs.owned(small)
    await small.append(own, Batch(bodies=[runs.body("TaskScheduled", seq=1)], children=[runs.child("r~1", 1)]))
    with pytest.raises(JournalLimitError, match="signal was not taken"):
        await small.deliver("r", operation="1", body=SIGNAL)
    await small.finish(await runs.claim(small, "r~1"), "completed", b"1")
    assert await runs.length(small, "r") == 3


async def test_an_owners_host_hears_of_a_signal_by_channel(store, admin):
    await runs.owned(store)
    listener = admin.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.host_channel("h1"))
    listener.get_message(timeout=1)
    assert await store.deliver("r", operation="1", body=SIGNAL) == []
    assert listener.get_message(timeout=1)["data"].startswith(b"r\n0\n2\n{")
    listener.close()


# ---- fire


async def test_a_timer_fires_when_it_is_due_once_and_not_before(store, admin):
    own = await runs.owned(store)
    start = await now(store)
    await store.append(own, Batch(timers=[(1, start + 60), (2, start + 3_600_000)]))
    assert await store.park(own, seen=1) == []
    fired = await fire(store)
    assert (fired.count, fired.next_due_ms) == (0, start + 60) or fired.now_ms >= start + 60
    await until(lambda: _queued(store))
    [*_, event] = await runs.events(store, "r")
    assert (event["e"], event["seq"]) == ("TimerFired", 1)
    assert event["at"] >= start + 60
    assert (await runs.names(store, "r")).count("TimerFired") == 1
    assert admin.smembers(keys.alarms("r", 16)) == {b"t|r|0.2"}
    again = await fire(store)
    assert (again.count, again.next_due_ms, again.lateness_ms) == (0, start + 3_600_000, [])


async def _queued(store: Store) -> bool:
    await fire(store)
    return await runs.status(store, "r") == "queued"


async def test_many_beats_fire_each_timer_once_and_in_pages(store):
    own = await runs.owned(store)
    await store.append(own, Batch(timers=[(n, n) for n in range(1, 501)]))
    fired = await asyncio.gather(*(fire(store, limit=60) for _ in range(10)))
    assert sum(one.count for one in fired) == 500
    assert [one.count for one in fired].count(60) == 8
    seqs = [event["seq"] for event in (await runs.events(store, "r"))[1:]]
    assert seqs == list(range(1, 501))
    assert (await fire(store)).next_due_ms is None


async def test_a_timer_of_a_run_that_is_gone_or_ended_is_dropped(store, admin):
    own = await runs.owned(store)
    await store.finish(own, "completed", b"1")
    before = await runs.length(store, "r")
    admin.zadd(keys.timers(SHARD), {"t|r|0.1": 1, "r|r": 2, "d|r": 3, "t|none|0.1": 4})
    assert (await fire(store)).count == 4
    assert await runs.length(store, "r") == before
    assert not [key for key in dump(admin) if "none" in key]


async def test_the_next_attempt_is_queued_when_its_time_has_come(store):
    own = await runs.owned(store, kind="function")
    await store.retry(own, attempt=0, error=b"{}", delay_ms=1)
    await until(lambda: _queued(store))
    claimed = await store.claim("r", host="h2", nonce="m", kind="function")
    assert isinstance(claimed, Claimed)
    assert claimed.attempt == 1
    assert not await runs.field(store, "r", "retry")


@pytest.mark.parametrize("how", ["queued", "parked"])
async def test_a_run_timeout_fails_a_run_without_an_owner_and_cancels_its_children(store, admin, how):
    if how == "queued":
        await runs.create(store, "r", run_timeout_ms=1)
    else:
        own = await runs.owned(store, run_timeout_ms=1)
        await store.append(own, Batch(children=[runs.child("r~1", 1)], timers=[(2, 9_000_000_000_000)]))
        await store.park(own, seen=1)
    await until(lambda: _status(store, "failed"))
    [*_, event] = await runs.events(store, "r")
    assert (event["e"], event["error"]["type"]) == ("RunFailed", "RunTimeoutError")
    if how == "parked":
        assert await runs.status(store, "r~1") == "cancelled"
        assert (await runs.events(store, "r~1"))[-1]["reason"] == "its parent was timed out"
    assert not [key for key in dump(admin) if key.endswith("timers")]


async def _status(store: Store, wanted: str) -> bool:
    await fire(store)
    return await runs.status(store, "r") == wanted


async def test_a_run_timeout_is_told_to_an_owner(store):
    await runs.owned(store, run_timeout_ms=1)
    await until(lambda: _told(store))
    [*_, event] = await runs.events(store, "r")
    assert (event["e"], event["deadline"]) == ("CancelRequested", True)
    assert await runs.status(store, "r") == "running"


async def _told(store: Store) -> bool:
    await fire(store)
    return await runs.length(store, "r") == 2


# ---- heart


async def test_a_host_is_new_when_it_was_not_listed(store, admin):
    assert (await store.heart("h1"))[0]
    assert not (await store.heart("h1"))[0]
    admin.zrem(keys.hosts(), "h1")
    new, at = await store.heart("h1")
    assert new
    assert admin.zscore(keys.hosts(), "h1") == at


# ---- reap


async def reap(store: Store, host: str = "h1", limit: int = 100):
    return await store.reap(SHARD, host, limit=limit, error=runs.LOST)


async def test_a_dead_hosts_runs_are_queued_again_and_its_writes_refused(store, admin):
    own = await runs.owned(store)
    count, left, out = await reap(store)
    assert (count, left, [dispatch.run_id for dispatch in out]) == (1, 0, ["r"])
    before = dump(admin)
    assert await runs.is_stale(store.finish(own, "completed", b"1"))
    assert await runs.is_stale(store.append(own, Batch(bodies=[SIGNAL])))
    assert await reap(store) == (0, 0, [])
    assert dump(admin) == before
    claimed = await store.claim("r", host="h2", nonce="m", kind="workflow")
    assert isinstance(claimed, Claimed)
    assert (claimed.attempt, claimed.crashes, claimed.failures) == (1, 1, 0)
    assert await runs.names(store, "r") == ["RunStarted", "HostLost", "AttemptStarted"]


async def test_a_host_that_owns_much_is_reaped_in_pages(store):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child(f"r~{n}", n) for n in range(1, 10)]))
    for n in range(1, 10):
        await runs.claim(store, f"r~{n}")
    seen = [await reap(store, limit=4) for _ in range(4)]
    assert [(count, left) for count, left, _ in seen] == [(4, 6), (4, 2), (2, 0), (0, 0)]


async def test_only_the_dead_hosts_own_runs_are_taken(store, admin):
    await runs.owned(store)
    admin.sadd(keys.owned(SHARD, "h9"), "r", "none")  # what a lost clean-up could leave
    assert await reap(store, "h9") == (2, 0, [])
    assert await runs.status(store, "r") == "running"


async def crash(store: Store, admin, *, alone: bool, status: str = "") -> None:
    own = await runs.claim(store, "r", kind="function")
    if status:
        await store.append(own, Batch(), status=status)
    if alone:
        admin.hset(keys.run("r", 16), "danger", "1")
    await reap(store)


async def test_a_run_that_kills_three_hosts_alone_fails_and_is_kept(store, admin):
    await runs.create(store, "r", "function")
    await crash(store, admin, alone=False)
    await crash(store, admin, alone=False)
    await crash(store, admin, alone=False)  # its neighbour may have done it
    assert await runs.status(store, "r") == "queued"
    await crash(store, admin, alone=True)
    assert await runs.status(store, "r") == "failed"
    assert (await runs.events(store, "r"))[-1]["error"]["type"] == "WorkerLostError"
    assert len(await store.reopen("r")) == 1


async def test_progress_and_waiting_are_not_held_against_a_run(store, admin):
    await runs.create(store, "r", "function")
    for _ in range(5):
        own = await runs.claim(store, "r", kind="function")
        await store.append(own, Batch(bodies=[runs.body("StepCompleted", seq=1)]))
        await crash_now(store, admin)
    for _ in range(5):
        await crash(store, admin, alone=True, status="waiting")
    assert await runs.status(store, "r") == "queued"


async def crash_now(store: Store, admin) -> None:
    admin.hset(keys.run("r", 16), "danger", "1")
    await reap(store)


async def test_a_poisoned_childs_parent_is_told(store, admin):
    own = await runs.owned(store, "r", "workflow")
    await store.append(own, Batch(children=[runs.child("r~1", 1)]))
    await store.park(own, seen=1)
    admin.hset(keys.run("r~1", 16), mapping={"crashes": "2"})
    await runs.claim(store, "r~1", "h9", kind="function")
    admin.hset(keys.run("r~1", 16), mapping={"danger": "1"})
    _, _, out = await reap(store, "h9")
    assert [dispatch.run_id for dispatch in out] == ["r"]
    assert (await runs.names(store, "r"))[-1] == "TaskFailed"


# ---- requeue


async def requeue(store: Store, *, before_ms: int = 0, slack_ms: int = 0, limit: int = 100, probe: bool = False):
    return await store.requeue(SHARD, SLOT, before_ms=before_ms, slack_ms=slack_ms, limit=limit, probe=probe)


async def test_a_run_that_a_later_one_overtook_has_its_message_sent_again(store, admin):
    await runs.create(store, "r")
    at = await now(store)
    count, _, out = await requeue(store, before_ms=at + 1)
    assert (count, [dispatch.run_id for dispatch in out]) == (1, ["r"])


async def test_a_backlog_that_nobody_overtook_is_left_alone(store):
    await runs.create(store, "r")
    count, oldest, out = await requeue(store, before_ms=0)
    assert (count, out) == (0, [])
    assert oldest is not None


async def test_claiming_records_how_far_a_queue_has_come(store, admin):
    own = await runs.owned(store)
    assert int(admin.hget(keys.claimed(SHARD), SLOT)) > 0
    await store.hand_back(own, seen=1)
    first = int(admin.hget(keys.claimed(SHARD), SLOT))
    await runs.claim(store, "r", "h2", "m")
    assert int(admin.hget(keys.claimed(SHARD), SLOT)) >= first


async def test_a_probe_sends_the_oldest_alone(store):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child(f"r~{n}", n) for n in range(1, 50)]))
    count, _, out = await requeue(store, probe=True)
    assert (count, len(out)) == (1, 1)


async def test_messages_are_sent_again_at_doubling_distance(store, admin):
    await runs.create(store, "r")
    key, zset = keys.run("r", 16), keys.queued(SHARD, SLOT)
    distances = []
    for _ in range(12):
        admin.zadd(zset, {"r": 1})
        admin.hset(key, "sent", "1")  # long ago
        assert (await requeue(store, before_ms=2, slack_ms=1000))[0] == 1
        distances.append(round((admin.zscore(zset, "r") - int(admin.hget(key, "sent"))) / 1000))
        assert (await requeue(store, before_ms=2, slack_ms=1000, probe=True))[0] == 0
    assert distances == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]


async def test_runs_that_nobody_takes_do_not_stand_in_the_way_of_others(store):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child(f"r~{n}", n) for n in range(1, 31)]))
    before = await now(store) + 1
    sent: set[str] = set()
    for _ in range(3):
        _, _, out = await requeue(store, before_ms=before, limit=10)
        sent |= {dispatch.run_id for dispatch in out}
    assert len(sent) == 30


async def test_what_is_no_longer_queued_leaves_the_set(store, admin):
    admin.zadd(keys.queued(SHARD, SLOT), {"none": 1})
    assert await requeue(store, before_ms=2) == (0, None, [])
    assert not admin.exists(keys.queued(SHARD, SLOT))

"""append: what an owner records, and the fence before it."""

from __future__ import annotations

import json

import pytest
from support import runs
from support.dump import dump

from agnt5.contracts.errors import JournalLimitError, StaleEpochError
from agnt5.contracts.ids import shard_of
from agnt5.store import keys
from agnt5.store.replies import Dispatch
from agnt5.store.store import Batch, Ownership, Store

STEP = Batch(bodies=[runs.body("StepCompleted", seq=1, name="s", result=1)])
HUGE = 2**53 + 1
DEEP = b"[" * 2000 + b"]" * 2000


def same_call(own: Ownership) -> Ownership:
    """The owner as it was before its last write, to send the very same call again."""
    return Ownership(own.run_id, own.host, own.epoch, own.op - 1)


async def test_entries_get_the_stores_time_and_come_in_order(store):
    own = await runs.owned(store)
    first = await store.append(own, STEP)
    second = await store.append(own, Batch(bodies=[runs.body("PatchMarked", seq=2), runs.body("PatchMarked", seq=3)]))
    assert (first.length, second.length) == (2, 4)
    found = await runs.events(store, "r")
    assert [event["e"] for event in found] == ["RunStarted", "StepCompleted", "PatchMarked", "PatchMarked"]
    assert found[1]["at"] == first.now_ms


async def test_the_same_call_again_changes_nothing_and_says_so(store, admin):
    own = await runs.owned(store)
    batch = Batch(
        bodies=[runs.body("TaskScheduled", seq=1)],
        children=[runs.child("r~1", 1)],
        timers=[(2, 9_000_000_000_000)],
        cancels=[("r~1", b'"no"')],
    )
    await store.append(own, batch, status="waiting")
    before = dump(admin)
    again = await store.append(same_call(own), batch, status="waiting")
    assert again.again
    assert again.length == await runs.length(store, "r")
    assert again.out == []
    assert dump(admin) == before


async def test_a_late_worker_cannot_append_after_its_epoch_moved(store, admin):
    own = await runs.owned(store)
    await store.hand_back(own, seen=1)
    await runs.claim(store, "r", "h2", "m")
    before = dump(admin)
    assert await runs.is_stale(store.append(own, STEP, status="waiting"))
    assert dump(admin) == before


async def test_a_write_after_giving_back_is_refused_not_taken_for_an_old_one(store, admin):
    own = await runs.owned(store)
    await store.append(own, STEP)
    parking = store.park(own, seen=2)
    late = store.append(own, STEP)
    assert await parking == []
    assert await runs.is_stale(late)
    assert await runs.names(store, "r") == ["RunStarted", "StepCompleted"]


async def test_a_run_that_is_gone_takes_nothing(store, admin):
    before = dump(admin)
    assert await runs.is_stale(store.append(Ownership("none", "h1", "1:n"), STEP))
    assert dump(admin) == before


async def test_writes_that_the_store_forgot_end_the_ownership_and_queue_the_run(store, admin):
    """A Redis that came back older: the fence still fits, the numbers do not."""
    own = await runs.owned(store)
    own.op = 5
    with pytest.raises(StaleEpochError, match="forgotten writes"):
        await store.append(own, STEP)
    assert await runs.status(store, "r") == "queued"
    assert await runs.names(store, "r") == ["RunStarted"]
    assert not [key for key in dump(admin) if ":owned:" in key]
    assert (await runs.claim(store, "r", "h2", "m")).epoch == "2:m"


async def test_past_the_limit_nothing_is_written_and_the_run_can_still_fail(store, admin):
    small = Store(store.link, shards=16, retention_ms=60_000, journal_limit=3)
    own = await runs.owned(small)
    await small.append(own, STEP)
    two = Batch(
        bodies=[runs.body("PatchMarked", seq=2), runs.body("PatchMarked", seq=3)], children=[runs.child("r~9", 9)]
    )
    refused = small.append(own, two)
    behind = small.append(own, STEP)  # would fit, but must not stand where another is missing
    with pytest.raises(JournalLimitError, match="continue_as_new"):
        await refused
    with pytest.raises(JournalLimitError):
        await behind
    before = dump(admin)
    with pytest.raises(JournalLimitError):
        await small.append(Ownership("r", "h1", own.epoch, own.op - 2), two)
    assert dump(admin) == before
    assert await runs.names(small, "r") == ["RunStarted", "StepCompleted"]
    assert not await runs.status(small, "r~9")
    await small.finish(own, "failed", b'{"type":"JournalLimitError"}')
    assert await runs.status(small, "r") == "failed"


async def test_the_next_owner_may_write_again_after_a_limit(store):
    small = Store(store.link, shards=16, retention_ms=60_000, journal_limit=2)
    own = await runs.owned(small)
    with pytest.raises(JournalLimitError):
        await small.append(own, Batch(bodies=[b'{"e":"A"}', b'{"e":"B"}']))
    await small.hand_back(own, seen=1)
    later = await runs.claim(small, "r", "h2", "m")
    assert (await small.append(later, STEP)).length == 2


async def test_an_append_without_entries_changes_only_the_status(store):
    own = await runs.owned(store)
    await store.append(own, Batch(), status="waiting")
    assert await runs.status(store, "r") == "waiting"
    assert await runs.length(store, "r") == 1


async def test_children_are_created_queued_and_dispatched(store, admin):
    own = await runs.owned(store)
    applied = await store.append(own, Batch(children=[runs.child("r~1", 1), runs.child("r~2", 2, run_timeout_ms=5)]))
    assert applied.out == [Dispatch(runs.QUEUE, 5, runs.HANDLER, f"r~{n}") for n in (1, 2)]
    assert await runs.status(store, "r~1") == "queued"
    assert admin.hgetall(keys.kids("r", 16)) == {b"r~1": b"1", b"r~2": b"2"}
    assert admin.zscore(keys.timers(_shard("r")), "d|r~2") is not None


async def test_a_child_asked_for_again_by_a_new_owner_is_the_same_child(store, admin):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child("r~1", 1)]))
    await store.hand_back(own, seen=1)
    later = await runs.claim(store, "r", "h2", "m")
    applied = await store.append(later, Batch(children=[runs.child("r~1", 1)]))
    assert applied.out == []
    assert await runs.names(store, "r~1") == ["RunStarted"]


@pytest.mark.parametrize(
    ("status", "payload", "event"),
    [
        ("completed", b'{"n":9007199254740993}', {"e": "TaskCompleted", "seq": 1, "result": {"n": HUGE}}),
        ("failed", b'{"type":"X"}', {"e": "TaskFailed", "seq": 1, "error": {"type": "X"}}),
        (
            "cancelled", b'"why"',
            {"e": "TaskFailed", "seq": 1, "error": {"type": "RunCancelledError", "message": "why"}},
        ),
    ],
)  # fmt: skip
async def test_a_reopened_parent_hears_of_children_that_ended_when_it_had_failed(store, status, payload, event):
    own = await runs.owned(store)
    await store.append(own, Batch(bodies=[runs.body("TaskScheduled", seq=1)], children=[runs.child("r~1", 1)]))
    await store.finish(own, "failed", b"{}")
    kid = await runs.claim(store, "r~1", kind="function")
    await store.finish(kid, status, payload)
    assert "TaskCompleted" not in await runs.names(store, "r")
    await store.reopen("r")
    again = await runs.claim(store, "r", "h2", "m")
    applied = await store.append(again, Batch(children=[runs.child("r~1", 1)]))
    [mail] = applied.mail
    found = json.loads(mail.entry)
    found.pop("at")
    assert found == event
    before = await runs.length(store, "r")
    assert (await store.append(again, Batch(children=[runs.child("r~1", 1)]))).mail == []
    assert await runs.length(store, "r") == before


async def test_a_reopened_parent_waits_for_children_that_still_run(store):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child("r~1", 1)]))
    await store.finish(own, "failed", b"{}")
    await store.reopen("r")
    again = await runs.claim(store, "r", "h2", "m")
    await store.append(again, Batch(children=[runs.child("r~1", 1)]))
    assert await store.park(again, seen=await runs.length(store, "r")) == []
    kid = await runs.claim(store, "r~1", kind="function")
    applied = await store.finish(kid, "completed", b"7")
    assert [dispatch.run_id for dispatch in applied.out] == ["r"]
    assert (await runs.events(store, "r"))[-1]["result"] == 7


async def test_timers_are_set_moved_and_taken_back(store, admin):
    own = await runs.owned(store)
    await store.append(own, Batch(timers=[(1, 9_000_000_000_000), (2, 9_000_000_000_001)]))
    await store.append(own, Batch(timers=[(1, 9_000_000_000_005)], untimers=[2, 77]))
    timers = admin.zrange(keys.timers(_shard("r")), 0, -1, withscores=True)
    assert timers == [(b"t|r|0.1", 9_000_000_000_005.0)]
    assert admin.smembers(keys.alarms("r", 16)) == {b"t|r|0.1"}


async def test_an_earlier_timer_nudges_beat(store, admin):
    listener = admin.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.BEAT_CHANNEL)
    listener.get_message(timeout=1)
    own = await runs.owned(store)
    await store.append(own, Batch(timers=[(1, 9_000_000_000_000)]))
    await store.append(own, Batch(timers=[(2, 9_000_000_000_001)]))
    await store.append(own, Batch(timers=[(3, 8_000_000_000_000)]))
    nudges = [listener.get_message(timeout=0.2) for _ in range(3)]
    assert [bool(nudge) for nudge in nudges] == [True, True, False]
    listener.close()


@pytest.mark.parametrize(
    "payload",
    [b"9007199254740993", b"[]", b"{}", b"1.0", b'"\\u0000 \\\\ \\" ~"', b'"text"', DEEP, '"ä€😀"'.encode()],
    ids=["2^53+1", "empty list", "empty object", "1.0", "escapes", "text", "depth 2000", "utf-8"],
)
async def test_payloads_pass_as_the_bytes_they_are(store, payload):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child("r~1", 1)]))
    entry = b'{"e":"StepCompleted","seq":2,"name":"s","result":' + payload + b"}"
    await store.append(own, Batch(bodies=[entry]))
    assert (await store.entries("r", 0))[-1].endswith(entry[1:])
    kid = await runs.claim(store, "r~1", kind="function")
    applied = await store.finish(kid, "completed", payload)
    assert (await store.entries("r~1", 0))[-1].endswith(b'"e":"RunCompleted","result":' + payload + b"}")
    assert applied.mail[0].entry.endswith(b'"e":"TaskCompleted","seq":1,"result":' + payload + b"}")


async def test_ten_thousand_entries_children_and_timers_fit_one_append(store, admin):
    big = Store(store.link, shards=16, retention_ms=60_000, journal_limit=30_000)
    own = await runs.owned(big)
    many = range(1, 10_001)
    applied = await big.append(
        own,
        Batch(
            bodies=[runs.body("TaskScheduled", seq=n) for n in many],
            children=[runs.child(f"r~{n}", n) for n in many],
            timers=[(n, 9_000_000_000_000) for n in many],
        ),
    )
    assert applied.length == 10_001
    assert len(applied.out) == 10_000
    assert admin.hlen(keys.kids("r", 16)) == 10_000
    ended = await big.finish(own, "cancelled", b'"enough"')  # all children and timers go with it
    assert ended.out == []
    assert admin.hlen(keys.kids("r", 16)) == 0
    assert admin.zcard(keys.timers(_shard("r"))) == 0
    assert await runs.status(big, "r~10000") == "cancelled"
    assert not any(admin.zcard(key) for key in admin.scan_iter("*queued:*"))


def _shard(run_id: str) -> int:
    return shard_of(run_id, 16)

"""finish, cancel, retention: a run ends once, its parent hears of it, and nothing of it stays."""

from __future__ import annotations

import asyncio
import json

import pytest
from support import runs
from support.dump import dump, keys_of
from support.waiting import until

from agnt5.contracts.errors import RunEndedError, RunNotFoundError
from agnt5.contracts.ids import shard_of
from agnt5.contracts.runs import RunStatus
from agnt5.store import keys
from agnt5.store.store import Batch, Ownership, Store

FAR = 9_000_000_000_000
SHARD = shard_of("r", 16)


async def family(store: Store, *, wait: bool) -> tuple[Ownership, Ownership]:
    """A parent and its owned child; the parent parked (`wait`) or owned by h1."""
    own = await runs.owned(store)
    await store.append(own, Batch(bodies=[runs.body("TaskScheduled", seq=1)], children=[runs.child("r~1", 1)]))
    if wait:
        assert await store.park(own, seen=2) == []
    return own, await runs.claim(store, "r~1", "h2", kind="function")


@pytest.mark.parametrize(
    ("how", "status", "event"),
    [("completed", "completed", "RunCompleted"), ("failed", "failed", "RunFailed"), ("timeout", "failed", "RunFailed"),
     ("cancelled", "cancelled", "RunCancelled")],
)  # fmt: skip
async def test_a_run_ends_with_its_last_entry_and_leaves_the_indexes(store, admin, how, status, event):
    own = await runs.owned(store, run_timeout_ms=60_000)
    await store.append(own, Batch(timers=[(1, FAR)]))
    await store.finish(own, how, b'"x"')
    assert await runs.status(store, "r") == status
    assert (await runs.names(store, "r"))[-1] == event
    indexes = {key.rpartition(":")[2]: value for key, (value, _) in dump(admin).items()}
    assert [member for member, _ in indexes["ended"]] == [b"r"]
    assert not {"open", "timers", "h1"} & set(indexes)
    assert not [key for key in dump(admin) if "owned:" in key or "queued:" in key or "kids:" in key]


async def test_the_same_finish_again_changes_nothing(store, admin):
    _, kid = await family(store, wait=True)
    await store.finish(kid, "completed", b"1")
    before = dump(admin)
    again = await store.finish(Ownership(kid.run_id, kid.host, kid.epoch), "completed", b"1")
    assert again.again
    assert dump(admin) == before


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "timeout"])
async def test_an_end_never_changes(store, admin, how):
    own = await runs.owned(store)
    await store.finish(own, "completed", b"1")
    before = dump(admin)
    for late in (Ownership("r", "h1", own.epoch, 1), Ownership("r", "h9", "9:z")):
        assert await runs.is_stale(store.finish(late, how, b'"y"'))
    with pytest.raises(RunEndedError):
        await store.cancel("r", reason=b'"late"')
    with pytest.raises(RunEndedError):
        await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s"))
    assert dump(admin) == before


async def test_done_is_announced_once(store, admin):
    listener = admin.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.done_channel("r"))
    listener.get_message(timeout=1)
    own = await runs.owned(store)
    await store.finish(own, "completed", b"1")
    await store.finish(Ownership("r", "h1", own.epoch), "completed", b"1")
    assert b'"e":"RunCompleted"' in listener.get_message(timeout=1)["data"]
    assert listener.get_message(timeout=0.1) is None
    listener.close()


async def test_a_parked_parent_is_queued_by_its_childs_end(store):
    _, kid = await family(store, wait=True)
    applied = await store.finish(kid, "completed", b"7")
    assert [dispatch.run_id for dispatch in applied.out] == ["r"]
    assert await runs.status(store, "r") == "queued"
    last = (await runs.events(store, "r"))[-1]
    assert (last["e"], last["seq"], last["result"]) == ("TaskCompleted", 1, 7)


async def test_a_parent_on_the_same_host_gets_its_childs_end_as_mail(store):
    own, kid = await family(store, wait=False)
    kid.host = own.host
    applied = await store.finish(kid, "failed", b'{"type":"X"}')
    [mail] = applied.mail
    assert (mail.run_id, mail.generation, mail.length) == ("r", 0, 3)
    assert json.loads(mail.entry)["error"] == {"type": "X"}
    assert applied.out == []


async def test_a_parent_on_another_host_gets_its_childs_end_by_channel(store, admin):
    own, kid = await family(store, wait=False)
    listener = admin.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.host_channel(own.host))
    listener.get_message(timeout=1)
    applied = await store.finish(kid, "completed", b"[1.0]")
    assert (applied.mail, applied.out) == ([], [])
    run_id, generation, length, entry = listener.get_message(timeout=1)["data"].split(b"\n", 3)
    assert (run_id, generation, length) == (b"r", b"0", b"3")
    assert entry.endswith(b'"result":[1.0]}')
    listener.close()


async def test_a_queued_parent_is_told_but_not_queued_twice(store, admin):
    own, kid = await family(store, wait=False)
    await store.hand_back(own, seen=2)
    applied = await store.finish(kid, "completed", b"1")
    assert applied.out == []
    assert (await runs.names(store, "r"))[-1] == "TaskCompleted"


async def test_an_ended_parent_is_not_told(store, admin):
    own, kid = await family(store, wait=False)
    await store.finish(own, "completed", b"1")
    before = await runs.length(store, "r")
    applied = await store.finish(kid, "completed", b"1")
    assert (applied.out, applied.mail) == ([], [])
    assert await runs.length(store, "r") == before


async def test_an_earlier_generations_child_does_not_answer_the_new_one(store):
    own, kid = await family(store, wait=False)
    await store.renew(own, seen=2, body=runs.body("RunStarted"), carried=[])
    applied = await store.finish(kid, "completed", b"1")
    assert (applied.out, applied.mail) == ([], [])
    assert await runs.names(store, "r") == ["RunStarted"]


# ---- cancel


async def test_a_queued_run_is_cancelled_at_once(store, admin):
    await runs.create(store, "r")
    assert await store.cancel("r", reason=b'"why"') == (RunStatus.CANCELLED, [])
    assert (await runs.events(store, "r"))[-1] == {"at": (await runs.events(store, "r"))[-1]["at"],
                                                   "e": "RunCancelled", "reason": "why"}  # fmt: skip
    assert not [key for key in dump(admin) if ":queued:" in key]


async def test_an_owned_run_is_asked_to_end_once_per_operation(store, admin):
    await runs.owned(store)
    assert await store.cancel("r", reason=b'"why"', operation="1") == (RunStatus.RUNNING, [])
    before = dump(admin)
    assert await store.cancel("r", reason=b'"why"', operation="1") == (RunStatus.RUNNING, [])
    assert dump(admin) == before
    assert await runs.names(store, "r") == ["RunStarted", "CancelRequested"]
    await store.cancel("r", reason=b'"again"', operation="2")
    assert (await runs.names(store, "r")).count("CancelRequested") == 2


async def test_a_parked_workflow_is_woken_to_clean_up(store):
    await runs.parked(store)
    status, out = await store.cancel("r", reason=b'"why"')
    assert status is RunStatus.QUEUED
    assert [dispatch.run_id for dispatch in out] == ["r"]


async def test_a_workflow_that_waits_for_its_next_attempt_is_woken_to_clean_up(store, admin):
    own = await runs.owned(store)
    await store.retry(own, attempt=0, error=b"{}", delay_ms=3_600_000)
    status, out = await store.cancel("r", reason=b'"why"')
    assert (status, len(out)) == (RunStatus.QUEUED, 1)
    assert not [key for key in dump(admin) if key.endswith("timers")]


async def test_a_parked_function_is_cancelled_at_once_with_its_timers_and_children(store, admin):
    batch = Batch(children=[runs.child("r~1", 1)], timers=[(2, FAR)])
    await runs.parked(store, "r", batch, kind="function")
    assert (await store.cancel("r", reason=b'"why"'))[0] is RunStatus.CANCELLED
    assert await runs.status(store, "r~1") == "cancelled"
    assert not [key for key in dump(admin) if key.endswith("timers") or "alarms" in key]


async def test_a_whole_tree_is_cancelled_and_its_owned_parts_are_asked(store):
    own = await runs.owned(store, "r")
    await store.append(own, Batch(children=[runs.child("r~1", 1), runs.child("r~2", 2), runs.child("r~3", 3)]))
    middle = await runs.claim(store, "r~1")
    await store.append(middle, Batch(children=[runs.child("r~1~1", 1)]))
    await runs.claim(store, "r~2", "h9")
    done = await runs.claim(store, "r~3")
    await store.finish(done, "completed", b"1")
    await store.finish(own, "cancelled", b'"why"')
    assert await runs.status(store, "r~3") == "completed"
    assert (await runs.names(store, "r~2"))[-1] == "CancelRequested"
    assert (await runs.names(store, "r~1"))[-1] == "CancelRequested"
    await store.finish(middle, "cancelled", b'"asked"')
    assert await runs.status(store, "r~1~1") == "cancelled"


async def test_a_tree_three_hundred_deep_is_cancelled(store):
    run_id = "r"
    await runs.create(store, run_id, "function")
    for _ in range(300):
        own = await runs.claim(store, run_id, kind="function")
        await store.append(own, Batch(children=[runs.child(f"{run_id}~1", 1)]))
        assert await store.park(own, seen=1) == []
        run_id += "~1"
    await store.cancel("r", reason=b'"why"')
    assert await runs.status(store, run_id) == "cancelled"


async def test_cancel_and_complete_race_a_thousand_times_and_one_wins(store):
    owns = await asyncio.gather(*(runs.owned(store, f"r{n}", kind="function") for n in range(1000)))

    async def race(own: Ownership, n: int) -> None:
        pair = [store.finish(own, "completed", b"1"), store.cancel(own.run_id, reason=b'"why"')]
        await asyncio.gather(*(pair if n % 2 else reversed(pair)), return_exceptions=True)

    await asyncio.gather(*(race(own, n) for n, own in enumerate(owns)))
    for own in owns[::50]:
        names = await runs.names(store, own.run_id)
        assert len({"RunCompleted", "RunCancelled"} & set(names)) == 1
        assert names[-1] == "RunCompleted"


async def test_cancelling_what_is_cancelled_is_fine_and_what_is_gone_is_told(store, admin):
    await runs.create(store, "r")
    await store.cancel("r", reason=b'"why"', operation="1")
    before = dump(admin)
    assert await store.cancel("r", reason=b'"why"', operation="1") == (RunStatus.CANCELLED, [])
    assert dump(admin) == before
    with pytest.raises(RunNotFoundError):
        await store.cancel("none", reason=b'"why"')


async def test_a_parent_cancels_one_child_and_hears_of_it(store):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child("r~1", 1)]))
    applied = await store.append(own, Batch(cancels=[("r~1", b'"no longer"')]))
    [mail] = applied.mail
    assert json.loads(mail.entry)["error"]["message"] == "no longer"
    assert await runs.status(store, "r~1") == "cancelled"


async def test_a_parent_that_cancels_an_ended_child_changes_nothing_about_it(store):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child("r~1", 1)]))
    await store.finish(await runs.claim(store, "r~1", "h2", kind="function"), "completed", b"1")
    applied = await store.append(own, Batch(cancels=[("r~1", b'"too late"'), ("r~9", b'"never was"')]))
    assert (applied.mail, applied.out) == ([], [])
    assert await runs.status(store, "r~1") == "completed"
    assert await runs.names(store, "r~1") == ["RunStarted", "RunCompleted"]
    assert await runs.status(store, "r~9") is None


# ---- ends that no worker had


async def test_an_end_that_no_worker_had_is_lent_to_one_beat_until_it_is_struck_off(store, admin):
    await store.finish(await runs.owned(store, "r~1"), "completed", b"1")
    await runs.create(store, "r")
    for operation in ("1", "1", "2"):
        await store.cancel("r", reason=b'"x"', operation=operation)
    lent = await asyncio.gather(*(store.lend(SHARD, limit=10, lease_ms=60_000) for _ in range(5)))
    [told] = [one for page in lent for one in page]
    [_, last] = await runs.events(store, "r")
    assert (told.run_id, told.ending, told.handler) == ("r", "cancelled", runs.HANDLER)
    assert (told.generation, told.attempt, told.length, told.at_ms) == (0, 0, 2, last["at"])
    await store.link.call("ZREM", keys.untold(SHARD), told.entry)
    assert not admin.exists(keys.untold(SHARD))


async def test_what_a_beat_has_not_struck_off_is_lent_again_after_its_lease(store):
    await runs.create(store, "r")
    await store.cancel("r", reason=b'"x"')
    first = await store.lend(SHARD, limit=10, lease_ms=1)
    assert len(first) == 1
    await until(lambda: _lent(store, first))


async def _lent(store: Store, wanted: object) -> bool:
    return await store.lend(SHARD, limit=10, lease_ms=1) == wanted


async def test_where_no_beat_takes_them_the_latest_ends_stay(store, admin):
    admin.zadd(keys.untold(SHARD), {f"old{n}|failed|0|0|2|1|a.b": n for n in range(20_000)})
    await runs.create(store, "r")
    await store.cancel("r", reason=b'"x"')
    assert admin.zcard(keys.untold(SHARD)) == 20_000
    assert admin.zrange(keys.untold(SHARD), -1, -1)[0].startswith(b"r|cancelled|")


# ---- retention


async def test_every_key_of_an_ended_run_has_a_ttl_and_after_retention_none_is_left(link, admin):
    store = Store(link, shards=16, retention_ms=300)
    for n, how in enumerate(("completed", "failed", "cancelled", "timeout")):
        own = await runs.owned(store, f"run{n}", run_timeout_ms=3_600_000)
        await store.deliver(f"run{n}", operation="1", body=runs.body("SignalReceived", name="s"))
        await store.append(own, Batch(children=[runs.child(f"run{n}~1", 1)], timers=[(2, FAR)]))
        await store.renew(own, seen=2, body=runs.body("RunStarted"), carried=[])
        await store.append(own, Batch(children=[runs.child(f"run{n}~1.1", 1)], timers=[(2, FAR)]))
        for kid in (f"run{n}~1", f"run{n}~1.1"):
            await store.finish(await runs.claim(store, kid), "completed", b"1")
        await store.finish(own, how, b'"x"')
        assert all(keys_of(admin, f"run{n}").values()), keys_of(admin, f"run{n}")
    await until(lambda: not keys_of(admin, "run"))
    left = {key.rpartition("}:")[2] for key in dump(admin)}
    assert left <= {"ended", "queues", "claimed"}

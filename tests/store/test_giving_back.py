"""park, hand_back, refuse, wake, retry, renew, reopen: the ways in which a run leaves its owner, or begins anew."""

from __future__ import annotations

import pytest
from support import runs
from support.dump import dump
from support.waiting import until

from agnt5.contracts.errors import InvalidInputError, RunNotFoundError
from agnt5.contracts.ids import shard_of
from agnt5.store import keys
from agnt5.store.replies import Claimed, More
from agnt5.store.store import Batch, Ownership

FAR = 9_000_000_000_000


def again(own: Ownership) -> Ownership:
    """The owner as it was before its last write."""
    return Ownership(own.run_id, own.host, own.epoch, own.op - 1)


async def test_a_run_is_parked_only_by_an_owner_who_has_seen_all(store, admin):
    own = await runs.owned(store)
    await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s"))
    assert await store.park(own, seen=1) == More(2)
    assert await runs.status(store, "r") == "running"
    assert await store.park(own, seen=2) == []
    assert await runs.status(store, "r") == "waiting"
    assert not [key for key in dump(admin) if ":owned:" in key or ":queued:" in key]


async def test_a_park_whose_no_was_lost_is_still_a_no(store, admin):
    """Else the host would forget a run that the store believes it owns."""
    own = await runs.owned(store)
    await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s"))
    assert await store.park(own, seen=1) == More(2)
    before = dump(admin)
    assert await store.park(again(own), seen=1) == More(2)
    assert dump(admin) == before


async def test_a_park_whose_yes_was_lost_is_still_a_yes(store, admin):
    own = await runs.owned(store)
    assert await store.park(own, seen=1) == []
    before = dump(admin)
    assert await store.park(again(own), seen=1) == []
    assert dump(admin) == before


async def test_an_event_wakes_a_parked_run_and_its_next_owner_knows_what_was_seen(store):
    await runs.parked(store)
    out = await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s"))
    assert [dispatch.run_id for dispatch in out] == ["r"]
    claimed = await store.claim("r", host="h2", nonce="m", kind="workflow")
    assert isinstance(claimed, Claimed)
    assert (claimed.seen, claimed.length) == (1, 2)


async def test_an_interrupted_run_is_handed_back_at_no_cost(store):
    own = await runs.owned(store, kind="function")
    [dispatch] = await store.hand_back(own, seen=1)
    assert dispatch.run_id == "r"
    claimed = await store.claim("r", host="h2", nonce="m", kind="function")
    assert isinstance(claimed, Claimed)
    assert (claimed.attempt, claimed.failures, claimed.crashes) == (0, 0, 0)


@pytest.mark.parametrize("verb", ["park", "hand_back"])
async def test_a_stale_owner_cannot_give_a_run_back(store, admin, verb):
    own = await runs.owned(store)
    await store.hand_back(own, seen=1)
    await runs.claim(store, "r", "h2", "m")
    before = dump(admin)
    stale = Ownership("r", "h1", own.epoch, 1)
    assert await runs.is_stale(getattr(store, verb)(stale, seen=1))
    assert dump(admin) == before


async def test_a_refused_run_says_why_and_waits_for_a_worker_that_wakes_it(store, admin):
    own = await runs.owned(store)
    assert await store.refuse(own, seen=1, trouble="the code asked for something else") == []
    assert await runs.status(store, "r") == "waiting"
    assert await runs.field(store, "r", "trouble") == "the code asked for something else"
    [dispatch] = await store.wake("r")
    assert dispatch.run_id == "r"
    assert await store.wake("r") == []
    assert await runs.status(store, "r") == "queued"
    assert not [key for key in dump(admin) if key.endswith(":refused")]


async def test_waking_what_is_owned_gone_or_between_attempts_does_nothing(store):
    await runs.owned(store)
    assert await store.wake("r") == []
    assert await store.wake("none") == []
    own = await runs.owned(store, "f", kind="function")
    await store.retry(own, attempt=0, error=b"{}", delay_ms=60_000)
    assert await store.wake("f") == []
    assert await runs.status(store, "f") == "waiting"


async def test_a_refused_run_that_ends_leaves_no_trace_among_the_refused(store, admin):
    own = await runs.owned(store, run_timeout_ms=1)
    await store.refuse(own, seen=1, trouble="t")
    shard = _shard("r")
    await until(lambda: _fired(store, shard))
    assert await runs.status(store, "r") == "failed"
    assert not [key for key in dump(admin) if key.endswith(":refused")]


# ---- retry


async def test_a_failed_attempt_waits_for_its_time(store, admin):
    own = await runs.owned(store, kind="function")
    await store.append(own, Batch(timers=[(1, FAR)]))
    assert await store.retry(own, attempt=0, error=b'{"type":"X"}', delay_ms=60_000) == []
    assert await runs.status(store, "r") == "waiting"
    assert admin.zrange(keys.timers(_shard("r")), 0, -1) == [b"r|r"]
    [*_, failed] = await runs.events(store, "r")
    assert failed["e"] == "AttemptFailed"
    assert failed["error"] == {"type": "X"}
    assert failed["retry_at_ms"] - failed["at"] == 60_000
    assert not [key for key in dump(admin) if ":owned:" in key]


async def test_an_event_does_not_cut_the_wait_for_the_next_attempt_short(store):
    own = await runs.owned(store, kind="function")
    await store.retry(own, attempt=0, error=b"{}", delay_ms=60_000)
    assert await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s")) == []
    assert await runs.status(store, "r") == "waiting"


async def test_without_a_delay_the_next_attempt_is_queued_at_once(store, admin):
    own = await runs.owned(store, kind="function")
    [dispatch] = await store.retry(own, attempt=0, error=b"{}", delay_ms=0)
    assert dispatch.run_id == "r"
    before = dump(admin)
    assert await store.retry(again(own), attempt=0, error=b"{}", delay_ms=0) == []
    assert dump(admin) == before
    claimed = await store.claim("r", host="h2", nonce="m", kind="function")
    assert isinstance(claimed, Claimed)
    assert (claimed.attempt, claimed.failures) == (1, 1)
    assert await runs.names(store, "r") == ["RunStarted", "AttemptFailed", "AttemptStarted"]


async def test_a_stale_owner_cannot_fail_an_attempt(store, admin):
    own = await runs.owned(store, kind="function")
    await store.hand_back(own, seen=1)
    before = dump(admin)
    assert await runs.is_stale(store.retry(Ownership("r", "h1", own.epoch, 5), attempt=0, error=b"{}", delay_ms=0))
    assert await runs.is_stale(store.retry(Ownership("r", "h1", "0:x"), attempt=0, error=b"{}", delay_ms=0))
    assert dump(admin) == before


# ---- renew


async def test_a_new_generation_keeps_the_id_and_the_signals_not_yet_consumed(store, admin):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child("r~1", 1)], timers=[(2, FAR)]))
    await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s"))
    carried = [(await store.entries("r", 0))[-1]]
    applied = await store.renew(own, seen=2, body=runs.body("RunStarted", generation=1), carried=carried)
    assert applied.length == 2
    assert await runs.names(store, "r") == ["RunStarted", "SignalReceived"]
    assert (await store.entries("r", 0))[-1] == carried[0]
    assert admin.lrange(keys.old("r", 0, 16), 0, -1)[-1] == carried[0]
    assert admin.pttl(keys.old("r", 0, 16)) > 0
    assert not [key for key in dump(admin) if key.endswith("timers") or "alarms" in key]
    await store.hand_back(own, seen=2)
    claimed = await store.claim("r", host="h2", nonce="m", kind="workflow")
    assert isinstance(claimed, Claimed)
    assert claimed.generation == 1


async def test_a_renewal_waits_for_what_its_owner_has_not_seen(store, admin):
    own = await runs.owned(store)
    await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s"))
    assert await store.renew(own, seen=1, body=b'{"e":"RunStarted"}', carried=[]) == More(2)
    before = dump(admin)
    assert await store.renew(again(own), seen=1, body=b'{"e":"RunStarted"}', carried=[]) == More(2)
    assert dump(admin) == before
    assert (await store.renew(own, seen=2, body=b'{"e":"RunStarted"}', carried=[])).length == 1


async def test_the_same_renewal_again_is_not_a_second_generation(store, admin):
    own = await runs.owned(store)
    await store.renew(own, seen=1, body=b'{"e":"RunStarted"}', carried=[])
    before = dump(admin)
    reply = await store.renew(again(own), seen=1, body=b'{"e":"RunStarted"}', carried=[])
    assert reply.again
    assert dump(admin) == before
    assert await runs.is_stale(store.renew(Ownership("r", "h1", "9:z"), seen=1, body=b'{"e":"X"}', carried=[]))
    assert dump(admin) == before


async def test_nine_thousand_signals_are_carried_over(store):
    own = await runs.owned(store)
    carried = [b'{"at":1,"e":"SignalReceived","name":"s"}'] * 9000
    assert (await store.renew(own, seen=1, body=b'{"e":"RunStarted"}', carried=carried)).length == 9001


async def test_an_old_generations_timer_does_not_fire_in_the_new_one(store, admin):
    own = await runs.owned(store)
    await store.append(own, Batch(timers=[(1, 1)]))
    admin.zadd(keys.timers(_shard("r")), {"t|r|7.1": 1})
    await store.renew(own, seen=1, body=b'{"e":"RunStarted"}', carried=[])
    await store.fire(_shard("r"), limit=10, timeout_error=runs.LATE)
    assert await runs.names(store, "r") == ["RunStarted"]


# ---- reopen


async def test_a_failed_run_is_opened_again_and_kept(store, admin):
    own = await runs.owned(store)
    await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s"))
    await store.finish(own, "failed", b"{}")
    [dispatch] = await store.reopen("r")
    assert dispatch.run_id == "r"
    found = dump(admin)
    assert not any(ttl for _, ttl in found.values())
    assert not [key for key in found if key.endswith(":ended")]
    assert await store.deliver("r", operation="1", body=runs.body("SignalReceived", name="s")) == []
    claimed = await store.claim("r", host="h2", nonce="m", kind="workflow")
    assert isinstance(claimed, Claimed)
    assert (claimed.attempt, claimed.failures, claimed.crashes) == (1, 0, 0)
    assert (await runs.names(store, "r"))[-2:] == ["RunReopened", "AttemptStarted"]


async def test_reopening_again_before_anybody_claimed_changes_nothing(store, admin):
    await store.finish(await runs.owned(store), "failed", b"{}")
    await store.reopen("r")
    before = dump(admin)
    assert await store.reopen("r") == []
    assert dump(admin) == before


async def test_only_failed_roots_are_reopened(store, admin):
    own = await runs.owned(store)
    await store.append(own, Batch(children=[runs.child("r~1", 1)]))
    await store.finish(await runs.claim(store, "r~1"), "failed", b"{}")
    before = dump(admin)
    with pytest.raises(InvalidInputError, match="running"):
        await store.reopen("r")
    with pytest.raises(InvalidInputError, match="parent r"):
        await store.reopen("r~1")
    with pytest.raises(RunNotFoundError):
        await store.reopen("none")
    assert dump(admin) == before


def _shard(run_id: str) -> int:
    return shard_of(run_id, 16)


async def _fired(store, shard: int) -> bool:
    return bool((await store.fire(shard, limit=10, timeout_error=runs.LATE)).count)

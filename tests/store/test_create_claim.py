"""create, claim: a run exists once, and has one owner."""

from __future__ import annotations

import asyncio
import json

import pytest
from support import runs
from support.dump import dump

from agnt5.contracts.errors import DuplicateRunError
from agnt5.contracts.runs import RunStatus
from agnt5.store import keys
from agnt5.store.replies import Claimed, Dispatch, NotClaimed
from agnt5.store.store import Batch, Ownership


async def test_a_created_run_is_queued_and_its_message_is_asked_for(store, admin):
    created = await runs.create(store, "r")
    assert created.fresh
    assert created.status is RunStatus.QUEUED
    assert created.out == [Dispatch(runs.QUEUE, 5, runs.HANDLER, "r")]
    shard = keys.prefix(0).split("{")[0]
    assert shard == "agnt5:"
    assert await runs.names(store, "r") == ["RunStarted"]
    [slot] = [key for key in dump(admin) if ":queued:" in key]
    assert slot.endswith(f"queued:{runs.QUEUE}:5")


async def test_fifty_starts_of_one_id_are_one_run(store, admin):
    created = await asyncio.gather(*(runs.create(store, "r") for _ in range(50)))
    assert [c.fresh for c in created].count(True) == 1
    assert await runs.names(store, "r") == ["RunStarted"]


async def test_creating_again_changes_nothing(store, admin):
    await runs.create(store, "r")
    before = dump(admin)
    again = await runs.create(store, "r")
    assert not again.fresh
    assert again.status is RunStatus.QUEUED
    assert dump(admin) == before


@pytest.mark.parametrize("other", [{"digest": "other"}, {"handler": "orders.other"}])
async def test_the_same_id_for_something_else_is_refused(store, admin, other):
    await runs.create(store, "r")
    before = dump(admin)
    arguments = {
        "handler": runs.HANDLER, "kind": "workflow", "queue": "q", "priority": 0, "body": b'{"e":"RunStarted"}',
        "digest": "d", **other,
    }  # fmt: skip
    with pytest.raises(DuplicateRunError, match=runs.HANDLER):
        await store.create("r", **arguments)
    assert dump(admin) == before


async def test_a_claim_gives_the_journal_and_takes_the_run_off_its_queue(store, admin):
    await runs.create(store, "r")
    claimed = await store.claim("r", host="h1", nonce="n", kind="workflow")
    assert isinstance(claimed, Claimed)
    assert claimed.epoch == "1:n"
    assert (claimed.attempt, claimed.failures, claimed.crashes, claimed.generation, claimed.seen) == (0, 0, 0, 0, 0)
    assert [json.loads(entry)["e"] for entry in claimed.entries] == ["RunStarted"]
    assert claimed.length == 1
    assert await runs.status(store, "r") == "running"
    assert not [key for key in dump(admin) if ":queued:" in key]
    assert [key for key in dump(admin) if ":owned:h1" in key]


async def test_claiming_again_with_the_same_nonce_is_the_same_claim(store, admin):
    own = await runs.owned(store)
    before = dump(admin)
    assert (await runs.claim(store, "r")).epoch == own.epoch
    assert dump(admin) == before


async def test_an_owned_run_is_not_given_to_another(store, admin):
    await runs.owned(store)
    before = dump(admin)
    assert await runs.not_claimed(store, "r") == NotClaimed("owned", "h1")
    assert dump(admin) == before


async def test_there_is_nothing_to_claim_in_a_run_that_is_gone_waiting_or_ended(store):
    assert await runs.not_claimed(store, "none") == NotClaimed("gone")
    await runs.parked(store, "p")
    assert await runs.not_claimed(store, "p") == NotClaimed("waiting")
    own = await runs.owned(store, "e")
    await store.finish(own, "completed", b"1")
    assert await runs.not_claimed(store, "e") == NotClaimed("ended", "completed")


async def test_a_claim_gives_one_page_and_says_how_long_the_journal_is(store):
    own = await runs.owned(store)
    await store.append(own, Batch(bodies=[runs.body("PatchMarked", seq=n) for n in range(700)]))
    await store.hand_back(own, seen=0)
    claimed = await store.claim("r", host="h2", nonce="m", kind="workflow")
    assert isinstance(claimed, Claimed)
    assert len(claimed.entries) == 500
    assert claimed.length == 701
    assert len(await store.entries("r", 0)) == 701


async def test_fifty_hosts_race_for_one_run_and_one_gets_it(store):
    await runs.create(store, "r")
    answers = await asyncio.gather(*(store.claim("r", host=f"h{n}", nonce=str(n), kind="workflow") for n in range(50)))
    assert sum(isinstance(answer, Claimed) for answer in answers) == 1


async def test_a_later_claim_has_a_larger_epoch_and_numbers_its_writes_anew(store):
    own = await runs.owned(store)
    await store.append(own, Batch(bodies=[runs.body("PatchMarked", seq=1)]))
    await store.hand_back(own, seen=0)
    later = await runs.claim(store, "r", "h2", "m")
    assert later.epoch == "2:m"
    assert (await store.append(later, Batch(bodies=[runs.body("PatchMarked", seq=2)]))).length == 3
    assert await runs.is_stale(store.append(Ownership("r", "h1", own.epoch, 7), Batch(bodies=[b'{"e":"X"}'])))


async def test_a_run_timeout_becomes_a_timer(store, admin):
    await runs.create(store, "r", run_timeout_ms=60_000)
    [timers] = [value for key, (value, _) in dump(admin).items() if key.endswith("timers")]
    assert [member for member, _ in timers] == [b"d|r"]

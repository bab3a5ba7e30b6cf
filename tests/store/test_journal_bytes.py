"""A journal's limit of bytes: what counts, what is refused past it, where it begins anew. And values sealed anew."""

from __future__ import annotations

import pytest
from support import runs
from support.dump import dump

from agnt5.contracts.errors import JournalLimitError
from agnt5.payload_keys import AesGcmCodec
from agnt5.sealing import Sealer
from agnt5.store import keys
from agnt5.store.store import Batch, Ownership, Store

KB = "x" * 1000
STEP = Batch(bodies=[runs.body("StepCompleted", seq=1, name="s", result=KB)])
SIGNAL = runs.body("SignalReceived", name="n", payload=KB)


@pytest.fixture
def small(store) -> Store:
    """Room for five entries of a thousand bytes."""
    return Store(store.link, shards=16, retention_ms=60_000, journal_bytes=5500)


async def room_of(store: Store, own: Ownership) -> int:
    """How many steps of a thousand bytes a journal still takes."""
    for number in range(20):
        try:
            await store.append(own, STEP)
        except JournalLimitError as error:
            assert "AGNT5_JOURNAL_LIMIT_BYTES" in str(error)
            return number
    raise AssertionError("no limit")


async def test_steps_count_and_past_the_limit_nothing_is_written(small, admin):
    own = await runs.owned(small)
    assert await room_of(small, own) == 5
    before = dump(admin)
    with pytest.raises(JournalLimitError, match="AGNT5_JOURNAL_LIMIT_BYTES"):
        await small.append(Ownership("r", "h1", own.epoch, own.op - 1), STEP)  # its reply was lost
    assert dump(admin) == before
    with pytest.raises(JournalLimitError, match="AGNT5_JOURNAL_LIMIT_BYTES"):
        await small.append(own, Batch(bodies=[runs.body("PatchMarked", seq=9)]))  # not behind one that is missing
    with pytest.raises(JournalLimitError, match="AGNT5_JOURNAL_LIMIT_BYTES"):
        await small.append(own, Batch(), status="waiting")
    await small.finish(own, "failed", b'{"type":"JournalLimitError"}')
    assert await runs.status(small, "r") == "failed"


async def test_the_input_counts(small):
    own = await runs.owned(small, body=runs.body("RunStarted", handler=runs.HANDLER, input=KB))
    assert await room_of(small, own) == 4


async def test_results_of_children_count_and_are_never_refused(small):
    own = await runs.owned(small)
    children = [runs.child(f"r~{n}", n) for n in range(6)]
    await small.append(own, Batch(bodies=[runs.body("TaskScheduled", seq=1)], children=children))
    for one in children:
        await small.finish(await runs.claim(small, one.id), "completed", f'"{KB}"'.encode())
    assert await runs.length(small, "r") == 8
    assert await room_of(small, own) == 0


async def test_signals_count_and_are_refused_when_it_is_full(small):
    own = await runs.owned(small)
    for number in range(5):
        await small.deliver("r", operation=str(number), body=SIGNAL)
    with pytest.raises(JournalLimitError, match=r"signal was not taken.*AGNT5_JOURNAL_LIMIT_BYTES"):
        await small.deliver("r", operation="6", body=SIGNAL)
    assert await room_of(small, own) == 0


async def test_errors_of_attempts_count(small):
    own = await runs.owned(small)
    await small.retry(own, attempt=0, error=f'{{"message":"{KB * 3}"}}'.encode(), delay_ms=0)
    assert await room_of(small, await runs.claim(small, "r", nonce="m")) == 2


async def test_a_new_generation_begins_with_what_it_carries(small):
    own = await runs.owned(small)
    assert await room_of(small, own) == 5
    await small.renew(own, seen=6, body=b'{"e":"RunStarted"}', carried=[b'{"at":1,' + SIGNAL[1:]])
    await small.hand_back(own, seen=2)
    assert await room_of(small, await runs.claim(small, "r", nonce="m")) == 4


async def test_a_limit_of_events_is_told_as_such(store):
    few = Store(store.link, shards=16, retention_ms=60_000, journal_limit=2)
    own = await runs.owned(few)
    await few.append(own, STEP)
    for batch in (STEP, Batch()):
        with pytest.raises(JournalLimitError, match="has 2 entries.*AGNT5_JOURNAL_LIMIT_EVENTS"):
            await few.append(own, batch)


async def test_a_value_that_changed_is_not_sealed_over(store, admin):
    sealing = Store(store.link, shards=16, retention_ms=60_000, sealer=Sealer(AesGcmCodec({"k1": bytes(32)})))
    key = keys.entity("Vault/v", 16)
    admin.hset(key, mapping={"a": "1", "b": "2"})
    assert await sealing.reseal("Vault/v", {"a": b"1", "b": b"0", "c": b"3"}) == 1
    found = admin.hgetall(key)
    assert sealing.sealer.open_state(found[b"a"], "Vault/v", "a") == b"1"
    assert (found[b"b"], b"c" in found) == (b"2", False)

"""Entities: one write of a key at a time, in the order of arrival; state, result and hand-over are one step."""

from __future__ import annotations

import asyncio

import pytest
from support import runs
from support.dump import dump
from support.waiting import until

from agnt5.contracts.errors import DuplicateRunError, EntityBusyError, EntityNotFoundError, InvalidInputError
from agnt5.contracts.ids import call_id, shard_of
from agnt5.store import keys
from agnt5.store.replies import Called, Heir, NewCall
from agnt5.store.store import Ownership, Store

NAME = "Counter/c-1"
QUEUE = "agnt5.Counter"
HANDLER = "Counter.add"


def a_call(operation: str, mode: str = "write", **options) -> NewCall:
    body = runs.body("RunStarted", handler=HANDLER)
    return NewCall(call_id(NAME, operation), HANDLER, mode, QUEUE, 5, body, **options)


async def call(store: Store, operation: str, mode: str = "write", **options) -> Called:
    return await store.call(a_call(operation, mode), **options)


async def take(store: Store, operation: str, host: str = "h1") -> Ownership:
    """Own a queued call."""
    return await runs.claim(store, call_id(NAME, operation), host, nonce=f"n-{operation}-{host}", kind="entity")


def owner_of(heir: Heir | None, host: str = "h1") -> Ownership:
    assert heir is not None
    return Ownership(heir.run_id, host, heir.claimed.epoch)


async def state(store: Store) -> dict[bytes, bytes]:
    flat = await store.link.call("HGETALL", keys.entity(NAME, 16))
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def holder(store: Store) -> str:
    return ((await store.link.call("HGET", keys.lock(NAME, 16), "run")) or b"").decode()


async def line(store: Store) -> list[str]:
    return [one.decode().rpartition("@")[2] for one in await store.link.call("LRANGE", keys.line(NAME, 16), 0, -1)]


async def status(store: Store, operation: str) -> str | None:
    return await runs.status(store, call_id(NAME, operation))


async def sets(store: Store, own: Ownership, value: bytes = b"1", *, nonce: str = ""):
    return await store.commit(own, "completed", b"null", sets={"n": value}, deletes=[], nonce=nonce)


# ---- who may write


async def test_the_first_write_is_queued_and_those_behind_it_wait_without_a_message(store):
    first = await call(store, "a")
    assert [message.run_id for message in first.out] == [call_id(NAME, "a")]
    for behind in "bc":
        assert (await call(store, behind)).out == []
        assert await status(store, behind) == "waiting"
        assert (await runs.not_claimed(store, call_id(NAME, behind))).reason == "waiting"
    assert await line(store) == ["b", "c"]
    assert await holder(store) == call_id(NAME, "a")


async def test_reads_wait_for_nobody(store):
    await call(store, "a")
    read = await call(store, "r", "read")
    assert len(read.out) == 1
    own = await take(store, "r")
    await store.finish(own, "completed", b"1")
    assert await line(store) == []
    assert await holder(store) == call_id(NAME, "a")


async def test_another_key_is_not_held_up(store):
    await call(store, "a")
    other = NewCall(call_id("Counter/c-2", "a"), HANDLER, "write", QUEUE, 5, runs.body("RunStarted", handler=HANDLER))
    assert len((await store.call(other)).out) == 1


async def test_the_same_call_again_is_the_same_call(store, admin):
    first = a_call("a", digest="d")
    await store.call(first)
    before = dump(admin)
    again = await store.call(first)
    assert again.out == []
    assert again.heir is None
    assert dump(admin) == before
    with pytest.raises(DuplicateRunError, match="another input"):
        await store.call(a_call("a", digest="e"))


async def test_a_run_that_calls_again_from_a_later_attempt_is_told_of_the_first_call(store):
    """Its input may differ by then: the first one counts."""
    await store.call(a_call("a", caller="r"))
    again = await store.call(a_call("a", caller="r"))
    assert again.status == "queued"


# ---- the hand-over


async def test_a_write_hands_the_lock_to_the_next_in_line_whose_message_is_sent(store):
    for one in "abc":
        await call(store, one)
    own = await take(store, "a")
    done = await sets(store, own)
    assert [message.run_id for message in done.out] == [call_id(NAME, "b")]
    assert await status(store, "b") == "queued"
    assert await line(store) == ["c"]
    assert await holder(store) == call_id(NAME, "b")
    assert await state(store) == {b"n": b"1"}


async def test_a_host_that_offers_itself_owns_the_next_call_without_a_message(store):
    for one in "abc":
        await call(store, one)
    done = await sets(store, await take(store, "a"), nonce="x")
    assert done.out == []
    second = owner_of(done.heir)
    assert second.run_id == call_id(NAME, "b")
    assert done.heir.handler == HANDLER
    assert await status(store, "b") == "running"
    assert await runs.field(store, second.run_id, "host") == "h1"
    done = await sets(store, second, b"2", nonce="y")
    done = await sets(store, owner_of(done.heir), b"3", nonce="z")
    assert done.heir is None
    assert await state(store) == {b"n": b"3"}
    assert await holder(store) == ""


async def test_a_lost_reply_of_a_commit_names_the_next_call_again(store):
    for one in "ab":
        await call(store, one)
    own = await take(store, "a")
    first = await sets(store, own, nonce="x")
    again = await sets(store, Ownership(own.run_id, own.host, own.epoch), nonce="x")
    assert again.again
    assert again.heir is not None
    assert first.heir is not None
    assert (again.heir.run_id, again.heir.claimed.epoch) == (first.heir.run_id, first.heir.claimed.epoch)
    await sets(store, owner_of(again.heir), b"2")
    late = await sets(store, Ownership(own.run_id, own.host, own.epoch), nonce="x")
    assert late.heir is None  # it has ended since


async def test_a_repeated_commit_does_not_give_away_what_another_owns_by_now(store):
    for one in "ab":
        await call(store, one)
    own = await take(store, "a")
    await sets(store, own, nonce="x")
    await store.reap(shard_of(NAME, 16), "h1", limit=10, error=runs.LOST)
    other = await take(store, "b", "h2")
    again = await sets(store, Ownership(own.run_id, own.host, own.epoch), nonce="x")
    assert again.heir is None
    await sets(store, other, b"2")
    assert await state(store) == {b"n": b"2"}


async def test_a_caller_that_offers_itself_runs_a_free_call_at_once(store):
    called = await call(store, "a", host="h1", nonce="x")
    assert called.out == []
    again = await call(store, "a", host="h1", nonce="x")  # the reply was lost
    assert owner_of(again.heir) == owner_of(called.heir)
    assert (await call(store, "a", host="h2", nonce="y")).heir is None
    assert (await call(store, "b", host="h1", nonce="z")).heir is None  # the key is busy
    assert await line(store) == ["b"]
    read = await call(store, "r", "read", host="h1", nonce="q")
    await store.finish(owner_of(read.heir), "completed", b"1")
    await sets(store, owner_of(called.heir))
    assert await status(store, "b") == "queued"


async def test_a_caller_that_does_not_offer_itself_owns_nothing(store):
    """Its worker may not have the code, or have enough to do: the call is queued, for whoever has it."""
    for operation, mode in (("a", "write"), ("r", "read")):
        called = await call(store, operation, mode, host="h1", nonce="")
        assert called.heir is None
        assert [message.run_id for message in called.out] == [call_id(NAME, operation)]
        assert await status(store, operation) == "queued"


@pytest.mark.parametrize("how", ["failed", "cancelled", "timeout"])
async def test_a_write_that_does_not_complete_hands_on_all_the_same(store, how):
    for one in "ab":
        await call(store, one)
    own = await take(store, "a")
    done = await store.commit(own, how, b'"x"', sets={}, deletes=[], nonce="x")
    assert owner_of(done.heir).run_id == call_id(NAME, "b")


# ---- the fence


async def test_a_stale_owner_changes_nothing(store, admin):
    await call(store, "a")
    await call(store, "b")
    stale = await take(store, "a", "h1")
    await store.reap(shard_of(NAME, 16), "h1", limit=10, error=runs.LOST)
    own = await take(store, "a", "h2")
    before = dump(admin)
    assert await runs.is_stale(sets(store, stale, b"9", nonce="x"))
    assert dump(admin) == before
    await sets(store, own, b"1")
    before = dump(admin)
    assert await runs.is_stale(sets(store, Ownership(stale.run_id, "h1", stale.epoch), b"9"))
    assert dump(admin) == before
    assert await state(store) == {b"n": b"1"}


async def test_a_call_without_the_lock_changes_nothing(store, admin):
    """It cannot be: but should a store ever come to it, the state stays whole."""
    await call(store, "a")
    own = await take(store, "a")
    await store.link.call("HSET", keys.lock(NAME, 16), "run", "somebody")
    before = dump(admin)
    assert await runs.is_stale(sets(store, own))
    assert dump(admin) == before


async def test_a_dead_host_s_write_keeps_the_lock_and_is_tried_again_before_those_behind_it(store):
    await call(store, "a")
    await call(store, "b")
    await take(store, "a", "h1")
    _, _, out = await store.reap(shard_of(NAME, 16), "h1", limit=10, error=runs.LOST)
    assert [message.run_id for message in out] == [call_id(NAME, "a")]
    assert await holder(store) == call_id(NAME, "a")
    assert await line(store) == ["b"]


async def test_a_call_that_kills_its_hosts_ends_and_hands_on(store):
    await call(store, "a")
    await call(store, "b")
    for death in range(3):
        await take(store, "a", f"h{death}")
        await store.link.call("HSET", keys.run(call_id(NAME, "a"), 16), "danger", "1")
        _, _, out = await store.reap(shard_of(NAME, 16), f"h{death}", limit=10, error=runs.LOST)
    assert await status(store, "a") == "failed"
    assert [message.run_id for message in out] == [call_id(NAME, "b")]


async def test_a_write_that_is_tried_again_later_keeps_the_lock(store):
    await call(store, "a")
    await call(store, "b")
    own = await take(store, "a")
    await store.retry(own, attempt=0, error=b"{}", delay_ms=60_000)
    assert await holder(store) == call_id(NAME, "a")
    assert await line(store) == ["b"]


# ---- ends while waiting


async def test_a_cancelled_call_leaves_the_line(store):
    for one in "abc":
        await call(store, one)
    await store.cancel(call_id(NAME, "b"), reason=b'"no"')
    assert await line(store) == ["c"]
    assert await status(store, "b") == "cancelled"
    done = await sets(store, await take(store, "a"))
    assert [message.run_id for message in done.out] == [call_id(NAME, "c")]


async def test_a_holder_that_is_cancelled_before_it_ran_hands_on(store):
    await call(store, "a")
    await call(store, "b")
    _, out = await store.cancel(call_id(NAME, "a"), reason=b'"no"')
    assert [message.run_id for message in out] == [call_id(NAME, "b")]


async def test_a_run_timeout_ends_a_call_in_line(store):
    await call(store, "a")
    await store.call(a_call("b", run_timeout_ms=1))
    await call(store, "c")

    async def fired() -> bool:
        await store.fire(shard_of(NAME, 16), limit=10, timeout_error=runs.LATE)
        return await status(store, "b") == "failed"

    await until(fired)
    assert await line(store) == ["c"]


# ---- state


async def test_changes_are_set_and_deleted_in_one_step_and_counted(store):
    await call(store, "a")
    own = await take(store, "a")
    await store.commit(own, "completed", b"1", sets={"x": b"1", "y": b"[2]"}, deletes=[])
    await call(store, "b")
    own = await take(store, "b")
    await store.commit(own, "completed", b"1", sets={"x": b"3"}, deletes=["y", "never-there"])
    assert await state(store) == {b"x": b"3"}
    assert await store.link.call("HGET", keys.lock(NAME, 16), "writes") == b"2"
    assert await store.link.call("ZRANGE", keys.entities(shard_of(NAME, 16), "Counter"), 0, -1) == [NAME.encode()]
    recent = await store.link.call("LRANGE", keys.recent(NAME, 16), 0, -1)
    assert recent == [call_id(NAME, one).encode() for one in "ba"]


async def test_an_entity_whose_last_state_key_goes_leaves_nothing_but_its_calls(store, admin):
    await call(store, "a")
    await sets(store, await take(store, "a"))
    await call(store, "b")
    await store.commit(await take(store, "b"), "completed", b"1", sets={}, deletes=["n"])
    left = {key.partition("}:")[2].partition(":")[0] for key in dump(admin)}
    assert left == {"run", "log", "queues", "sorts", "claimed"}


async def test_deleting_waits_for_no_call_and_breaks_into_none(store, admin):
    with pytest.raises(EntityNotFoundError, match="Counter/c-1"):
        await store.erase(NAME)
    await call(store, "a")
    own = await take(store, "a")
    with pytest.raises(EntityBusyError, match="Counter/c-1~@a"):
        await store.erase(NAME)
    await sets(store, own)
    await store.erase(NAME)
    assert await state(store) == {}
    assert not [key for key in dump(admin) if "lock:" in key or "recent:" in key or "ents:" in key]


async def test_nothing_of_a_call_stays_past_retention(store, admin):
    store.retention_ms = 50
    for one in "abc":
        await call(store, one)
    own = await take(store, "a")
    while own:
        done = await sets(store, own, nonce="x")
        own = owner_of(done.heir) if done.heir else None
    await store.erase(NAME)

    async def gone() -> bool:
        return {key.partition("}:")[2].partition(":")[0] for key in dump(admin)} == {"queues", "sorts", "claimed"}

    await until(gone)


async def test_a_failed_call_cannot_be_opened_again(store):
    await call(store, "a")
    await store.commit(await take(store, "a"), "failed", b"{}", sets={}, deletes=[])
    with pytest.raises(InvalidInputError, match="call it again"):
        await store.reopen(call_id(NAME, "a"))


# ---- answers to callers in other shards


async def test_an_ended_call_is_listed_until_its_caller_was_told(store):
    await store.call(a_call("a", caller="r"))
    await store.call(a_call("c"))
    await sets(store, await take(store, "a"))
    await sets(store, await take(store, "c"))
    assert await store.link.call("ZRANGE", keys.answers(shard_of(NAME, 16)), 0, -1) == [call_id(NAME, "a").encode()]


async def test_an_answer_is_told_once_and_wakes_a_parked_caller(store):
    await runs.parked(store, "r")
    body = runs.body("TaskCompleted", seq=1, result=1)
    tell = {"generation": 0, "operation": "Counter/c-1~@a", "host": "h1", "body": body}
    first = await store.answer("r", **tell)
    assert [message.run_id for message in first.out] == ["r"]
    assert (await store.answer("r", **tell)).out == []
    assert (await runs.names(store, "r")).count("TaskCompleted") == 1


async def test_an_answer_to_an_owned_caller_comes_by_mail_or_channel(store, admin):
    await runs.owned(store, "r")
    body = runs.body("TaskCompleted", seq=1, result=1)
    told = await store.answer("r", generation=0, operation="1", host="h1", body=body)
    assert [(mail.run_id, mail.length) for mail in told.mail] == [("r", 2)]
    listener = admin.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.host_channel("h1"))
    listener.get_message(timeout=1)
    told = await store.answer("r", generation=0, operation="2", host="h2", body=body)
    assert told.mail == []
    assert b"TaskCompleted" in listener.get_message(timeout=1)["data"]
    listener.close()


async def test_an_answer_to_nobody_or_to_another_generation_is_dropped(store):
    body = runs.body("TaskCompleted", seq=1, result=1)
    assert (await store.answer("r", generation=0, operation="1", host="", body=body)).out == []
    own = await runs.owned(store, "r")
    assert (await store.answer("r", generation=1, operation="1", host="h1", body=body)).mail == []
    await store.finish(own, "completed", b"1")
    assert (await store.answer("r", generation=0, operation="1", host="h1", body=body)).mail == []
    assert "TaskCompleted" not in await runs.names(store, "r")


# ---- races


async def test_many_writers_on_one_key_take_turns(store):
    """Hosts that call, claim and commit at the same time: the lock never has two holders, and order is kept."""
    count, done = 60, []

    async def host(name: str) -> None:
        for number in range(count // 3):
            operation = f"{name}{number}"
            called = await call(store, operation, host=name, nonce=f"c{operation}")
            own = owner_of(called.heir, name) if called.heir else None
            while own is not None:
                before = int((await state(store)).get(b"n", b"0"))
                applied = await sets(store, own, str(before + 1).encode(), nonce=f"d{own.run_id}")
                done.append(own.run_id)
                own = owner_of(applied.heir, name) if applied.heir else None

    await asyncio.gather(*(host(name) for name in ("h1", "h2", "h3")))
    assert len(done) == len(set(done)) == count
    assert await state(store) == {b"n": str(count).encode()}

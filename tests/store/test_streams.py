"""emit: what runs yield is there once, in order, from the latest claim only, and no longer than its run."""

from __future__ import annotations

import asyncio

import pytest
from support import runs
from support.doctor import examine
from support.dump import dump, keys_of
from support.proxy import Proxy
from support.waiting import until

from agnt5 import AsyncClient
from agnt5.client.doctor import examine_with
from agnt5.client.streams import ChunkPlace, StreamReset, known, read_chunks
from agnt5.contracts.errors import StaleEpochError, StreamLimitError
from agnt5.store import keys
from agnt5.store.link import Link
from agnt5.store.scripts import script
from agnt5.store.store import Store
from agnt5.store.subscriber import Subscriber


async def owned(store: Store, run_id: str = "r"):
    return await runs.owned(store, run_id, "function")


def stream(admin, run_id: str = "r") -> list[tuple[str, bytes]]:
    return [(at.decode(), fields[b"c"]) for at, fields in admin.xrange(keys.out(run_id, 16))]


def chunks(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


def places(claim: int, first: int, last: int) -> list[tuple[str, bytes]]:
    return [(f"{claim}-{number}", b"%d" % number) for number in range(first, last + 1)]


async def test_chunks_stand_in_order_under_their_claim(store, admin):
    own = await owned(store)
    await asyncio.gather(*(store.emit(own, first=n, chunks=chunks(n, n + 4)) for n in (1, 6, 11)))
    assert stream(admin) == places(1, 1, 15)
    assert await runs.field(store, "r", "out") == "1-15"
    assert own.op == 0  # the count of other writes goes on as if nothing had been
    await store.append(own, runs.asking())


@pytest.mark.parametrize("payload", [b'"\\u0000 \\" ~"', b"9007199254740993", b"[]", b"null", '"ä€😀"'.encode()])
async def test_chunks_pass_as_the_bytes_they_are(store, admin, payload):
    await store.emit(await owned(store), first=1, chunks=[payload])
    assert stream(admin) == [("1-1", payload)]


async def test_a_chunk_tells_when_it_came_and_before_which_event(store):
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 1))
    await store.append(own, runs.asking())
    await store.emit(own, first=2, chunks=chunks(2, 3))
    await store.renew(own, seen=2, body=runs.body("RunStarted", handler="orders.fulfil", generation=1), carried=[])
    await store.emit(own, first=4, chunks=chunks(4, 4))
    found = (await read_chunks(store, "r", known(None))).found
    assert [str(one.before) for one in found] == ["0.1", "0.2", "0.2", "1.1"]
    now = [int(part) for part in await store.link.call("TIME")]
    now_ms = now[0] * 1000 + now[1] // 1000
    times = [one.at_ms for one in found]
    assert times == sorted(times)
    assert now_ms - 10_000 < times[0] <= times[-1] <= now_ms


async def test_a_first_chunk_keeps_its_place_on_a_server_that_does_not_know_its_script(store, admin):
    own = await owned(store)
    admin.script_flush()
    await store.append(own, runs.asking(1))  # this script is known from here on
    await asyncio.gather(store.emit(own, first=1, chunks=chunks(1, 1)), store.append(own, runs.asking(2)))
    (found,) = (await read_chunks(store, "r", known(None))).found
    assert str(found.before) == "0.2"


async def test_a_chunk_of_a_release_that_did_not_tell_is_read(store):
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 1))
    await store.link.call("XADD", keys.out("r", 16), "1-2", "c", b"2")
    found = (await read_chunks(store, "r", known(None))).found[1]
    assert (found.value, found.at_ms, str(found.before)) == (2, 0, "0.0")


async def test_a_repeated_call_appends_what_is_missing_and_no_more(store, admin):
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 3))
    before = dump(admin)
    await store.emit(own, first=1, chunks=chunks(1, 3))
    await store.emit(own, first=2, chunks=chunks(2, 2))
    assert dump(admin) == before
    await store.emit(own, first=2, chunks=chunks(2, 5))
    assert stream(admin) == places(1, 1, 5)


async def test_calls_whose_replies_were_lost_are_there_once(proxy: Proxy, store, admin):
    link = Link(proxy.url)
    await link.connect()
    far = Store(link, shards=16, retention_ms=60_000)
    own = await owned(store)
    await far.emit(own, first=1, chunks=chunks(1, 1))
    for start in (2, 12, 22):
        proxy.lose_replies_to(script("emit").sha.encode())
        await asyncio.gather(*(far.emit(own, first=n, chunks=chunks(n, n)) for n in range(start, start + 10)))
    assert proxy.lost == 3
    assert stream(admin) == places(1, 1, 31)
    await link.close()


async def test_no_chunk_overtakes_another_while_the_script_is_loaded(store, admin):
    own = await owned(store)
    admin.script_flush()
    await asyncio.gather(*(store.emit(own, first=n, chunks=chunks(n, n)) for n in range(1, 101)))
    assert stream(admin) == places(1, 1, 100)


async def test_a_late_worker_cannot_yield_after_its_epoch_moved(store, admin):
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 1))
    await store.hand_back(own, seen=1)
    before = dump(admin)
    assert await runs.is_stale(store.emit(own, first=2, chunks=chunks(2, 2)))
    assert dump(admin) == before
    await runs.claim(store, "r", "h2", "m")
    before = dump(admin)
    assert await runs.is_stale(store.emit(own, first=1, chunks=chunks(1, 2)))
    assert dump(admin) == before
    await store.link.call("DEL", keys.run("r", 16))
    assert await runs.is_stale(store.emit(own, first=1, chunks=chunks(1, 2)))


async def test_nothing_is_yielded_after_the_end(store, admin):
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 1))
    await store.finish(own, "completed", b"[1]")
    assert await runs.is_stale(store.emit(own, first=2, chunks=chunks(2, 2)))
    assert stream(admin) == places(1, 1, 1)


@pytest.mark.parametrize("given_back", ["retry", "hand back", "reap"])
async def test_a_new_claim_makes_void_what_an_earlier_one_yielded(store, admin, given_back):
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 9))
    match given_back:
        case "retry":
            await store.retry(own, attempt=0, error=b"{}", delay_ms=0)
        case "hand back":
            await store.hand_back(own, seen=1)
        case _:
            await store.reap(store.shard("r"), "h1", limit=9, error=runs.LOST)
    assert stream(admin) == places(1, 1, 9)  # until somebody begins anew, it is all there is
    later = await runs.claim(store, "r", "h2", "m", "function")
    assert stream(admin) == []  # whether it ever yields, or fails before
    assert await runs.field(store, "r", "out") == "2-0"
    await store.emit(later, first=1, chunks=chunks(1, 2))
    assert stream(admin) == places(2, 1, 2)


async def test_the_claim_of_a_run_that_yielded_nothing_leaves_no_trace_of_a_stream(store, admin):
    own = await owned(store)
    await store.hand_back(own, seen=1)
    await runs.claim(store, "r", "h2", "m")
    assert await runs.field(store, "r", "out") is None


async def test_readers_are_told_of_chunks_and_of_a_new_beginning(store, admin):
    listener = admin.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.out_channel("r"))
    listener.get_message(timeout=1)
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 3))
    await store.emit(own, first=1, chunks=chunks(1, 3))
    await store.hand_back(own, seen=1)
    await runs.claim(store, "r", "h2", "m")
    told = [message["data"] for _ in range(3) if (message := listener.get_message(timeout=0.3))]
    assert told == [b"1-3", b"2-0"]
    listener.close()


async def test_past_the_limit_the_run_has_what_fits(store, admin):
    small = Store(store.link, shards=16, retention_ms=60_000, stream_limit=5)
    own = await owned(small)
    await small.emit(own, first=1, chunks=chunks(1, 4))
    refused = [small.emit(own, first=5, chunks=chunks(5, 7)), small.emit(own, first=8, chunks=chunks(8, 9))]
    for pending in refused:
        with pytest.raises(StreamLimitError, match=r"run r: it yielded more than 5 chunks .*AGNT5_STREAM_LIMIT"):
            await pending
    assert stream(admin) == places(1, 1, 5)
    with pytest.raises(StreamLimitError):  # repeated
        await small.emit(own, first=5, chunks=chunks(5, 7))
    assert stream(admin) == places(1, 1, 5)


async def test_chunks_that_the_store_forgot_end_the_ownership_and_queue_the_run(store, admin):
    """A Redis that came back older: the fence still fits, the numbers do not."""
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 2))
    with pytest.raises(StaleEpochError, match=r"forgotten writes of this worker \(it knows 2 of 6\)"):
        await store.emit(own, first=7, chunks=chunks(7, 8))
    assert await runs.status(store, "r") == "queued"
    later = await runs.claim(store, "r", "h2", "m", "function")
    assert later.epoch == "2:m"
    assert stream(admin) == []


@pytest.mark.parametrize("status", ["completed", "failed", "timeout", "cancelled"])
async def test_a_stream_expires_with_its_run(link, admin, status):
    brief = Store(link, shards=16, retention_ms=150)
    own = await owned(brief)
    await brief.emit(own, first=1, chunks=chunks(1, 3))
    assert admin.pttl(keys.out("r", 16)) == -1
    await brief.finish(own, status, b'"x"')
    assert stream(admin) == places(1, 1, 3)
    assert set(keys_of(admin, "r").values()) == {True}
    await until(
        lambda: (
            not [
                key
                for key in admin.scan_iter("agnt5:*")
                if b"ended" not in key and b"queues" not in key and b"claimed" not in key
            ]
        )
    )


async def test_a_run_that_is_opened_again_keeps_its_stream_until_its_next_claim(store, admin):
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 3))
    await store.finish(own, "failed", b"{}")
    await store.reopen("r")
    assert admin.pttl(keys.out("r", 16)) == -1
    assert stream(admin) == places(1, 1, 3)
    assert examine(admin) == []
    await runs.claim(store, "r", "h2", "m")
    assert stream(admin) == []


async def test_a_stream_without_its_run_is_found_and_let_go(store, admin, redis_url):
    async with AsyncClient(redis_url) as client:
        own = await owned(store)
        await store.emit(own, first=1, chunks=chunks(1, 3))
        await store.finish(own, "completed", b"1")
        admin.persist(keys.out("r", 16))
        [kept] = [one for one in await examine_with(client, settle_s=0.01) if one.severity == "error"]
        assert (kept.code, kept.run) == ("ended-kept", "r")
        await store.mend("r")
        assert admin.pttl(keys.out("r", 16)) > 0
        admin.persist(keys.out("r", 16))
        admin.delete(keys.run("r", 16), keys.log("r", 16))
        found = [one for one in await examine_with(client, settle_s=0.01) if one.about == "key"]
        assert [(one.code, one.run) for one in found] == [("stray-key", "r")]


# ---- reading


class Slowly:
    """A link whose calls are made one after the other, something else happening before one of them."""

    def __init__(self, link: Link, before: str, happens) -> None:
        self._link, self._before, self._happens = link, before, happens
        self._last: asyncio.Future | None = None

    def call(self, *args) -> asyncio.Future:
        async def made(last: asyncio.Future | None):
            if last is not None:
                await last
            if args[0] == self._before and self._happens is not None:
                happens, self._happens = self._happens, None
                await happens()
            return await self._link.call(*args)

        self._last = asyncio.ensure_future(made(self._last))
        return self._last


@pytest.mark.parametrize("before", ["HMGET", "XRANGE", "HGET"])
async def test_a_page_never_mixes_claims(store, before):
    own = await owned(store)
    await store.emit(own, first=1, chunks=chunks(1, 3))

    async def begin_anew() -> None:
        await store.hand_back(own, seen=1)
        later = await runs.claim(store, "r", "h2", "m", "function")
        await store.emit(later, first=1, chunks=chunks(1, 9))

    reading = Store(Slowly(store.link, before, begin_anew), shards=16, retention_ms=60_000)
    page = await read_chunks(reading, "r", known("1-2"))
    assert page.reset == StreamReset(2)
    assert [str(one.place) for one in page.found] == [f"2-{n}" for n in range(1, 10)]


async def test_a_place_of_a_later_claim_than_there_is_counts_as_the_beginning(store):
    """A Redis that came back older."""
    await store.emit(await owned(store), first=1, chunks=chunks(1, 3))
    page = await read_chunks(store, "r", known("7-2"))
    assert page.reset == StreamReset(1)
    assert [one.value for one in page.found] == [1, 2, 3]
    assert page.next == ChunkPlace(1, 3)
    assert (await read_chunks(store, "r", known("7-0"))).reset is None  # who knew nothing has nothing to forget


async def test_a_listener_that_gave_up_does_not_take_the_next_one_along(link):
    ears = Subscriber(link.address, lambda *_: None)
    await ears.connect()
    impatient = asyncio.ensure_future(ears.subscribe("somewhere"))
    await asyncio.sleep(0)
    impatient.cancel()
    ears.unsubscribe("somewhere")
    try:
        await ears.subscribe("somewhere")
    except asyncio.CancelledError:
        pytest.fail("it was cancelled with the other one")
    finally:
        await ears.close()

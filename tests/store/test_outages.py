"""What a link rides out, and what it tells: flushes, cuts, pauses, restarts, no memory, no server, no password."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from support import runs
from support.doctor import examine
from support.dump import dump
from support.proxy import Proxy
from support.secret_values import made
from support.server import Server
from support.waiting import until

from agnt5.contracts.errors import ConfigurationError, StoreFullError, StoreUnavailableError
from agnt5.contracts.ids import shard_of
from agnt5.store import link as link_module
from agnt5.store import wire as wire_module
from agnt5.store.link import Link
from agnt5.store.store import Batch, Store

SHARD = shard_of("r", 16)


def mark(n: int) -> Batch:
    return Batch(bodies=[runs.body("PatchMarked", seq=n)])


async def seqs(store: Store, run_id: str = "r") -> list[int]:
    return [event["seq"] for event in await runs.events(store, run_id) if event["e"] == "PatchMarked"]


async def connected(url: str, **options) -> Store:
    link = Link(url, **options)
    await link.connect()
    return Store(link, shards=16, retention_ms=60_000)


# ---- the script cache


async def test_scripts_flushed_in_the_middle_of_a_pipeline_are_loaded_and_the_order_kept(store):
    own = await runs.owned(store)
    pending = []
    for n in range(1, 201):
        pending.append(store.append(own, mark(n)))
        if n % 40 == 0:
            store.link.call("SCRIPT", "FLUSH")
    pending.append(store.finish(own, "completed", b"1"))
    await asyncio.gather(*pending)
    assert await seqs(store) == list(range(1, 201))
    assert await runs.status(store, "r") == "completed"


async def test_scripts_flushed_all_the_time_only_cost_time(store, server):
    stop = threading.Event()

    def flush() -> None:
        client = type(server.admin)(port=server.port)
        while not stop.is_set():
            client.script_flush()
        client.close()

    thread = threading.Thread(target=flush)
    thread.start()
    try:

        async def whole(run_id: str) -> None:
            own = await runs.owned(store, run_id)
            await asyncio.gather(*(store.append(own, mark(n)) for n in range(1, 6)))
            await store.finish(own, "completed", b"1")

        await asyncio.gather(*(whole(f"r{n}") for n in range(100)))
    finally:
        stop.set()
        thread.join()
    assert await seqs(store, "r7") == [1, 2, 3, 4, 5]


# ---- the connection


async def test_connections_cut_in_the_middle_of_a_pipeline_lose_and_double_nothing(server, store):
    with Proxy(server.port) as proxy:
        far = await connected(proxy.url)
        owns = [await runs.owned(store, f"r{n}") for n in range(10)]
        pending = []
        for n in range(1, 51):
            pending += [far.append(own, mark(n)) for own in owns]
            await asyncio.sleep(0)
            if n % 10 == 0:
                proxy.cut()
        await asyncio.gather(*pending)
        assert far.link.reconnects >= 1
        for own in owns:
            assert await seqs(store, own.run_id) == list(range(1, 51))
        await far.link.close()


async def test_a_paused_server_is_waited_for(store, admin):
    own = await runs.owned(store)
    admin.execute_command("CLIENT", "PAUSE", 300, "ALL")
    start = time.monotonic()
    await asyncio.gather(*(store.append(own, mark(n)) for n in range(1, 4)))
    assert time.monotonic() - start > 0.2
    assert await seqs(store) == [1, 2, 3]


async def test_a_restarted_server_goes_on_from_its_aof(own_server):
    store = await connected(own_server.url)
    own = await runs.owned(store)
    await store.append(own, mark(1))
    own_server.kill()
    waiting = asyncio.gather(*(store.append(own, mark(n)) for n in range(2, 20)))
    await asyncio.to_thread(own_server.start)
    await waiting
    assert await seqs(store) == list(range(1, 20))
    await store.link.close()


async def test_a_caller_with_little_patience_is_told_and_later_replies_are_not_mixed_up(own_server):
    store = await connected(own_server.url, patience_s=0.3)
    await runs.create(store, "r")
    own_server.pause()
    start = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"repeating it is safe"):
        await runs.create(store, "r2")
    assert time.monotonic() - start < 2
    own_server.resume()
    await until(lambda: store.link.call("PING"))
    assert (await runs.create(store, "r2")).fresh is False
    assert await runs.status(store, "r") == "queued"
    await store.link.close()


async def test_a_connection_that_says_nothing_is_given_up(server, store, monkeypatch):
    """A server machine that lost its power sends no goodbye; another has its address now."""
    monkeypatch.setattr(link_module, "STALL_S", 0.3)
    with Proxy(server.port) as proxy:
        far = await connected(proxy.url)
        own = await runs.owned(far)
        proxy.mute()
        await asyncio.wait_for(far.append(own, mark(1)), 5)
        assert far.link.reconnects == 1
        assert await seqs(far) == [1]
        await far.link.close()


async def test_a_greeting_without_an_answer_does_not_come_back_to_haunt(own_server, monkeypatch):
    monkeypatch.setattr(wire_module, "CONNECT_TIMEOUT_S", 0.1)
    store = await connected(own_server.url)
    own = await runs.owned(store)
    own_server.pause()
    assert store.link._wire is not None
    store.link._wire.drop()
    appending = asyncio.ensure_future(store.append(own, mark(1)))
    await asyncio.wait([appending], timeout=0.6)
    assert not appending.done()
    own_server.resume()
    await appending
    for n in range(2, 50):
        assert (await store.append(own, mark(n))).length == n + 1
    assert store.link.reconnects == 1
    await until(lambda: len(own_server.admin.client_list(_type="normal")) <= 2)  # ours and the admin's
    await store.link.close()


async def test_a_read_behind_a_write_that_a_replica_refused_does_not_answer_it(own_server):
    store = await connected(own_server.url)
    own = await runs.owned(store)
    own_server.admin.replicaof("127.0.0.1", own_server.port + 1 if own_server.port < 65000 else 1)
    appending = asyncio.ensure_future(store.append(own, mark(1)))
    reading = store.link.call("LLEN", "agnt5:{s0}:nothing")
    await until(lambda: store.link.reconnects > 0)
    own_server.admin.replicaof("NO", "ONE")
    assert (await appending).length == 2
    assert await reading == 0
    await store.link.close()


async def test_a_call_that_nobody_waits_for_any_more_is_no_gap_for_those_behind(server, store):
    with Proxy(server.port) as proxy:
        far = await connected(proxy.url)
        own = await runs.owned(far)
        proxy.refusing = True
        proxy.cut()
        await until(lambda: far.link._wire is None)
        given_up = asyncio.ensure_future(far.append(own, mark(1)))
        behind = asyncio.ensure_future(far.append(own, mark(2)))
        await asyncio.sleep(0)
        given_up.cancel()
        await until(lambda: proxy.connections > 3)
        proxy.refusing = False
        await behind
        assert await seqs(far) == [1, 2]
        await far.link.close()


async def test_no_server_is_told_at_once_with_the_address():
    with Server() as server:
        url = server.url
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:\d+.*AGNT5_REDIS_URL"):
        await Link(url).connect()


RIGHT, WRONG = made("right password"), made("wrong password")


async def test_a_wrong_password_is_told_at_once_and_not_shown():
    with Server() as server:
        server.admin.config_set("requirepass", RIGHT)
        for user in ("", f":{WRONG}@", f"ann:{WRONG}@"):
            url = server.url.replace("//", f"//{user}")
            with pytest.raises(ConfigurationError) as refused:
                await Link(url).connect()
            assert WRONG not in str(refused.value)
        store = await connected(server.url.replace("//", f"//:{RIGHT}@"))
        assert (await runs.create(store, "r")).fresh
        await store.link.close()


async def test_a_closed_link_fails_what_is_open_and_takes_no_more(server):
    store = await connected(server.url)
    open_call = asyncio.ensure_future(runs.create(store, "r"))
    await asyncio.sleep(0)
    await store.link.close()
    with pytest.raises(StoreUnavailableError):
        await open_call
    with pytest.raises(StoreUnavailableError):
        await runs.create(store, "r")


# ---- memory


async def test_out_of_memory_refuses_what_grows_and_lets_what_runs_end(own_server):
    client = await connected(own_server.url, patience_s=5)
    owns = {name: await runs.owned(client, name, kind="function") for name in ("finish", "park", "retry", "late")}
    await runs.create(client, "queued")
    admin = own_server.admin
    admin.config_set("maxmemory", 1)
    before = dump(admin)
    for refused in (
        runs.create(client, "new"),
        client.claim("queued", host="h", nonce="n", kind="function"),
        client.deliver("late", operation="1", body=runs.body("SignalReceived", name="s")),
        client.append(runs.Ownership("late", "h1", owns["late"].epoch), mark(1)),
        client.reopen("finish"),
        client.renew(runs.Ownership("late", "h1", owns["late"].epoch), seen=1, body=b"{}", carried=[]),
    ):
        with pytest.raises(StoreFullError, match="maxmemory"):
            await refused
    assert dump(admin) == before
    await client.finish(owns["finish"], "completed", b"1")
    await client.park(owns["park"], seen=1)
    await client.retry(owns["retry"], attempt=0, error=b"{}", delay_ms=60_000)
    await client.cancel("queued", reason=b'"x"')
    await client.heart("h1")
    await client.fire(SHARD, limit=1, timeout_error=runs.LATE)
    await client.requeue(SHARD, "q:1", before_ms=1, slack_ms=1, limit=1, probe=True)
    await client.reap(shard_of("late", 16), "h1", limit=10, error=runs.LOST)
    admin.config_set("maxmemory", 0)
    found = [await runs.status(client, name) for name in (*owns, "queued")]
    assert found == ["completed", "waiting", "waiting", "queued", "cancelled"]
    assert examine(admin) == []
    await client.link.close()


async def test_an_owners_writes_wait_for_memory_in_their_order(own_server, monkeypatch):
    monkeypatch.setattr(link_module, "HOLD_S", 0.05)
    store = await connected(own_server.url)
    own, other = await runs.owned(store, "r"), await runs.owned(store, "other")
    own_server.admin.config_set("maxmemory", 1)
    pending = [asyncio.ensure_future(store.append(own, mark(n))) for n in range(1, 20)]
    await store.finish(other, "completed", b"1")
    pending += [asyncio.ensure_future(store.append(own, mark(20))), asyncio.ensure_future(store.park(own, seen=99))]
    await asyncio.wait(pending, timeout=0.2)
    assert not any(one.done() for one in pending)
    own_server.admin.config_set("maxmemory", 0)
    await asyncio.gather(*pending)
    assert await seqs(store) == list(range(1, 21))
    assert await runs.status(store, "r") == "waiting"
    await store.link.close()


# ---- an AOF that lost its end


async def test_any_prefix_of_the_aof_is_a_store_in_order(tmp_path):
    """Power loss: what was not yet on disk is gone, and what is left must be a store that can go on."""
    with Server(appendfsync="always") as server:
        store = await connected(server.url)
        for n in range(6):
            own = await runs.owned(store, f"r{n}")
            await store.append(own, Batch(children=[runs.child(f"r{n}~1", 1)], timers=[(2, 9_000_000_000_000)]))
            await store.park(own, seen=1)
            kid = await runs.claim(store, f"r{n}~1", kind="function")
            if n % 3 == 0:
                await store.retry(kid, attempt=0, error=b"{}", delay_ms=0)
                kid = await runs.claim(store, f"r{n}~1", nonce="k", kind="function")
            await store.finish(kid, "completed", b"1")
            own = await runs.claim(store, f"r{n}", nonce="m")
            await store.finish(own, "completed" if n % 2 else "cancelled", b'"x"')
        await store.link.close()
        [log] = (server.data / "appendonlydir").glob("*.incr.aof")
        whole = log.read_bytes()
        for share in (0.13, 0.41, 0.66, 0.87):
            server.kill()
            log.write_bytes(whole[: int(len(whole) * share)])
            server.start()
            assert examine(server.admin) == []


async def test_an_owner_whose_claim_was_lost_with_the_aofs_end_is_stale():
    with Server(appendfsync="always") as server:
        store = await connected(server.url)
        await runs.create(store, "r")
        [log] = (server.data / "appendonlydir").glob("*.incr.aof")
        size = log.stat().st_size
        own = await runs.claim(store, "r")
        await store.append(own, mark(1))
        server.kill()
        log.write_bytes(log.read_bytes()[:size])
        server.start()
        assert await runs.is_stale(store.append(own, mark(2)))
        assert (await runs.claim(store, "r", "h2", "m")).epoch == "1:m"
        assert await runs.is_stale(store.append(own, mark(3)))
        await store.link.close()

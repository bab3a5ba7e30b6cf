"""A store that came back older lists runs as a host's which the host has long finished."""

from agnt5.store import keys
from tests.support import runs


async def test_a_run_that_its_host_does_not_know_is_queued_for_its_next_attempt(store):
    own = await runs.owned(store)
    [dispatch] = await store.disown("r", host=own.host)
    assert dispatch.run_id == "r"
    assert await runs.status(store, "r") == "queued"
    assert await runs.is_stale(store.finish(own, "completed", b"1"))
    claimed = await store.claim("r", host="h2", nonce="m", kind="function")
    assert claimed.attempt == 1


async def test_another_hosts_run_and_an_ended_one_are_left_alone(store):
    own = await runs.owned(store)
    assert await store.disown("r", host="somebody") == []
    assert await runs.status(store, "r") == "running"
    await store.finish(own, "completed", b"1")
    await store.link.call("SADD", keys.owned(0, own.host), "r")
    assert await store.disown("r", host=own.host) == []
    assert await runs.status(store, "r") == "completed"

"""The doctor: silent on a sound store, and told by each way in which one can be unsound."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support import runs
from support.cluster import Cluster
from support.waiting import until, until_sync

from agnt5.client import AsyncClient, doctor
from agnt5.client.doctor import Finding, examine, repair
from agnt5.client.key_use import key_uses, started_in_clear
from agnt5.contracts.runs import Kind
from agnt5.contracts.settings import Settings
from agnt5.registry import Handler, HandlerOptions, Registry
from agnt5.runtime.dispatch import RedisDispatcher
from agnt5.runtime.schedules import Schedules
from agnt5.runtime.starting import StartRequest, start_run
from agnt5.store import keys
from agnt5.store.store import Batch, Store


async def found_in(store: Store, **options: Any) -> list[Finding]:
    return [finding for finding in await examine(store, processes=False, **options)]


async def errors(store: Store) -> list[str]:
    return [finding.found for finding in await found_in(store) if finding.severity == "error"]


async def mended(store: Store) -> int:
    return await repair(store, RedisDispatcher(store.link), await found_in(store))


async def everything(store: Store) -> None:
    """A run in each state that there is."""
    await runs.create(store, "queued")
    await runs.owned(store, "running", run_timeout_ms=60_000)
    timer = runs.body("TimerStarted", seq=1, due_ms=9_999_999_999_999)
    await runs.parked(store, "sleeping", Batch(bodies=[timer], timers=[(1, 9_999_999_999_999)]))
    await runs.parked(store, "listening", Batch(bodies=[runs.body("SignalAwaited", seq=1, name="go")]))
    task = runs.body("TaskScheduled", seq=1, handler=runs.HANDLER, id="parent~1")
    await runs.parked(store, "parent", Batch(bodies=[task], children=[runs.child("parent~1", 1)]))
    trying = await runs.owned(store, "trying", kind="function")
    await store.retry(trying, attempt=0, error=b"{}", delay_ms=60_000)
    for status in ("completed", "failed", "cancelled"):
        own = await runs.owned(store, status)
        await store.finish(own, status, b'"x"')
    await runs.parked(store, "asking", runs.asking(due_ms=9_999_999_999_999))
    await runs.parked(store, "voted", runs.asking(quorum=2))
    await runs.decide(store, "voted")
    withdrawn = await runs.owned(store, "withdrawn")
    await store.append(withdrawn, runs.asking(due_ms=9_999_999_999_999))
    await store.append(withdrawn, Batch(bodies=[runs.body("SignalAwaited", seq=2, name="go")], unasks=[1]))
    await store.park(withdrawn, seen=3)
    answered = await runs.owned(store, "answered")
    await store.append(answered, runs.asking())
    await runs.decide(store, "answered")
    await store.finish(answered, "completed", b"1")
    refused = await runs.owned(store, "refused")
    await store.refuse(refused, seen=1, trouble="the code changed")


def key(store: Store, kind: str, run_id: str) -> str:
    return f"{store.prefix(run_id)}{kind}:{run_id}"


async def call(store: Store, *command: Any) -> Any:
    return await store.link.call(*command)


async def test_a_sound_store_has_no_errors(store):
    await everything(store)
    found = await found_in(store)
    assert [(f.severity, f.run) for f in found] == [("warning", "refused")]  # it waits for an operator
    assert "the code changed" in found[0].found


Corrupt = Callable[[Store], Awaitable[Any]]

FAULTS: dict[str, tuple[Corrupt, str]] = {
    "a queued run in no queue": (
        lambda s: call(s, "ZREM", f"{s.prefix('queued')}queued:agnt5.orders:5", "queued"), "run queued is queued",
    ),
    "a running run without a host": (
        lambda s: call(s, "HSET", key(s, "run", "running"), "host", ""), "on no host",
    ),
    "an owned run that its host does not list": (
        lambda s: call(s, "SREM", f"{s.prefix('running')}owned:h1", "running"), "would not be taken over",
    ),
    "a sleeper without its timer": (
        lambda s: call(s, "DEL", f"{s.prefix('sleeping')}timers"), "nothing that would wake it",
    ),
    "a parent of a lost child": (
        lambda s: call(s, "DEL", key(s, "run", "parent~1"), key(s, "log", "parent~1")), "does not exist",
    ),
    "a parent that would not hear": (
        lambda s: call(s, "DEL", key(s, "kids", "parent")), "would not hear",
    ),
    "a run that waits for an attempt without a timer": (
        lambda s: call(s, "DEL", f"{s.prefix('trying')}timers"), "no timer will bring it",
    ),
    "events that nobody reads": (
        lambda s: call(s, "RPUSH", key(s, "log", "listening"), '{"at":1,"e":"SignalReceived","name":"go"}'),
        "nobody has read",
    ),
    "a refused run that no worker would try": (
        lambda s: call(s, "DEL", f"{s.prefix('refused')}refused"), "no starting worker",
    ),
    "a run timeout without a timer": (
        lambda s: call(s, "ZREM", f"{s.prefix('running')}timers", "d|running"), "run timeout",
    ),
    "an open run that is not listed": (
        lambda s: call(s, "ZREM", f"{s.prefix('queued')}open", "queued"), "list of open runs",
    ),
    "a live run that will expire": (
        lambda s: call(s, "EXPIRE", key(s, "run", "sleeping"), 100), "will expire",
    ),
    "an ended run that stays for ever": (
        lambda s: call(s, "PERSIST", key(s, "log", "completed")), "would stay for ever",
    ),
    "an ended run that is not listed": (
        lambda s: call(s, "ZREM", f"{s.prefix('failed')}ended", "failed"), "list of ended runs",
    ),
    "an ended run with an owner": (
        lambda s: call(s, "HSET", key(s, "run", "cancelled"), "host", "h9"), "owns it",
    ),
    "an ended run that is listed as open": (
        lambda s: call(s, "ZADD", f"{s.prefix('completed')}open", 1, "completed"), "open holds completed",
    ),
    "a queue entry of no run": (
        lambda s: call(s, "ZADD", f"{s.prefix('ghost')}queued:agnt5.orders:5", 1, "ghost"), "there is no such run",
    ),
    "a timer of no run": (
        lambda s: call(s, "ZADD", f"{s.prefix('ghost')}timers", 9_999_999_999_999, "t|ghost|0.1"), "no such run",
    ),
    "an owned entry of another's run": (
        lambda s: call(s, "SADD", f"{s.prefix('running')}owned:h2", "running"), "which h1 owns",
    ),
    "an approval whose record is gone": (
        lambda s: call(s, "DEL", f"{s.prefix('asking')}ask:asking|0.1"),
        "waits for approval 'deploy', whose record is gone: nobody can decide it",
    ),
    "an approval that nobody sees": (
        lambda s: call(s, "ZREM", f"{s.prefix('asking')}inbox", "asking|0.1"), "which the inbox does not show",
    ),
    "an approval that would wait for ever": (
        lambda s: call(s, "ZREM", f"{s.prefix('asking')}timers", "a|asking|0.1"), "which would never time out",
    ),
    "an approval that was decided and is still shown": (
        lambda s: call(s, "ZADD", f"{s.prefix('answered')}inbox", 1, "answered|0.1"), "inbox holds answered|0.1, which",
    ),
    "an approval that was taken back and is still shown": (
        lambda s: call(s, "ZADD", f"{s.prefix('withdrawn')}inbox", 1, "withdrawn|0.1"), "which is withdrawn",
    ),
    "an approval of no run that is shown": (
        lambda s: call(s, "ZADD", f"{s.prefix('ghost')}inbox", 1, "ghost|0.1"), "holds ghost|0.1, and there is no such",
    ),
    "an approval that outlives its run": (
        lambda s: call(s, "PERSIST", f"{s.prefix('answered')}ask:answered|0.1"),
        "its approval ask:answered|0.1 is approved, and would stay so",
    ),
    "a list of approvals that outlives its run": (
        lambda s: call(s, "PERSIST", key(s, "asks", "answered")), "its key asks:answered would stay for ever",
    ),
    "an approval of no run": (
        lambda s: call(s, "HSET", f"{s.prefix('ghost')}ask:ghost|0.1", "status", "open"), "belongs to no run",
    ),
    "a journal of no run": (
        lambda s: call(s, "RPUSH", f"{s.prefix('ghost')}log:ghost", "{}"), "belongs to no run",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_found_told_and_mended(store, fault):
    corrupt, says = FAULTS[fault]
    await everything(store)
    await corrupt(store)
    found = await errors(store)
    assert any(says in text for text in found), found
    assert await mended(store) >= 1
    assert await errors(store) == []


async def test_an_approval_that_was_decided_unheard_is_told(store):
    await everything(store)
    await call(store, "HSET", f"{store.prefix('asking')}ask:asking|0.1", "status", "approved")
    assert any("which is approved, and was not told" in text for text in await errors(store))


async def test_a_journal_that_is_gone_is_told_and_left_alone(store):
    await everything(store)
    await call(store, "DEL", key(store, "log", "listening"))
    assert any("has no journal" in text for text in await errors(store))
    await mended(store)
    assert any("has no journal" in text for text in await errors(store))


async def test_mending_a_sound_store_breaks_nothing(store):
    await everything(store)
    names = (
        "queued",
        "running",
        "sleeping",
        "listening",
        "parent",
        "parent~1",
        "trying",
        "completed",
        "refused",
        "asking",
        "voted",
        "withdrawn",
        "answered",
        "none",
    )
    for run_id in names:
        await store.mend(run_id)
    assert await errors(store) == []
    assert await runs.status(store, "running") == "running"
    assert await runs.status(store, "trying") == "waiting"
    assert await runs.status(store, "completed") == "completed"


async def test_a_child_that_ended_unheard_is_told_to_its_parent(store):
    await everything(store)
    own = await runs.claim(store, "parent~1")
    log = await call(store, "LLEN", key(store, "log", "parent"))
    await call(store, "DEL", key(store, "kids", "parent"))
    await store.finish(own, "completed", b"7")
    assert any("was not told" in text for text in await errors(store))
    assert await call(store, "LLEN", key(store, "log", "parent")) == log
    await mended(store)  # the parent is queued; its replay takes the child up again
    assert await runs.status(store, "parent") == "queued"
    assert await errors(store) == []


async def test_a_stale_kids_entry_tells_the_parent_what_its_child_gave(store):
    await everything(store)
    own = await runs.claim(store, "parent~1")
    await call(store, "DEL", key(store, "kids", "parent"))
    await store.finish(own, "completed", b"7")
    await call(store, "HSET", key(store, "kids", "parent"), "parent~1", "1")
    await store.mend("parent~1", entry="kids:parent", member="parent~1")
    assert (await runs.events(store, "parent"))[-1]["e"] == "TaskCompleted"
    assert await runs.status(store, "parent") == "queued"
    assert await errors(store) == []


async def test_a_run_that_moves_while_it_is_read_is_no_finding(store, monkeypatch):
    await runs.parked(store, "parent", Batch(bodies=[runs.body("TimerStarted", seq=1, due_ms=1)]))
    readings = 0
    whole = doctor.survey

    async def survey(store: Store) -> Any:
        nonlocal readings
        readings += 1
        seen = await whole(store)
        if readings == 1:  # it was stuck when it was read, and is claimed before it is read again
            await store.mend("parent")
            await runs.claim(store, "parent")
        return seen

    monkeypatch.setattr(doctor, "survey", survey)
    assert await errors(store) == []
    assert readings == 2


async def test_dead_hosts_missing_beats_and_backlogs_are_told(store, admin):
    await runs.owned(store, "orphan")
    await runs.create(store, "waiting-for-a-worker")
    found = {(f.about, f.severity): f for f in await examine(store)}
    assert "h1" in found["run", "error"].found
    assert found["beat", "error"].found == "no beat is running"
    assert "agnt5.orders" in found["queue", "error"].found
    assert "'orders'" in found["queue", "error"].remedy
    await repair(store, RedisDispatcher(store.link), found.values())
    assert await runs.status(store, "orphan") == "queued"
    assert admin.exists("agnt5.orders\x06\x163")  # its message was sent again


async def test_a_server_that_may_lose_runs_is_told(store, admin):
    admin.config_set("appendonly", "no")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = [f.found for f in await examine(store) if f.about == "server"]
    finally:
        admin.config_set("appendonly", "yes")
        admin.config_set("maxmemory-policy", "noeviction")
    assert any("append-only file is off" in text for text in found)
    assert any("allkeys-lru" in text for text in found)


async def test_two_thousand_runs_take_moments(store):
    for at in range(0, 2000, 100):
        await asyncio.gather(*(runs.create(store, f"r{number}") for number in range(at, at + 100)))
    await everything(store)
    assert await errors(store) == []


# ---- payload keys that some processes have and others do not

KEY = f"k1:{base64.b64encode(bytes(32)).decode()}"


async def start(store: Store, run_id: str, value: object = "a value") -> None:
    await start_run(store, Settings(), StartRequest(run_id, "shop.pay", value), None)


async def test_runs_that_are_started_in_clear_beside_sealed_ones_are_told(store, redis_url):
    async with AsyncClient(redis_url, payload_keys=KEY) as client:
        keyed, _ = await client.opened()
        await start(store, "before-keys")
        await start(keyed, "sealed")
        since_ms = await store.now_ms()
        await until(lambda: moved_on(store, since_ms))
        await start(store, "nothing-to-seal", None)
        assert not started_in_clear(await key_uses(client))
        await start(store, "plain")
        await keyed.finish(await runs.claim(keyed, "plain"), "completed", b'"x"')
        uses = await key_uses(client)
        [found] = started_in_clear(uses)
        assert (found.code, found.severity) == ("started-in-clear", "warning")
        assert "the last was plain, at 20" in found.found
        assert {use.key_id: (use.open_runs, use.ended_runs) for use in uses} == {"": (2, 1), "k1": (1, 1)}


async def test_why_a_run_is_refused_is_told_to_those_who_have_the_key(store, redis_url):
    async with AsyncClient(redis_url, payload_keys=KEY) as client:
        keyed, _ = await client.opened()
        for run_id, trouble in (
            ("changed", keyed.sealer.text("the code changed", "changed")),
            ("keyless", "SealedPayloadError: a value is sealed with key 'k2'"),
        ):
            await keyed.refuse(await runs.owned(keyed, run_id), seen=1, trouble=trouble)
        told = {finding.run: finding for finding in await found_in(keyed)}
        assert told["changed"].found == "run changed waits for code that fits it: the code changed"
        assert "sealed with key k1" in {one.run: one.found for one in await found_in(store)}["changed"]
        assert told["keyless"].found.startswith("run keyless waits for a worker with its key: Sealed")
        assert told["keyless"].remedy == "start a worker that has the key"


async def moved_on(store: Store, since_ms: int) -> bool:
    return await store.now_ms() > since_ms


async def test_a_beat_without_keys_says_so_once_where_workers_seal(store, redis_url, caplog):
    yearly = Registry()
    options = HandlerOptions(cron="0 0 1 1 *", input={"text": "a value"})
    yearly.add(Handler.of(lambda ctx, text: text, service="shop", name="yearly", kind=Kind.WORKFLOW, options=options))
    schedules = Schedules(store, RedisDispatcher(store.link), Settings(), yearly)
    async with AsyncClient(redis_url, payload_keys=KEY) as client:
        keyed, _ = await client.opened()
        year_ms = 366 * 86_400_000
        last_ms = await store.now_ms()
        for times_told in (0, 0, 1, 1):
            await schedules.fire(last_ms)
            assert sum("has no payload keys" in text for text in caplog.messages) == times_told
            if run_id := await store.link.call("HGET", keys.schedules(), "shop.yearly#run"):
                await keyed.finish(await runs.claim(keyed, run_id.decode()), "completed", b'"x"')
            last_ms += year_ms


HANDLERS = """
from agnt5 import Context, workflow


@workflow(service="sick")
async def waits(ctx: Context) -> str:
    return await ctx.signal("go")
"""


def test_a_dead_worker_is_told_until_another_has_taken_over(tmp_path):
    (tmp_path / "sick_handlers.py").write_text(HANDLERS)
    with Cluster(["sick_handlers"], paths=[tmp_path]) as cluster:
        worker = cluster.worker("w1")
        cluster.start(worker, cluster.beat())
        client = cluster.client
        run = client.start("sick.waits", id="patient")
        until_sync(lambda: run.state().host, 10)
        assert client.call(doctor.examine_with) == []
        worker.kill()

        def told() -> set[str]:
            return {finding.code for finding in client.call(doctor.examine_with)}

        until_sync(lambda: told() & {"dead-owner", "backlog"}, 15)
        worker.restart()
        until_sync(lambda: not told(), 15)
        run.signal("go", "well")
        assert run.result(timeout=15) == "well"
        assert not told()

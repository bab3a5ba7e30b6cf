"""What a beat tells of runs that no worker ended: each is counted once and has its span, whatever beats do."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable

import pytest
from opentelemetry.trace import StatusCode
from support import runs
from support.faults import CrashError
from support.recorded import Recorded

from agnt5.contracts.ids import shard_of
from agnt5.contracts.traces import trace_of
from agnt5.payload_keys import AesGcmCodec
from agnt5.runtime import endings
from agnt5.runtime.endings import Endings
from agnt5.runtime.sweep import TIMEOUT_ERROR, lost_error
from agnt5.sealing import Sealer
from agnt5.store import keys
from agnt5.store.store import Batch, Store
from agnt5.telemetry import figures, spans

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SHARD = shard_of("r", 16)


class Told(figures.Figures):
    """Figures that say what they were told."""

    on = True

    def __init__(self) -> None:
        self.ends: Counter[tuple[str, str]] = Counter()
        self.seconds: list[float | None] = []
        self.known: set[str] = set()

    def expected(self, handlers: Iterable[str]) -> None:
        self.known |= set(handlers)

    def ended(self, handler: str, status: str, seconds: float | None) -> None:
        self.ends[handler, status] += 1
        self.seconds.append(seconds)


@pytest.fixture
def told(monkeypatch, admin) -> Told:
    told = Told()
    monkeypatch.setattr(figures, "_current", told)
    admin.hset(keys.handlers(), runs.HANDLER, "{}")
    return told


@pytest.fixture
def recorded(monkeypatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(spans, "_active", recorded.tracing)
    return recorded


def begun(**fields) -> bytes:
    return runs.body("RunStarted", handler=runs.HANDLER, kind="workflow", headers={"traceparent": CALLER}, **fields)


async def cancelled(store: Store, run_id: str = "r", **options) -> None:
    await runs.create(store, run_id, **{"body": begun(), **options})
    await store.cancel(run_id, reason=b'"changed my mind"')


async def killed_its_workers(store: Store, admin) -> None:
    admin.hset(keys.run("r", 16), mapping={"crashes": "2", "danger": "1"})
    await store.reap(SHARD, "h1", limit=10, error=lost_error("h1", 3))


def of_caller(span, parent_id: str = "") -> None:
    assert f"{span.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{span.parent.span_id:016x}" == (parent_id or CALLER.split("-")[2])


# ---- counted once


async def test_beats_share_what_they_tell_of(store, admin, told):
    for n in range(120):
        await cancelled(store, f"r~{n}")
    beats = [Endings(store) for _ in range(3)]
    while any(await asyncio.gather(*(beat.tell() for beat in beats))):
        pass
    assert told.ends == {(runs.HANDLER, "cancelled"): 120}
    assert all(seconds is not None and 0 <= seconds < 60 for seconds in told.seconds)
    assert not admin.exists(keys.untold(SHARD))


async def test_what_a_beat_could_not_tell_of_the_next_one_tells(store, told, monkeypatch):
    await cancelled(store)
    monkeypatch.setattr(endings, "LEASE_MS", 0)

    def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(Endings, "_ends_of_journal", crash)
        with pytest.raises(CrashError):
            await Endings(store).tell()
    assert not told.ends
    assert await Endings(store).tell() == 1
    assert await Endings(store).tell() == 0
    assert told.ends == {(runs.HANDLER, "cancelled"): 1}


async def test_all_ways_to_end_have_their_status_and_workers_ends_are_left_to_workers(store, admin, told):
    own = await runs.owned(store, "r~1")
    await store.append(own, Batch(children=[runs.child("r~1~1", 1)]))
    await store.finish(own, "cancelled", b'"stop"')
    await runs.owned(store)
    await killed_its_workers(store, admin)
    await runs.create(store, "r~2", run_timeout_ms=0)
    await store.fire(SHARD, limit=10, timeout_error=TIMEOUT_ERROR)
    assert await Endings(store).tell() == 3
    assert told.ends == {(runs.HANDLER, how): 1 for how in ("cancelled", "failed", "timeout")}
    assert told.known == {runs.HANDLER}


async def test_a_handler_that_no_worker_knows_is_no_label(store, admin, told):
    admin.delete(keys.handlers())
    await cancelled(store)
    await Endings(store).tell()
    assert told.ends == {("other", "cancelled"): 1}


async def test_a_run_past_its_retention_is_counted_all_the_same(store, admin, told, recorded):
    await cancelled(store)
    admin.delete(keys.log("r", 16))
    await Endings(store).tell()
    assert told.ends == {(runs.HANDLER, "cancelled"): 1}
    assert told.seconds == [None]
    assert recorded.spans == {}


async def test_where_nobody_asks_the_notes_do_not_pile_up(store, admin):
    await cancelled(store)
    assert await Endings(store).tell() == 1
    assert not admin.exists(keys.untold(SHARD))


# ---- with a span


async def test_a_run_that_was_cancelled_in_its_queue_has_its_span(store, recorded):
    await cancelled(store)
    await Endings(store).tell()
    span = recorded.spans[runs.HANDLER]
    of_caller(span)
    first, last = await runs.events(store, "r")
    place = trace_of("r", {"traceparent": CALLER}, first["at"])
    assert f"{span.context.span_id:016x}" == place.span_id
    assert (span.start_time, span.end_time) == (first["at"] * 1_000_000, last["at"] * 1_000_000)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "agnt5.run_id": "r", "agnt5.handler": runs.HANDLER, "agnt5.kind": "workflow", "agnt5.attempt": 0,
        "agnt5.generation": 0, "agnt5.status": "cancelled", "messaging.system": "agnt5",
        "messaging.operation.type": "process", "messaging.operation.name": "run",
        "messaging.destination.name": runs.QUEUE, "messaging.message.id": "r",
    }  # fmt: skip


async def test_a_run_that_was_reopened_goes_on_below_what_failed_however_late_that_is_told(store, admin, recorded):
    await runs.owned(store, body=begun())
    for nonce in ("second", "third"):
        await killed_its_workers(store, admin)
        await store.reopen("r")
        await runs.claim(store, "r", nonce=nonce)
    assert await Endings(store).tell() == 2
    failed, again = sorted(recorded.exporter.get_finished_spans(), key=lambda span: span.attributes["agnt5.attempt"])
    of_caller(failed)
    of_caller(again, f"{failed.context.span_id:016x}")
    reopened = next(event for event in await runs.events(store, "r") if event["e"] == "RunReopened")
    assert again.start_time == reopened["at"] * 1_000_000
    for span in (failed, again):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "WorkerLostError"
    assert (failed.attributes["agnt5.attempt"], again.attributes["agnt5.attempt"]) == (0, 2)


async def test_a_run_that_goes_on_by_now_has_no_span_of_another_journal(store, admin, recorded, told):
    await runs.owned(store, body=begun())
    await killed_its_workers(store, admin)
    await store.reopen("r")
    own = await runs.claim(store, "r", nonce="again")
    await store.renew(own, seen=await runs.length(store, "r"), body=begun(generation=1), carried=[])
    await killed_its_workers(store, admin)
    assert await Endings(store).tell() == 2
    assert told.ends == {(runs.HANDLER, "failed"): 2}
    [span] = recorded.exporter.get_finished_spans()
    assert span.attributes["agnt5.generation"] == 1


async def test_a_beat_without_the_key_says_so_once_and_counts(store, told, recorded, caplog):
    sealing = Store(store.link, shards=16, retention_ms=60_000, sealer=Sealer(AesGcmCodec({"k1": bytes(32)})))
    await cancelled(sealing)
    await cancelled(sealing, "r~1")
    with caplog.at_level(logging.WARNING):
        await Endings(store).tell()
    assert told.ends == {(runs.HANDLER, "cancelled"): 2}
    assert recorded.spans == {}
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "run r has no span, and others may have none"
    ]
    await cancelled(sealing, "r~2")
    await Endings(sealing).tell()
    assert recorded.spans[runs.HANDLER].attributes["agnt5.run_id"] == "r~2"

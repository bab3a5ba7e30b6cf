"""keep: a run's latest log lines are there once, by time, and no longer than the run. The keeper never waits for it."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
from functools import partial
from typing import Any

import pytest
from support import runs
from support.doctor import examine
from support.server import Server
from support.waiting import until

from agnt5 import AsyncClient
from agnt5.contracts.errors import InvalidInputError, RunNotFoundError
from agnt5.store import keys
from agnt5.store.link import Link
from agnt5.store.store import Store
from agnt5.telemetry import logs_kept
from agnt5.telemetry.current import FIELDS, SILENT, SINK
from agnt5.telemetry.logs import mark_records
from agnt5.telemetry.logs_kept import LINE_BYTES, Keeper, line_of

LONGER = 3_600_000


def lines(admin, run_id: str = "r") -> list[bytes]:
    return admin.zrange(keys.logs(run_id, 16), 0, -1)


def ttl(admin, run_id: str = "r") -> int:
    return admin.pttl(keys.logs(run_id, 16))


def numbered(first: int, last: int) -> list[tuple[int, bytes]]:
    return [(number, b"w.%d|{}" % number) for number in range(first, last + 1)]


# ---- the script


async def test_lines_stand_by_time_whoever_wrote_them_and_only_the_latest_stay(store, admin):
    await runs.create(store, "r")
    assert await store.keep("r", [(30, b"a"), (10, b"b")], most=3)
    assert await store.keep("r", [(20, b"c")], most=3)
    assert lines(admin) == [b"b", b"c", b"a"]
    await store.keep("r", [(40, b"d"), (50, b"e")], most=3)
    assert lines(admin) == [b"a", b"d", b"e"]
    assert ttl(admin) == -1


async def test_a_repeated_call_keeps_nothing_twice(store, admin):
    await runs.create(store, "r")
    for _ in range(2):
        await store.keep("r", numbered(1, 5), most=3)
    assert lines(admin) == [b"w.3|{}", b"w.4|{}", b"w.5|{}"]
    await store.keep("r", numbered(6, 6), most=3)
    await store.keep("r", numbered(1, 5), most=3)  # behind a later one, as after a reconnect
    assert lines(admin) == [b"w.4|{}", b"w.5|{}", b"w.6|{}"]


async def test_lines_of_an_ended_run_live_as_long_as_it_does(store, admin):
    own = await runs.owned(store, "r", "function")
    await store.keep("r", numbered(1, 1), most=9)
    await store.finish(own, "completed", b"1")
    before = admin.pttl(keys.run("r", 16))
    assert 0 < ttl(admin) <= before
    admin.pexpire(keys.run("r", 16), LONGER // 2)
    admin.delete(keys.logs("r", 16))
    await store.keep("r", numbered(2, 2), most=9)  # the first to come, after the end
    assert 0 < ttl(admin) <= LONGER // 2
    assert not examine(admin)


async def test_lines_of_a_run_that_is_opened_again_stay(store, admin):
    own = await runs.owned(store, "r", "function")
    await store.keep("r", numbered(1, 1), most=9)
    await store.finish(own, "failed", runs.LOST)
    await store.reopen("r")
    assert ttl(admin) == -1
    assert lines(admin) == [b"w.1|{}"]
    admin.pexpire(keys.logs("r", 16), LONGER)
    await store.mend("r")
    assert ttl(admin) == -1


async def test_a_run_that_is_gone_keeps_nothing(store, admin):
    assert not await store.keep("never", numbered(1, 1), most=9)
    assert admin.keys("*logs:*") == []


async def test_a_new_generation_keeps_the_lines(store, admin):
    own = await runs.owned(store, "r")
    await store.keep("r", numbered(1, 1), most=9)
    await store.renew(own, seen=1, body=runs.body("RunStarted", handler=runs.HANDLER), carried=[])
    assert lines(admin) == [b"w.1|{}"]
    assert ttl(admin) == -1


# ---- the keeper


@pytest.fixture
def loud():
    """Loggers as on a worker, restored afterwards."""
    before, root = logging.getLogRecordFactory(), logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.setLevel(logging.DEBUG)
    mark_records()
    logs_kept.listen()
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.setLogRecordFactory(before)


def keeper(store: Store, most: int = 200) -> Keeper:
    loop = asyncio.get_running_loop()
    return Keeper(partial(store.keep, most=most), loop, writer="w", most=most, offset_ms=lambda: 0)


def as_run(keeps: Keeper, code: Any, run_id: str = "r", *, silent: bool = False) -> Any:
    """Call as the code of a run."""

    def call() -> Any:
        FIELDS.set({"run_id": run_id, "attempt": 1, "step_id": None, "service": "s", "handler": "h"})
        SINK.set(keeps)
        SILENT.set(lambda: silent)
        return code()

    return contextvars.copy_context().run(call)


def say(*texts: str, level: int = logging.INFO, name: str = "shop", **options: Any) -> None:
    for text in texts:
        logging.getLogger(name).log(level, text, **options)


async def messages(redis_url: str, run_id: str = "r") -> list[str]:
    async with AsyncClient(redis_url) as client:
        return [line.message for line in await client.logs(run_id)]


async def test_lines_of_all_threads_are_kept_in_order_in_few_writes(store, redis_url, loud):
    await runs.create(store, "r")
    keeps, calls = keeper(store, 5000), store.link.calls

    def work() -> None:
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=[say, *(f"{n}.{at:03d}" for at in range(300))])
            for n in range(4)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

    await asyncio.to_thread(as_run, keeps, work)
    await keeps.close()
    told = await messages(redis_url)
    assert len(told) == 1200
    for number in "0123":
        mine = [text for text in told if text[0] == number]
        assert mine == sorted(mine)
    assert store.link.calls - calls < 40


async def test_a_line_that_waits_for_company_comes_by_itself(store, redis_url, loud):
    await runs.create(store, "r")
    keeps = keeper(store)
    as_run(keeps, lambda: say("alone"))
    await until(lambda: messages(redis_url))


async def test_a_line_comes_by_itself_also_after_another_run_has_taken_its_lines_along(store, redis_url, loud):
    await runs.create(store, "r")
    await runs.create(store, "other")
    keeps = keeper(store)
    as_run(keeps, lambda: say("ends"), "other")
    keeps.flush("other")
    await asyncio.sleep(2 * logs_kept.FLUSH_S)  # until there was nothing to flush
    as_run(keeps, lambda: say("alone"))
    await until(lambda: messages(redis_url))


async def test_of_a_flood_only_the_latest_lines_are_sent(store, redis_url, admin, loud):
    await runs.create(store, "r")
    keeps = keeper(store, 10)
    as_run(keeps, lambda: say(*map(str, range(5000))))
    await keeps.close()
    assert await messages(redis_url) == [str(number) for number in range(4990, 5000)]
    assert keeps.dropped == 0


async def test_what_is_not_of_a_run_or_not_worth_it_is_not_kept(store, redis_url, loud):
    await runs.create(store, "r")
    keeps = keeper(store)
    say("outside")
    as_run(keeps, lambda: say("chatter", level=logging.DEBUG))
    as_run(keeps, lambda: say("said before"), silent=True)
    as_run(keeps, lambda: say("mine", level=logging.DEBUG, name="agnt5.run.s.h"))
    as_run(keeps, lambda: say("news", name="agnt5.runtime"), silent=True)
    await keeps.close()
    assert await messages(redis_url) == ["mine", "news"]


async def test_a_keeper_that_keeps_none_costs_the_store_nothing(store, loud):
    calls = store.link.calls
    keeps = keeper(store, 0)
    as_run(keeps, lambda: say("said"))
    keeps.flush()
    keeps.flush("r")
    await keeps.close()
    assert store.link.calls == calls


async def test_what_is_flushed_before_the_end_is_there_when_the_end_is_seen(store, redis_url, loud):
    own = await runs.owned(store, "r", "function")
    await runs.create(store, "other")
    keeps = keeper(store)
    as_run(keeps, lambda: say("last word"))
    as_run(keeps, lambda: say("not yet"), "other")
    keeps.flush("r")
    await store.finish(own, "completed", b"1")
    assert await messages(redis_url) == ["last word"]
    assert await messages(redis_url, "other") == []
    await keeps.close()
    assert await messages(redis_url, "other") == ["not yet"]


async def test_an_outage_stops_nobody_drops_what_is_too_much_and_warns_once(
    own_server: Server, caplog, loud, monkeypatch
):
    monkeypatch.setattr(logs_kept, "MOST_LINES", 50)
    link = Link(own_server.url)
    await link.connect()
    store = Store(link, shards=16, retention_ms=LONGER)
    await runs.create(store, "r")
    keeps = keeper(store)
    own_server.kill()
    for number in range(40):
        as_run(keeps, lambda number=number: say(f"{number}a", f"{number}b", f"{number}c"))
        keeps.flush()
    assert keeps.dropped == 70
    own_server.start()
    await until(lambda: "kept again; 70 were not so far" in caplog.text)
    warned = [record for record in caplog.records if record.name == "agnt5.logs"]
    assert len(warned) == 2
    assert not any(hasattr(record, "agnt5") for record in warned)
    as_run(keeps, lambda: say("after it"))
    await keeps.close()
    told = await messages(own_server.url)
    assert (told[0], told[-1], len(told)) == ("0a", "after it", 51)
    await link.close()


async def test_a_store_that_is_closed_breaks_no_code(store, caplog, loud):
    await runs.create(store, "r")
    link = Link(store_url := f"redis://{store.link.address}/0")
    await link.connect()
    keeps = keeper(Store(link, shards=16, retention_ms=LONGER))
    await link.close()
    for _ in range(3):
        as_run(keeps, lambda: say("said"))
        await keeps.close()
    assert keeps.dropped == 3
    assert [record.levelname for record in caplog.records if record.name == "agnt5.logs"] == ["WARNING"], store_url


# ---- a line


def record(message: str = "said", **attributes: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": message, **attributes})


@pytest.mark.parametrize(
    "told",
    [
        record("x" * 100_000),
        record("ä€😀\n" * 20_000),
        record(many={str(n): n for n in range(5000)}),
        record(**{f"field_{n}": "y" * 50 for n in range(500)}),
        record("z" * 9000, exc_text="Traceback\n" + "t" * 50_000 + "\nValueError: end"),
    ],
    ids=["message", "wide", "one field", "fields", "exception"],
)
def test_a_long_line_is_cut_and_stays_json(told):
    data = line_of(told)
    assert len(data) <= LINE_BYTES
    line = json.loads(data)
    assert line["level"] == "INFO"
    assert line["message"][:4] == told.getMessage()[:4]
    assert line["exception"].endswith("ValueError: end") == bool(told.exc_text)


async def test_lines_are_read_by_level_and_number(store, redis_url, loud):
    await runs.create(store, "r")
    keeps = keeper(store)
    logging.addLevelName(25, "NOTICE")
    for level in (20, 30, 25, 40):
        as_run(keeps, lambda level=level: say(str(level), level=level, extra={"size": level}))
    await keeps.close()
    async with AsyncClient(redis_url) as client:
        found = await client.logs("r")
        assert [(one.message, one.level, one.fields, one.attempt) for one in found] == [
            ("20", "INFO", {"size": 20}, 1), ("30", "WARNING", {"size": 30}, 1), ("25", "NOTICE", {"size": 25}, 1),
            ("40", "ERROR", {"size": 40}, 1),
        ]  # fmt: skip
        assert [one.message for one in await client.logs("r", limit=2)] == ["25", "40"]
        assert [one.message for one in await client.logs("r", level="warning")] == ["30", "25", "40"]
        with pytest.raises(InvalidInputError, match="level 'loud'"):
            await client.logs("r", level="loud")
        with pytest.raises(InvalidInputError, match="limit 0"):
            await client.logs("r", limit=0)
        with pytest.raises(RunNotFoundError):
            await client.logs("never")

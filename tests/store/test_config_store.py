"""configure, and the copy that processes keep: one change is one change, everybody hears of it, nothing breaks it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from support.waiting import until

from agnt5 import AsyncClient, Client, ConfigNotFoundError, InvalidInputError
from agnt5.client.doctor import examine
from agnt5.contracts import flags
from agnt5.store import config, keys
from agnt5.store.config import ConfigCopy
from agnt5.store.link import Link
from agnt5.store.store import Store
from agnt5.store.subscriber import Subscriber

ONE, TWO = b'{"value":1}', b'{"value":2}'


def put(store: Store, key: str, rule: bytes, operation: str, comment: str = ""):
    return store.configure(key, rule, operation=operation, who="ann", comment=comment)


async def test_a_change_is_numbered_recorded_and_told(store: Store, admin):
    heard: list[bytes] = []
    mail = Subscriber(store.link.address, lambda _, message: heard.append(message))
    await mail.connect()
    await mail.subscribe(keys.CONFIG_CHANNEL)
    assert await put(store, "tax", ONE, "a", "a start") == 1
    assert await put(store, "tax", TWO, "b") == 2
    assert await put(store, "tax", b"", "c") == 3
    assert await put(store, "tax", b"", "d") is None
    assert admin.hgetall(keys.config()) == {b"~version": b"3"}
    told = await config.changes(store.link, key=None, limit=10)
    assert [(one.version, one.key, one.old, one.new, one.who, one.comment) for one in told] == [
        (3, "tax", '{"value":2}', "", "ann", ""),
        (2, "tax", '{"value":1}', '{"value":2}', "ann", ""),
        (1, "tax", "", '{"value":1}', "ann", "a start"),
    ]
    await until(lambda: len(heard) == 3)
    assert heard == [b'1\ntax\n{"value":1}', b'2\ntax\n{"value":2}', b"3\ntax\n"]
    await mail.close()


async def test_a_repeated_change_is_one_change(store: Store, admin):
    assert await put(store, "tax", ONE, "a") == 1
    assert await put(store, "tax", TWO, "b") == 2
    assert await put(store, "tax", ONE, "a") == 2  # its reply was lost; it does not undo what came after it
    assert admin.hget(keys.config(), "tax") == TWO
    assert admin.xlen(keys.config_log()) == 2
    assert 0 < admin.pttl(keys.prefix(0) + "configops") <= 86_400_000


async def test_operations_are_forgotten_after_a_day(store: Store, admin):
    ops = keys.prefix(0) + "configops"
    await put(store, "tax", ONE, "a")
    admin.zadd(ops, {"old": 1})
    await put(store, "tax", TWO, "b")
    assert admin.zrange(ops, 0, -1) == [b"a", b"b"]


async def test_history_and_keys_are_bounded(store: Store, admin, monkeypatch):
    monkeypatch.setattr(config, "KEPT", 5)
    monkeypatch.setattr("agnt5.store.store.MOST_KEYS", 3)
    for number in range(9):
        await put(store, f"k{number % 3}", ONE, str(number))
    assert admin.xlen(keys.config_log()) == 5
    with pytest.raises(InvalidInputError, match="'k9' was not set: there are"):
        await put(store, "k9", ONE, "9")
    assert await put(store, "k0", TWO, "10") == 10
    assert admin.hlen(keys.config()) == 4


async def test_history_of_a_key_is_found_behind_thousands_of_others(store: Store):
    await put(store, "rare", ONE, "rare")
    await asyncio.gather(*(put(store, f"k{number}", ONE, str(number)) for number in range(1200)))
    assert [one.key for one in await config.changes(store.link, key="rare", limit=5)] == ["rare"]
    assert len(await config.changes(store.link, key=None, limit=700)) == 700


# ---- the copy


async def test_publications_are_taken_in_order_and_gaps_are_noticed(store: Store):
    changed: list[list[str]] = []
    copy = ConfigCopy(store.link, changed.append)
    await put(store, "a", ONE, "1")
    await copy.load()
    assert (copy.version, copy.rules["a"].value) == (1, 1)
    assert copy.hear(b"2\na\n" + TWO)
    assert (copy.version, copy.rules["a"].value) == (2, 2)
    assert copy.hear(b"2\na\n" + TWO)  # again
    assert not copy.hear(b"4\nb\n" + TWO)
    assert not copy.hear(b"1\na\n" + ONE)  # the server came back older
    assert copy.hear(b"3\na\n")
    assert dict(copy.rules) == {}
    assert changed == [["a"], ["a"], ["a"]]


async def test_a_publication_that_cannot_be_read_takes_the_place_of_what_was_set(store: Store):
    copy = ConfigCopy(store.link)
    await copy.load()
    assert copy.hear(b"1\na\n" + ONE)
    assert copy.hear(b"2\na\n{")
    assert (dict(copy.rules), list(copy.broken)) == ({}, ["a"])
    assert copy.hear(b"3\na\n")
    assert copy.broken == {}


async def test_thousands_of_keys_are_loaded_and_changed(store: Store):
    copy = ConfigCopy(store.link)
    await asyncio.gather(*(put(store, f"k{number}", ONE, str(number)) for number in range(3000)))
    await copy.load()
    assert (len(copy.rules), copy.version) == (3000, 3000)
    assert all(copy.hear(b"%d\nk%d\n" % (3001 + number, number) + TWO) for number in range(3000))
    assert {rule.value for rule in copy.rules.values()} == {2}


async def test_what_was_missed_is_found_by_the_version(store: Store, admin):
    copy = ConfigCopy(store.link)
    await copy.load()
    await put(store, "a", ONE, "1")
    await asyncio.gather(copy.refresh(), copy.refresh(), copy.refresh())
    assert copy.rules["a"].value == 1
    admin.flushall()  # and one that came back empty
    await copy.refresh()
    assert (dict(copy.rules), copy.version) == ({}, 0)


async def test_an_unchanged_version_costs_one_small_read(store: Store):
    copy = ConfigCopy(store.link)
    await copy.load()
    before = store.link.calls
    await copy.refresh()
    assert store.link.calls == before + 1


@pytest.mark.parametrize(
    "text",
    [b"{", b"true", b'{"valeu":1}', b"\xff\xfe", b'{"value":NaN}', b'{"value":"' + b"x" * 70_000 + b'"}', b"[" * 5000],
)
async def test_what_somebody_wrote_by_hand_is_left_out_and_told_once(store: Store, admin, caplog, text):
    await put(store, "good", ONE, "1")
    admin.hset(keys.config(), mapping={"bad": text, b"\xff": ONE, "a b": ONE})
    copy = ConfigCopy(store.link)
    with caplog.at_level(logging.WARNING, "agnt5.config"):
        await copy.load()
        await copy.load()
    assert list(copy.rules) == ["good"]
    assert sum("'bad' in Redis is left out" in record.getMessage() for record in caplog.records) == 1
    assert "bad" in copy.broken
    await put(store, "bad", TWO, "2")
    await copy.refresh()
    assert copy.rules["bad"].value == 2
    assert "bad" not in copy.broken


async def test_a_key_of_another_sort_is_told_and_what_was_known_counts(store: Store, admin, caplog):
    await put(store, "good", ONE, "1")
    copy = ConfigCopy(store.link)
    await copy.load()
    admin.delete(keys.config())
    admin.set(keys.config(), "mine")
    await copy.refresh()
    await copy.load()
    assert list(copy.rules) == ["good"]
    assert "config was not read, what was known counts" in caplog.text


async def test_while_redis_is_away_what_is_known_stays(own_server):
    link = Link(own_server.url)
    await link.connect()
    store = Store(link, shards=16, retention_ms=60_000)
    await put(store, "a", ONE, "1")
    copy = ConfigCopy(link)
    await copy.load()
    own_server.kill()
    tries = [asyncio.create_task(copy.refresh()) for _ in range(5)]
    await asyncio.sleep(0)
    assert copy.rules["a"].value == 1
    assert sum(task.done() for task in tries) == 4  # one waits for all
    own_server.restart()
    await asyncio.gather(*tries)
    assert copy.rules["a"].value == 1
    await link.close()


async def test_the_doctor_tells_of_rules_that_nobody_can_read(store: Store, admin):
    await put(store, "good", ONE, "1")
    admin.hset(keys.config(), "bad", "{")
    found = [one for one in await examine(store) if one.code == "config-unreadable"]
    assert [(one.severity, "config 'bad' is no rule" in one.found) for one in found] == [("warning", True)]


# ---- clients


async def test_a_client_sets_lists_and_explains(redis_url):
    async with AsyncClient(redis_url) as client:
        await client.set_config("tax.rate", 0.25, by="ann", comment="new law")
        await client.set_config("tax.new", True, rollout=25, otherwise=False, when={"Tenant": "acme"})
        await client.set_config("group", variants={"control": 1, "treatment": 3})
        assert [(one.key, one.text) for one in await client.configs()] == [
            ("group", "an experiment: control 25 %, treatment 75 %"),
            ("tax.new", "true (true or false) for 25 %, else false (true or false), only where tenant is acme"),
            ("tax.rate", "0.25 (a number)"),
        ]
        state = await client.config("tax.rate")
        assert (state.rule, state.changed_by, state.comment) == ({"value": 0.25}, "ann", "new law")
        assert state.changed_at is not None
        with pytest.raises(ConfigNotFoundError, match=r"'tax.rat' is not set in Redis; did you mean 'tax.rate'"):
            await client.config("tax.rat")
        assert await client.unset_config("tax.rate", by="bob")
        assert not await client.unset_config("tax.rate")
        assert [(one.by, one.old, one.new) for one in await client.config_history("tax.rate")] == [
            ("bob", {"value": 0.25}, None),
            ("ann", None, {"value": 0.25}),
        ]
        assert [one.version for one in await client.config_history(limit=2)] == [4, 3]
        answer = await client.explain_config("tax.new", unit="u1", headers={"TENANT": "acme"})
        place = flags.share("tax.new", "u1") * 100
        assert (answer.value, answer.source) == (place < 25, "redis")
        assert f"u1 is at {place:.2f} %" in answer.why
        other = await client.explain_config("tax.new", unit="u1", headers={}, default=7)
        assert (other.value, other.source) == (7, "default")


def test_a_change_is_repeated_safely_by_its_operation(redis_url):
    with Client(redis_url) as client:
        client.set_config("a", 1, operation="deploy-7")
        client.set_config("a", 2)
        client.set_config("a", 1, operation="deploy-7")
        assert client.config("a").rule == {"value": 2}
        client.set_config("b", 1, operation="deploy-7")  # one deploy changes several keys
        assert client.config("b").rule == {"value": 1}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"key": "a b", "value": 1}, "config key 'a b'"),
        ({"key": "a", "value": None}, "unset the key"),
        ({"key": "a", "value": object()}, "config 'a'"),
        ({"key": "a", "value": float("nan")}, "config 'a'"),
        ({"key": "a", "value": "x" * 70_000}, "70,012 bytes of JSON, at most 65,536"),
        ({"key": "a", "value": 1, "rollout": 120}, "rollout is a percentage"),
        ({"key": "a", "variants": {"x": -1}}, "weight of variant 'x'"),
        ({"key": "a", "value": 1, "comment": "x" * 1001}, "comment is a text"),
    ],
)
async def test_what_cannot_be_set_is_refused_and_nothing_changes(redis_url, admin, given, says):
    async with AsyncClient(redis_url) as client:
        with pytest.raises(InvalidInputError, match=says):
            await client.set_config(given.pop("key"), given.pop("value", None), **given)
    assert not admin.exists(keys.config())

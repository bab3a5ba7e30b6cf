"""Asks: opened with their journal entry, closed once, by whichever of decision, due time and withdrawal is first."""

from __future__ import annotations

import pytest
import redis
from support import runs
from support.doctor import examine
from support.dump import dump
from support.waiting import until

from agnt5.contracts.errors import ApprovalNotFoundError, JournalLimitError, RunEndedError, RunNotFoundError
from agnt5.contracts.ids import shard_of
from agnt5.store import asks, browse, keys
from agnt5.store.link import Link
from agnt5.store.replies import More
from agnt5.store.store import Batch, Store

FAR = 9_000_000_000_000
SHARD = shard_of("r", 16)
EVE = {"approver": "eve", "roles": ["intern"]}


async def asked(store: Store, **options) -> None:
    """A parked run that waits for people."""
    await runs.parked(store, "r", runs.asking(**options))


async def status(store: Store, run_id: str = "r", ref: str = "0.1") -> str | None:
    value = await store.link.call("HGET", keys.ask(run_id, ref, store.shards), "status")
    return None if value is None else value.decode()


def listed(admin: redis.Redis) -> list[str]:
    return [member.decode() for member in admin.zrange(keys.inbox(SHARD), 0, -1)]


def timers(admin: redis.Redis) -> list[str]:
    return [member.decode() for member in admin.zrange(keys.timers(SHARD), 0, -1)]


async def fire(store: Store):
    return await store.fire(SHARD, limit=100, timeout_error=runs.LATE)


# ---- opening and withdrawing


async def test_an_ask_is_opened_with_its_journal_entry(store, admin):
    await asked(store, due_ms=FAR, roles=["a", "b"], people=["ann"], quorum=2, barred="rob")
    assert listed(admin) == ["r|0.1"]
    assert timers(admin) == ["a|r|0.1"]
    (ask,) = await asks.of_run(store, "r")
    assert (ask.run_id, ask.ref, ask.handler, ask.status, ask.by) == ("r", "0.1", runs.HANDLER, "open", "")
    assert ask.request == (await store.entries("r", 0))[1]
    assert (ask.votes, ask.closed_ms) == ([], None)
    assert examine(admin) == []


async def test_asking_again_for_what_is_open_or_decided_changes_nothing(store, admin):
    own = await runs.owned(store)
    await store.append(own, runs.asking(due_ms=FAR))
    for _ in range(2):
        before = dump(admin)
        await store.append(own, Batch(asks=[runs.ask(quorum=5)]))
        after = dump(admin)
        assert {key for key in after if after[key] != before[key]} == {keys.run("r", 16)}  # the number of the write
        await runs.decide(store)
    assert await status(store) == "approved"


async def test_a_withdrawn_ask_is_gone_from_inbox_and_timers_and_takes_no_decision(store, admin):
    own = await runs.owned(store)
    await store.append(own, runs.asking(due_ms=FAR))
    await store.append(own, Batch(unasks=[1]))
    assert (listed(admin), timers(admin)) == ([], [])
    verdict = await runs.decide(store)
    assert (verdict.word, verdict.status, verdict.by) == ("closed", "withdrawn", "")
    await store.append(own, Batch(asks=[runs.ask()]))  # its own code took it back: it stays so
    assert await status(store) == "withdrawn"


async def test_what_is_refused_for_the_journals_length_is_not_asked(store, admin):
    small = Store(store.link, shards=16, retention_ms=60_000, journal_limit=1)
    own = await runs.owned(store)
    with pytest.raises(JournalLimitError):
        await small.append(own, runs.asking())
    assert listed(admin) == []
    assert await status(store) is None


# ---- deciding


async def test_a_decision_is_one_entry_and_wakes_the_run(store, admin):
    await asked(store, due_ms=FAR)
    verdict = await runs.decide(store)
    assert (verdict.word, verdict.status, verdict.by) == ("ok", "approved", "ann")
    assert [dispatch.run_id for dispatch in verdict.out] == ["r"]
    [*_, entry] = await runs.events(store, "r")
    assert {name: entry[name] for name in ("e", "seq", "approver", "decision", "comment")} == {
        "e": "ApprovalDecided", "seq": 1, "approver": "ann", "decision": "approved", "comment": "c",
    }  # fmt: skip
    assert verdict.at_ms == entry["at"]
    assert await runs.status(store, "r") == "queued"
    assert (listed(admin), timers(admin)) == ([], [])
    (ask,) = await asks.of_run(store, "r")
    assert ask.votes == [(await store.entries("r", 0))[-1]]


async def test_a_second_decision_is_told_of_the_first(store):
    await asked(store)
    await runs.decide(store, decision="rejected")
    verdict = await runs.decide(store, operation="2", approver="bob")
    assert (verdict.word, verdict.status, verdict.by) == ("closed", "rejected", "ann")
    assert await runs.names(store, "r") == ["RunStarted", "ApprovalRequested", "ApprovalDecided", "DecisionRefused"]


@pytest.mark.parametrize(
    ("options", "changed", "word"),
    [
        ({"roles": ["admin", "ops"]}, {"roles": ["intern"]}, "role"),
        ({"roles": ["admin", "ops"]}, {"roles": []}, "role"),
        ({"roles": ["admin"]}, {"roles": ["admi", "dmin", "a.*", "."]}, "role"),
        ({"roles": ["%a+"]}, {"roles": ["admin"]}, "role"),
        ({"people": ["bob", "cem"]}, {}, "assignee"),
        ({"people": ["ann-marie"]}, {}, "assignee"),
        ({"barred": "ann"}, {}, "self"),
        ({"roles": ["admin"], "people": ["bob"], "barred": "ann"}, {}, "role"),
        ({"people": ["ann"], "barred": "ann"}, {}, "self"),
    ],
)
async def test_who_may_not_is_refused_and_wakes_nobody(store, admin, options, changed, word):
    await asked(store, **options)
    verdict = await runs.decide(store, **changed)
    assert (verdict.word, verdict.status, verdict.out) == (word, "open", [])
    [*_, entry] = await runs.events(store, "r")
    assert (entry["e"], entry["seq"], entry["approver"], entry["why"]) == ("DecisionRefused", 1, "ann", word)
    assert "comment" not in entry
    assert await runs.status(store, "r") == "waiting"
    assert await runs.field(store, "r", "seen") == "3"  # else the run would look like one that slept through an event
    assert listed(admin) == ["r|0.1"]


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"roles": ["admin", "ops"]}, {"roles": ["x", "ops"]}),
        ({"people": ["bob", "ann"]}, {}),
        ({"barred": "an"}, {}),
        ({}, {}),
    ],
)
async def test_who_may_is_taken(store, options, changed):
    await asked(store, **options)
    assert (await runs.decide(store, **changed)).word == "ok"


async def test_a_quorum_needs_as_many_different_people(store, admin):
    await asked(store, quorum=3)
    words = []
    for number, approver in enumerate(["ann", "ann", "bob", "ann", "bob"]):
        verdict = await runs.decide(store, operation=str(number), approver=approver)
        words.append((verdict.word, verdict.status))
        assert verdict.out == []
    assert words == [("ok", "open"), ("voted", "open"), ("ok", "open"), ("voted", "open"), ("voted", "open")]
    assert await runs.status(store, "r") == "waiting"
    assert await runs.field(store, "r", "seen") == "7"
    assert examine(admin) == []
    verdict = await runs.decide(store, operation="9", approver="cem")
    assert (verdict.word, verdict.status, verdict.by) == ("ok", "approved", "cem")
    names = await runs.names(store, "r")
    assert (names.count("ApprovalVoted"), names.count("ApprovalDecided"), names[-1]) == (2, 1, "ApprovalDecided")


async def test_one_rejection_is_enough(store):
    await asked(store, quorum=3)
    await runs.decide(store)
    verdict = await runs.decide(store, operation="2", approver="bob", decision="rejected")
    assert (verdict.status, verdict.by) == ("rejected", "bob")


async def test_an_owner_hears_of_votes_and_refusals_in_the_order_of_its_journal(store):
    own = await runs.owned(store)
    await store.append(own, runs.asking(quorum=2, roles=["admin"]))
    for number, roles in enumerate([["admin"], ["intern"]]):
        await runs.decide(store, operation=str(number), approver=f"p{number}", roles=roles)
    assert await store.park(own, seen=2) == More(4)
    assert await store.park(own, seen=4) == []


async def test_a_refusal_marks_nothing_as_seen_that_was_not(store):
    """The run sleeps on an event that its last owner has not read: it is queued for it, and stays so."""
    await asked(store, roles=["admin"])
    await store.deliver("r", operation="s", body=runs.body("SignalReceived", name="s"))
    await runs.decide(store, roles=["intern"])
    assert await runs.field(store, "r", "seen") == "2"
    assert await runs.status(store, "r") == "queued"


async def test_a_refusal_counts_no_event_as_seen_that_a_refused_run_still_has_to_see(store):
    """Its next owner would else believe that somebody has acted on it."""
    own = await runs.owned(store)
    await store.append(own, runs.asking(roles=["admin"]))
    await store.refuse(own, seen=1, trouble="the code does not fit")
    await runs.decide(store, roles=["intern"])
    assert await runs.status(store, "r") == "waiting"
    assert await runs.field(store, "r", "seen") == "1"


async def test_what_cannot_be_decided_is_told_apart(store):
    with pytest.raises(RunNotFoundError):
        await runs.decide(store, "none")
    await asked(store)
    for ref in ("0.2", "1.1", "", "x"):
        with pytest.raises(ApprovalNotFoundError, match=f"asks for no approval {ref}"):
            await runs.decide(store, ref=ref)
    await store.finish(await runs.claim_woken(store), "completed", b"1")
    with pytest.raises(RunEndedError, match="completed"):
        await runs.decide(store)


async def test_after_the_end_the_decision_that_was_made_is_told(store):
    await asked(store)
    await runs.decide(store)
    await store.finish(await runs.claim(store, "r"), "completed", b"1")
    verdict = await runs.decide(store, operation="2", approver="bob")
    assert (verdict.word, verdict.by) == ("closed", "ann")
    assert (await runs.names(store, "r"))[-1] == "RunCompleted"


async def test_refusals_leave_half_of_the_journal_to_the_run(store):
    """Who has no role could else fill it up, and the run would fail for it."""
    small = Store(store.link, shards=16, retention_ms=60_000, journal_limit=20)
    await asked(store, roles=["admin"])
    for number in range(30):
        assert (await runs.decide(small, operation=str(number), **EVE)).word == "role"
    assert await runs.length(store, "r") == 10
    assert (await runs.decide(small, operation="x", roles=["admin"])).word == "ok"


async def test_a_hundred_refusals_of_one_ask_are_kept(store):
    await asked(store, roles=["admin"])
    for number in range(103):
        assert (await runs.decide(store, operation=str(number), **EVE)).word == "role"
    assert (await runs.names(store, "r")).count("DecisionRefused") == 100


# ---- decision and due time


async def test_a_decision_that_comes_first_leaves_no_timeout(store):
    await asked(store, due_ms=FAR)
    await runs.decide(store)
    await store.link.call("ZADD", keys.timers(SHARD), 1, "a|r|0.1")  # were it still set, all the same
    assert (await fire(store)).out == []
    assert (await runs.names(store, "r"))[2:] == ["ApprovalDecided"]
    assert await status(store) == "approved"


async def test_a_timeout_that_comes_first_leaves_no_decision(store, admin):
    await asked(store, due_ms=1)
    fired = await fire(store)
    assert [dispatch.run_id for dispatch in fired.out] == ["r"]
    verdict = await runs.decide(store)
    assert (verdict.word, verdict.status, verdict.by) == ("closed", "timeout", "")
    events = await runs.events(store, "r")
    assert [(event["e"], event.get("decision")) for event in events[2:]] == [
        ("ApprovalDecided", "timeout"),
        ("DecisionRefused", "approved"),
    ]
    assert listed(admin) == []


async def test_past_its_due_time_nobody_decides_though_no_beat_has_come_to_it(store, admin):
    await asked(store, due_ms=1)
    verdict = await runs.decide(store)
    assert (verdict.word, verdict.status) == ("closed", "timeout")
    assert [dispatch.run_id for dispatch in verdict.out] == ["r"]
    assert (await fire(store)).count == 0
    assert (await runs.names(store, "r")).count("ApprovalDecided") == 1
    assert examine(admin) == []


async def test_who_may_not_decide_is_no_reason_to_time_out_early(store):
    await asked(store, due_ms=FAR, roles=["admin"])
    assert (await fire(store)).count == 0
    await runs.decide(store, **EVE)
    assert await status(store) == "open"


# ---- ends


async def ended(store: Store, how: str) -> None:
    own = await runs.claim_woken(store)
    match how:
        case "reaped":
            await store.link.call("HSET", keys.run("r", 16), "crashes", 2, "danger", 1)
            await store.reap(SHARD, own.host, limit=10, error=runs.LOST)
        case "cancelled from outside":
            await store.hand_back(own, seen=2)
            await store.link.call("HDEL", keys.run("r", 16), "started")
            await store.cancel("r", reason=b'"x"')
        case "late":
            await store.hand_back(own, seen=2)
            await store.link.call("ZADD", keys.timers(SHARD), 1, "d|r")
            await fire(store)
        case _:
            await store.finish(own, how, b'"x"')


@pytest.mark.parametrize(
    "how", ["completed", "failed", "timeout", "cancelled", "reaped", "cancelled from outside", "late"]
)
async def test_no_ask_outlives_its_run(store, admin, how):
    await asked(store, due_ms=FAR)
    await ended(store, how)
    assert (await runs.status(store, "r")) in {"completed", "failed", "cancelled"}
    assert (listed(admin), timers(admin)) == ([], [])
    assert await status(store) == "withdrawn"
    assert admin.pttl(keys.ask("r", "0.1", 16)) > 0
    assert admin.pttl(keys.asks("r", 16)) > 0
    assert examine(admin) == []


async def test_a_child_that_asks_ends_with_its_parent(store, admin):
    parent = await runs.owned(store)
    await store.append(parent, Batch(children=[runs.child("r~1", 1)]))
    kid = await runs.claim(store, "r~1")
    await store.append(kid, runs.asking(due_ms=FAR))
    await store.finish(parent, "cancelled", b'"x"')
    await store.finish(kid, "cancelled", b'"x"')
    assert (listed(admin), timers(admin)) == ([], [])
    assert await status(store, "r~1") == "withdrawn"


async def test_a_new_generation_takes_no_ask_along(store, admin):
    own = await runs.owned(store)
    await store.append(own, runs.asking(due_ms=FAR))
    await store.renew(own, seen=2, body=runs.body("RunStarted", generation=1), carried=[])
    assert (listed(admin), timers(admin), await asks.of_run(store, "r")) == ([], [], [])
    assert admin.pttl(keys.ask("r", "0.1", 16)) > 0
    assert (await runs.decide(store)).status == "withdrawn"
    assert await runs.names(store, "r") == ["RunStarted"]  # what is told of an old request is not in the new journal
    await store.append(own, runs.asking(due_ms=FAR))
    assert listed(admin) == ["r|1.1"]
    assert examine(admin) == []


async def test_a_run_that_was_opened_again_asks_again_what_its_end_had_closed(store, admin):
    own = await runs.owned(store)
    await store.append(own, Batch(bodies=[runs.ask(1).body, runs.ask(2).body], asks=[runs.ask(1), runs.ask(2)]))
    await store.append(own, Batch(unasks=[2]))
    await store.finish(own, "failed", b"{}")
    await store.reopen("r")
    assert admin.pttl(keys.ask("r", "0.1", 16)) == -1
    assert admin.pttl(keys.asks("r", 16)) == -1
    again = await runs.claim(store, "r", nonce="m")
    await store.append(again, Batch(asks=[runs.ask(1), runs.ask(2)]))
    assert (await status(store), await status(store, ref="0.2")) == ("open", "withdrawn")
    assert listed(admin) == ["r|0.1"]
    assert (await runs.decide(store)).word == "ok"


async def test_runs_that_ask_nobody_pay_nothing(store, admin):
    own = await runs.owned(store)
    await store.append(own, Batch(timers=[(1, FAR)]))
    await store.finish(own, "completed", b"1")
    assert not [key for key in dump(admin) if ":ask" in key or key.endswith("inbox")]
    assert await runs.field(store, "r", "asks") is None


async def test_after_retention_no_key_of_an_ask_is_left(admin, redis_url):
    link = Link(redis_url)
    await link.connect()
    store = Store(link, shards=16, retention_ms=20)
    own = await runs.owned(store)
    await store.append(own, runs.asking(due_ms=FAR))
    await runs.decide(store, roles=["x"])
    await store.renew(own, seen=3, body=runs.body("RunStarted", generation=1), carried=[])
    await store.append(own, runs.asking(due_ms=FAR, roles=["admin"]))
    await runs.decide(store, ref="1.1")
    await store.finish(own, "completed", b"1")
    await until(lambda: {key.partition("}:")[2] for key in dump(admin)} <= {"ended", "queues", "claimed"})
    await link.close()


# ---- reading


async def test_the_inbox_is_read_oldest_first_over_all_shards_and_pages(store, admin, monkeypatch):
    monkeypatch.setattr(browse, "LIST_PAGE", 3)
    for number in range(25):
        await runs.parked(store, f"r{number}", runs.asking())
        admin.zadd(keys.inbox(shard_of(f"r{number}", 16)), {f"r{number}|0.1": 1000 + number}, xx=True)
    await runs.decide(store, "r7")
    admin.zadd(keys.inbox(3), {"gone|0.1": 1})
    found = [ask.run_id async for ask in asks.inbox(store)]
    assert found == [f"r{number}" for number in range(25) if number != 7]

"""People decide: on real workers and beats, with many at once, with nobody there, and against those who may not."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.dump import dump, keys_of
from support.secret_values import made
from support.waiting import until_sync

from agnt5 import (
    ApprovalDecidedError,
    ApprovalNotFoundError,
    ApprovalRefusedError,
    AsyncClient,
    InvalidInputError,
    RunCancelledError,
    RunEndedError,
    RunFailedError,
    RunNotFoundError,
    TaskFailedError,
)
from agnt5.client.doctor import examine_with, repair_with
from agnt5.contracts.ids import shard_of
from agnt5.links import DecisionLinks
from agnt5.replay import events as ev
from agnt5.store import keys

HERE = Path(__file__).parent
SECRET = made("approval links")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    settings = {"AGNT5_LINK_SECRET": SECRET, "AGNT5_WEB_URL": "https://flows.example/", "AGNT5_LINGER": "200ms"}
    with Cluster(["approving"], paths=[HERE], **settings) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


def asking(cluster: Cluster, handler: str = "ask", name: str = "deploy", requester: str = "", **given):
    """Start a run, and wait until it asks."""
    data = {"options": given} if handler in {"ask", "ask_and_remind"} else given or None
    run = cluster.client.start(f"approving.{handler}", data, requester=requester)
    until_sync(lambda: any(one.name == name for one in cluster.client.approvals(run_id=run.id)), 20.0)
    return run


def parked(cluster: Cluster, run) -> None:
    """Wait until no worker holds the run."""
    until_sync(lambda: run.status() == "waiting" and not cluster.field(run.id, "host"), 20.0)


def events_of(run, kind):
    return [event for event in run.history() if isinstance(event, kind)]


# ---- the ordinary way


def test_a_request_says_what_is_asked_of_whom(cluster):
    run = asking(
        cluster, payload={"v": 1}, required_roles=["admin", "ops"], assignee=["ann", "bob"], timeout=60, requester="rob"
    )
    state = cluster.client.approval(run.id, "deploy")
    assert (state.run_id, state.name, state.ref, state.handler) == (run.id, "deploy", "0.1", "approving.ask")
    assert (state.payload, state.required_roles, state.assignees) == ({"v": 1}, ["admin", "ops"], ["ann", "bob"])
    assert (state.quorum, state.form, state.requester, state.status) == (1, None, "rob", "open")
    assert (state.votes, state.decided_at) == ([], None)
    assert 55 < (state.due_at - state.requested_at).total_seconds() <= 60
    assert state in cluster.client.approvals(limit=500)
    run.cancel()


@pytest.mark.parametrize("decision", ["approved", "rejected"])
def test_the_first_decision_is_the_answer(cluster, decision):
    run = asking(cluster, required_roles=["admin", "ops"], timeout=3600)
    after = cluster.client.decide(run.id, "deploy", decision, approver="ann", roles=["dev", "ops"], comment="so be it")
    told = run.result(timeout=20)
    assert after.status == decision
    assert after.votes[0].at == after.decided_at
    assert told == {
        "decision": decision,
        "approved": decision == "approved",
        "approver": "ann",
        "comment": "so be it",
        "data": None,
        "votes": [["ann", decision, "so be it"]],
        "at": after.decided_at.isoformat(),
    }
    assert cluster.timers(run.id) == {}
    with pytest.raises(ApprovalDecidedError, match=rf"was {decision} by ann at \d{{4}}-.* UTC") as late:
        cluster.client.decide(run.id, "deploy", "approved", approver="bob", roles=["admin"])
    assert late.value.decision == decision


def test_without_a_decision_the_answer_is_timeout(cluster):
    run = asking(cluster, timeout=3600)
    cluster.hurry(run.id)
    told = run.result(timeout=20)
    assert (told["decision"], told["approver"], told["votes"]) == ("timeout", None, [])
    state = cluster.client.approval(run.id, "deploy")
    assert state.status == "timeout"
    with pytest.raises(ApprovalDecidedError, match="timed out at"):
        cluster.client.decide(run.id, "deploy", "approved", approver="ann")


def test_a_short_timeout_comes_by_itself(cluster):
    run = cluster.client.start("approving.ask", {"options": {"timeout": 0.3}})
    assert run.result(timeout=20)["decision"] == "timeout"


def test_a_run_that_waited_for_a_worker_gives_people_their_time_all_the_same(cluster):
    worker = cluster.nodes[0]
    worker.terminate()
    began_ms = cluster.now_ms()
    run = cluster.client.start("approving.ask", {"options": {"timeout": 0.5}})
    worker.restart()
    assert run.result(timeout=20)["decision"] == "timeout"
    (asked,) = events_of(run, ev.ApprovalRequested)
    assert cluster.now_ms() - began_ms > 500
    assert asked.due_ms - asked.at > 400


def test_two_of_three_have_to_approve(cluster):
    run = asking(cluster, assignee=["ann", "bob", "cem"], quorum=2)
    first = cluster.client.decide(run.id, "deploy", "approved", approver="ann", comment="fine")
    assert (first.status, [vote.approver for vote in first.votes]) == ("open", ["ann"])
    with pytest.raises(ApprovalRefusedError, match="ann has voted already; 2 different people") as again:
        cluster.client.decide(run.id, "deploy", "approved", approver="ann")
    assert again.value.reason == "voted"
    with pytest.raises(ApprovalRefusedError, match="for ann, bob, cem to decide, not for eve"):
        cluster.client.decide(run.id, "deploy", "approved", approver="eve")
    parked(cluster, run)
    assert cluster.client.decide(run.id, "deploy", "approved", approver="cem").status == "approved"
    assert run.result(timeout=20)["votes"] == [["ann", "approved", "fine"], ["cem", "approved", ""]]
    names = [type(event).__name__ for event in run.history()]
    assert names[1:-1] == [
        "ApprovalRequested", "ApprovalVoted", "DecisionRefused", "DecisionRefused", "ApprovalDecided",
    ]  # fmt: skip


def test_one_rejection_rejects_whatever_the_quorum(cluster):
    run = asking(cluster, quorum=3)
    cluster.client.decide(run.id, "deploy", "approved", approver="ann")
    assert cluster.client.decide(run.id, "deploy", "rejected", approver="bob").status == "rejected"
    told = run.result(timeout=20)
    assert (told["decision"], told["approver"], len(told["votes"])) == ("rejected", "bob", 2)


def test_several_are_asked_side_by_side(cluster):
    run = asking(cluster, "ask_side_by_side", name="money")
    cluster.client.decide(run.id, "money", "approved", approver="mo")
    cluster.client.decide(run.id, "legal", "approved", approver="lea")
    assert run.result(timeout=20) == ["lea", "mo"]


def test_a_decision_is_bound_to_the_request_that_was_seen(cluster):
    run = asking(cluster, "ask_twice", name="review")
    seen = cluster.client.approval(run.id, "review")
    cluster.client.decide(run.id, "review", "rejected", approver="ann")
    until_sync(lambda: cluster.client.approval(run.id, "review").payload == "draft 2", 20.0)
    with pytest.raises(ApprovalDecidedError, match="rejected by ann"):
        cluster.client.decide(run.id, "review", "approved", approver="bob", ref=seen.ref)
    assert cluster.client.approval(run.id, "review").status == "open"
    cluster.client.decide(run.id, "review", "approved", approver="bob")
    assert run.result(timeout=20) == ["rejected", "approved"]
    decided = cluster.client.approvals(run_id=run.id, status="decided")
    assert [(one.payload, one.status) for one in decided] == [("draft 1", "rejected"), ("draft 2", "approved")]


# ---- who may not


@pytest.mark.parametrize(
    ("options", "approver", "roles", "reason", "says"),
    [
        ({"required_roles": ["admin", "ops"]}, "eve", ["admins"], "role", "admin, ops is needed, eve has admins"),
        ({"required_roles": ["admin"]}, "eve", [], "role", "admin is needed, eve has none"),
        ({"required_roles": ["a|b"]}, "eve", ["a", "b", "A|B"], "role", "is needed"),
        ({"assignee": "ann"}, "an", [], "assignee", "for ann to decide, not for an"),
        ({}, "rob", [], "self", "rob asked for this run"),
        ({"required_roles": ["admin"]}, "rob", ["admin"], "self", "somebody else has to decide"),
    ],
)
def test_who_may_not_decide_is_refused_and_the_wait_goes_on(cluster, options, approver, roles, reason, says):
    run = asking(cluster, requester="rob", **options)
    parked(cluster, run)
    with pytest.raises(ApprovalRefusedError, match=re.escape(says)) as refused:
        cluster.client.decide(run.id, "deploy", "approved", approver=approver, roles=roles)
    assert refused.value.reason == reason
    (kept,) = events_of(run, ev.DecisionRefused)
    assert (kept.seq, kept.approver, kept.decision, kept.why) == (1, approver, "approved", reason)
    assert cluster.client.approval(run.id, "deploy").status == "open"
    assert run.status() == "waiting"
    assert not cluster.field(run.id, "host")  # a refusal wakes nobody
    cluster.sound()
    cluster.client.decide(run.id, "deploy", "approved", approver="ann", roles=["admin", "a|b"])
    assert run.result(timeout=20)["approver"] == "ann"


def test_with_self_approval_the_requester_may(cluster):
    run = asking(cluster, requester="rob", self_approval=True)
    cluster.client.decide(run.id, "deploy", "approved", approver="rob")
    assert run.result(timeout=20)["approver"] == "rob"


async def test_of_fifty_decisions_at_once_one_is_recorded_and_the_others_are_told_why(cluster):
    """I10. Half have not the role; of those who have, the first wins."""
    run = await asyncio.to_thread(asking, cluster, required_roles=["admin"])

    async def decide(number: int) -> str:
        async with AsyncClient(cluster.server.url) as client:
            roles = ["admin"] if number % 2 else ["intern"]
            try:
                await client.decide(run.id, "deploy", "approved", approver=f"p{number}", roles=roles)
            except ApprovalRefusedError as error:
                return error.reason
            except ApprovalDecidedError as error:
                return f"late: {error.decision}"
            return "recorded"

    told = await asyncio.gather(*(decide(number) for number in range(50)))
    counts = Counter(told)
    assert counts["recorded"] == 1
    assert counts.keys() <= {"recorded", "role", "late: approved"}
    assert all(word == "role" for word in told[::2] if not word.startswith("late"))
    assert "role" not in told[1::2]
    winner = f"p{told.index('recorded')}"
    assert (await asyncio.to_thread(run.result, 20))["approver"] == winner
    history = await asyncio.to_thread(run.history)
    assert [event.approver for event in history if isinstance(event, ev.ApprovalDecided)] == [winner]
    refused = {event.approver: event.why for event in history if isinstance(event, ev.DecisionRefused)}
    for number, word in enumerate(told):  # those before the run's end are in its history
        if word == "role":
            assert refused[f"p{number}"] == "role"
    assert set(refused.values()) <= {"role", "closed"}


@pytest.mark.parametrize("name", ["human.deploy", "human.approval", "human."])
def test_a_signal_cannot_forge_a_decision(cluster, name):
    run = asking(cluster, timeout=3600)
    with pytest.raises(InvalidInputError, match=r"human\."):
        run.signal(name, {"decision": "approved", "approver": "ann"})
    assert cluster.client.approval(run.id, "deploy").status == "open"
    run.cancel()


def test_another_workflow_cannot_forge_a_decision_either(cluster):
    run = asking(cluster, timeout=3600)
    forger = cluster.client.start("approving.forger", {"target": run.id})
    assert forger.result(timeout=20) == "tried"
    assert Counter(cluster.noted("forged"))["InvalidInputError human.deploy"] == 1
    assert cluster.client.approval(run.id, "deploy").status == "open"
    assert [type(event).__name__ for event in run.history()] == ["RunStarted", "ApprovalRequested"]
    run.cancel()


def test_a_hundred_refusals_are_kept_and_no_more(cluster):
    run = asking(cluster, required_roles=["admin"])
    for number in range(103):
        with pytest.raises(ApprovalRefusedError):
            cluster.client.decide(run.id, "deploy", "approved", approver=f"p{number}")
    assert len(events_of(run, ev.DecisionRefused)) == 100
    cluster.client.decide(run.id, "deploy", "approved", approver="ann", roles=["admin"])
    assert run.result(timeout=20)["approver"] == "ann"


def test_what_does_not_exist_is_told_apart(cluster):
    run = asking(cluster)
    decide = cluster.client.decide
    with pytest.raises(RunNotFoundError, match="nobody-here"):
        decide("nobody-here", "deploy", "approved", approver="ann")
    with pytest.raises(
        ApprovalNotFoundError, match=f"run {run.id} asks for no approval 'publish'; open there: 'deploy'"
    ):
        decide(run.id, "publish", "approved", approver="ann")
    with pytest.raises(ApprovalNotFoundError, match="9.9"):
        decide(run.id, "deploy", "approved", approver="ann", ref="9.9")
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.result(timeout=20)
    with pytest.raises(RunEndedError, match="cancelled"):
        decide(run.id, "deploy", "approved", approver="ann")
    assert cluster.client.approval(run.id, "deploy").status == "withdrawn"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"decision": "yes"}, "decision: expected 'approved' or 'rejected', found 'yes'"),
        ({"decision": "timeout"}, "decision: expected"),
        ({"approver": ""}, "approver: expected a person's name, found ''"),
        ({"approver": "ann\nadmin"}, "the character '\\\\n' is not allowed"),
        ({"approver": "x" * 201}, "at most 200 characters"),
        ({"roles": "admin"}, "roles: expected a list"),
        ({"roles": ["a\nadmin"]}, r"roles\[0\] 'a\\nadmin'"),
        ({"roles": [""]}, r"roles\[0\]: expected the name of a role"),
        ({"comment": None}, "comment: expected text"),
        ({"comment": "x" * 10_001}, "at most 10,000"),
        ({"data": object()}, "has no JSON form"),
        ({"data": "x" * 1_100_000}, "AGNT5_PAYLOAD_LIMIT"),
    ],
)
def test_a_decision_of_the_wrong_form_is_refused_before_anything_happens(cluster, changed, says):
    given = {"decision": "approved", "approver": "ann", "roles": (), "comment": "", "data": None} | changed
    with pytest.raises(InvalidInputError, match=says):
        cluster.client.decide("any", "deploy", given.pop("decision"), **given)


@pytest.mark.parametrize("given", [{"status": "decided"}, {"status": None}, {"status": "closed"}])
def test_a_list_that_cannot_be_given_is_refused(cluster, given):
    with pytest.raises(InvalidInputError, match="status"):
        cluster.client.approvals(**given)


# ---- forms


def test_a_form_is_filled_in_as_its_model_says(cluster):
    run = asking(cluster, "ask_for_money", name="spend")
    decide = cluster.client.decide
    for data, says in [
        ({"euros": 501, "reason": "new desk"}, "data.euros: 501 is greater than the maximum of 500"),
        ({"euros": "x", "reason": "new desk"}, "data.euros: 'x' is not of type 'integer'"),
        ({"euros": 5}, "data: 'reason' is a required property"),
        (None, "data: None is not of type 'object'"),
    ]:
        with pytest.raises(ApprovalRefusedError, match=re.escape(says)) as refused:
            decide(run.id, "spend", "approved", approver="bo", roles=["boss"], data=data)
        assert refused.value.reason == "form"
    assert cluster.client.approval(run.id, "spend").form["properties"]["euros"]["maximum"] == 500
    decide(run.id, "spend", "approved", approver="bo", roles=["boss"], data={"euros": 300, "reason": "new desk"})
    assert run.result(timeout=20)["data"] == "Spend(euros=300, reason='new desk')"


def test_who_rejects_need_not_fill_in_the_form(cluster):
    run = asking(cluster, "ask_for_money", name="spend")
    cluster.client.decide(run.id, "spend", "rejected", approver="bo", roles=["boss"], comment="no money")
    told = run.result(timeout=20)
    assert (told["decision"], told["data"], told["comment"]) == ("rejected", None, "no money")


def test_a_form_may_be_a_schema(cluster):
    run = asking(cluster, form={"type": "array", "items": {"enum": ["a", "b"]}})
    with pytest.raises(ApprovalRefusedError, match=re.escape("data[1]: 'c' is not one of ['a', 'b']")):
        cluster.client.decide(run.id, "deploy", "approved", approver="ann", data=["a", "c"])
    cluster.client.decide(run.id, "deploy", "approved", approver="ann", data=["a", "b"])
    assert run.result(timeout=20)["data"] == ["a", "b"]


# ---- telling people


def test_people_are_told_at_the_request_and_before_it_runs_out(cluster):
    run = asking(cluster, "ask_and_remind", assignee="ann", timeout=3600, reminders=[600, 1800])
    noticed = lambda: [line.removeprefix(f"{run.id} ") for line in cluster.noted("notices") if line.startswith(run.id)]
    until_sync(lambda: len(noticed()) == 1, 20.0)
    state = cluster.client.approval(run.id, "deploy")
    for number, before_s in enumerate([1800, 600], 1):
        name = f"t|{run.id}|0.{2 + 2 * number - 1}"
        until_sync(lambda: name in cluster.timers(run.id), 20.0)
        due_ms = state.due_at.timestamp() * 1000
        assert abs(due_ms - before_s * 1000 - cluster.timers(run.id)[name]) < 2
        cluster.admin.zadd(keys.timers(shard_of(run.id, 16)), {name: 1}, xx=True)
        cluster.admin.publish(keys.BEAT_CHANNEL, "1")
        until_sync(lambda: len(noticed()) == number + 1, 20.0)
    shown = {
        "run_id": run.id, "name": "deploy", "ref": "0.1", "payload": {"version": 7}, "required_roles": [],
        "assignees": ["ann"], "due_at": state.due_at.isoformat(),
    }  # fmt: skip
    assert noticed() == [f"{number} { {**shown, 'reminder': number} }" for number in range(3)]
    cluster.client.decide(run.id, "deploy", "approved", approver="ann")
    assert run.result(timeout=20)["decision"] == "approved"
    assert cluster.timers(run.id) == {}


def test_a_decision_comes_before_the_reminders_that_are_left(cluster):
    run = asking(cluster, "ask_and_remind", timeout=3600, reminders=[1800])
    until_sync(lambda: len(cluster.timers(run.id)) == 2, 20.0)
    cluster.client.decide(run.id, "deploy", "rejected", approver="ann")
    assert run.result(timeout=20)["decision"] == "rejected"
    assert cluster.timers(run.id) == {}


def link_of(cluster, run) -> str:
    return until_sync(
        lambda: next((line.split(" ")[1] for line in cluster.noted("links") if line.startswith(run.id)), None), 20.0
    )


def test_a_named_person_gets_a_link_and_no_journal_holds_it(cluster):
    run = asking(cluster, "ask_and_remind", assignee="ann", timeout=3600)
    url = link_of(cluster, run)
    assert url.startswith("https://flows.example/decide/")
    token = url.rpartition("/")[2]
    link = DecisionLinks(SECRET).read(token)
    assert (link.run_id, link.name, link.ref, link.approver, link.roles) == (run.id, "deploy", "0.1", "ann", ())
    assert link.expires_at == cluster.client.approval(run.id, "deploy").due_at
    assert token not in str(dump(cluster.admin))
    assert SECRET not in str(dump(cluster.admin))
    assert SECRET not in cluster.logs()
    assert token not in cluster.logs()
    cluster.client.decide(link.run_id, link.name, "approved", approver=link.approver, roles=link.roles, ref=link.ref)
    assert run.result(timeout=20)["approver"] == "ann"


@pytest.mark.parametrize(
    "options", [{}, {"assignee": ["ann", "bob"]}, {"assignee": "ann", "required_roles": ["admin"]}]
)
def test_there_is_no_link_where_nobody_is_named_or_a_role_is_to_be_proved(cluster, options):
    run = asking(cluster, "ask_and_remind", **options)
    assert link_of(cluster, run) == "None"
    run.cancel()


def test_who_cannot_be_told_can_decide_all_the_same(cluster):
    run = asking(cluster, "ask_with_a_broken_bell")
    until_sync(lambda: events_of(run, ev.TaskFailed), 20.0)
    cluster.client.decide(run.id, "deploy", "approved", approver="ann")
    assert run.result(timeout=20)["decision"] == "approved"


# ---- taking back, ending, dying


def test_a_wait_that_is_given_up_takes_the_request_back(cluster):
    run = cluster.client.start("approving.ask_for_a_while")
    until_sync(lambda: events_of(run, ev.SignalAwaited), 20.0)
    state = cluster.client.approval(run.id, "deploy")
    assert state.status == "withdrawn"
    assert cluster.client.approvals(run_id=run.id) == []
    assert cluster.timers(run.id) == {}
    with pytest.raises(ApprovalDecidedError, match="was withdrawn by its run") as late:
        cluster.client.decide(run.id, "deploy", "approved", approver="ann")
    assert late.value.decision == "withdrawn"
    run.signal("go", "on")
    assert run.result(timeout=20) == "on"
    cluster.sound()


def test_a_run_that_ends_leaves_nothing_open(cluster):
    run = asking(cluster, "ask_aside", name="aside")
    run.signal("end")
    run.result(timeout=20)
    assert cluster.client.approval(run.id, "aside").status == "withdrawn"
    assert run.id not in {one.run_id for one in cluster.client.approvals(limit=500)}
    cluster.sound()


def test_each_generation_asks_anew(cluster):
    run = asking(cluster, "ask_each_round", name="round", left=2)
    for left in (2, 1, 0):
        until_sync(lambda: [one.payload for one in cluster.client.approvals(run_id=run.id)] == [left], 20.0)
        (state,) = cluster.client.approvals(run_id=run.id, status=None)
        assert state.ref == f"{2 - left}.1"
        cluster.client.decide(run.id, "round", "approved", approver="ann", ref=state.ref)
    assert run.result(timeout=20) == "approved"
    cluster.sound()


def test_a_decision_is_taken_while_no_worker_lives(cluster):
    run = asking(cluster, required_roles=["admin"], timeout=3600)
    cluster.nodes[0].kill()
    try:
        with pytest.raises(ApprovalRefusedError):
            cluster.client.decide(run.id, "deploy", "approved", approver="eve")
        after = cluster.client.decide(run.id, "deploy", "approved", approver="ann", roles=["admin"])
        assert after.status == "approved"
        assert not run.status().ended
    finally:
        cluster.nodes[0].restart()
    assert run.result(timeout=30)["approver"] == "ann"
    cluster.sound()


@pytest.mark.chaos  # long
def test_workers_that_die_again_and_again_lose_no_request_and_no_decision(cluster):
    worker = cluster.nodes[0]
    runs = [cluster.client.start("approving.ask_twice") for _ in range(20)]
    mine, decided, kills = {run.id for run in runs}, set(), 0
    end = time.monotonic() + 60
    while len(decided) < 40 and time.monotonic() < end:
        for asked in cluster.client.approvals(limit=500):
            if asked.run_id in mine:
                cluster.client.decide(asked.run_id, "review", "approved", approver="ann", ref=asked.ref)
                decided.add((asked.run_id, asked.ref))
                if len(decided) % 10 == 0 and worker.alive:
                    kills += 1
                    worker.kill()
        if not worker.alive:
            worker.start()
    assert len(decided) == 40
    if not worker.alive:
        worker.restart()
    for run in runs:
        assert run.result(timeout=30) == ["approved", "approved"]
        names = [type(event).__name__ for event in run.history()]
        assert names.count("ApprovalRequested") == names.count("ApprovalDecided") == 2
    assert kills >= 2
    cluster.sound()


def test_a_run_that_timed_out_while_it_asked_asks_again_when_it_is_retried(cluster):
    options = {"timeout": 3600, "reminders": [1800]}
    run = cluster.client.start("approving.ask_and_remind", {"options": options}, run_timeout=3600)
    until_sync(lambda: len(cluster.timers(run.id)) == 3, 20.0)
    parked(cluster, run)
    cluster.admin.zadd(keys.timers(shard_of(run.id, 16)), {f"d|{run.id}": 1}, xx=True)
    cluster.admin.publish(keys.BEAT_CHANNEL, "1")
    with pytest.raises(RunFailedError, match="run timeout"):
        run.result(timeout=20)
    assert cluster.client.approval(run.id, "deploy").status == "withdrawn"
    run.retry()
    until_sync(lambda: cluster.client.approvals(run_id=run.id), 20.0)
    until_sync(lambda: sorted(member[0] for member in cluster.timers(run.id)) == ["a", "t"], 20.0)
    cluster.client.decide(run.id, "deploy", "approved", approver="ann")
    assert run.result(timeout=20)["approver"] == "ann"
    cluster.sound()


def test_an_approval_whose_record_was_lost_is_asked_again(cluster):
    run = asking(cluster, payload="the one", timeout=3600)
    parked(cluster, run)
    cluster.admin.delete(keys.ask(run.id, "0.1", 16))
    found = cluster.client.call(lambda client: examine_with(client, settle_s=0.01))
    assert any(finding.code == "approval-lost" and finding.run == run.id for finding in found)
    assert cluster.client.call(lambda client: repair_with(client, found)) >= 1
    until_sync(lambda: [one.payload for one in cluster.client.approvals(run_id=run.id)] == ["the one"], 20.0)
    cluster.client.decide(run.id, "deploy", "approved", approver="ann")
    assert run.result(timeout=20)["approver"] == "ann"
    cluster.sound()


# ---- what is wrong in the code


def test_only_a_workflow_can_ask(cluster):
    with pytest.raises(TaskFailedError, match="only a workflow can: 'approving.asks_itself' is a function") as failed:
        cluster.client.start("approving.asks_itself").result(timeout=20)
    assert failed.value.type == "WrongContextError"


def test_a_payload_without_measure_fails_the_run_and_says_so(cluster):
    run = cluster.client.start("approving.ask_at_length")
    with pytest.raises(TaskFailedError, match=r"payload and form of approval 'deploy': .*AGNT5_PAYLOAD_LIMIT"):
        run.result(timeout=20)


def test_after_retention_nothing_is_left():
    with Cluster(["approving"], paths=[HERE], AGNT5_RETENTION="1s") as cluster:
        cluster.start(cluster.worker(), cluster.beat())
        run = asking(cluster, "ask_each_round", name="round", left=1)
        cluster.client.decide(run.id, "round", "approved", approver="ann")
        until_sync(lambda: [one.ref for one in cluster.client.approvals(run_id=run.id)] == ["1.1"], 20.0)
        cluster.client.decide(run.id, "round", "approved", approver="ann")
        run.result(timeout=20)
        aside = asking(cluster, "ask_aside", name="aside")
        aside.cancel()
        until_sync(lambda: not keys_of(cluster.admin, run.id) and not keys_of(cluster.admin, aside.id), 20.0)
        members = [str(value) for key, (value, _) in dump(cluster.admin).items() if not key.endswith("ended")]
        assert not [one for one in members if run.id in one or aside.id in one]

"""Approvals in the machine: asked once, answered once, taken back when nobody waits, and the same in each replay."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from replay_kit import Run, names

from agnt5.contracts.approvals import ApprovalTerms
from agnt5.contracts.errors import NonDeterminismError
from agnt5.replay.commands import RequestApproval, WithdrawApproval
from agnt5.replay.events import ApprovalDecided, ApprovalVoted, DecisionRefused, RunStarted, TimerFired
from agnt5.replay.outcomes import Completed

TERMS = ApprovalTerms(name="deploy", payload={"v": 1}, required_roles=["admin"], due_ms=9_000_000)


async def ask(machine, _started):
    return await machine.request_approval(TERMS).future


def test_a_request_is_one_command_with_its_terms():
    run = Run(ask)
    assert run.start() == (RequestApproval(seq=1, terms=TERMS),)
    assert run.machine.waiting_on == ({"seq": 1, "kind": "approval", "name": "deploy", "due_ms": 9_000_000},)
    assert names(run.replay()[0].open_commands()) == ["RequestApproval 1"]


@pytest.mark.parametrize("decision", ["approved", "rejected"])
def test_the_decision_is_the_answer(decision):
    run = Run(ask)
    run.start()
    run.feed(ApprovalDecided(seq=1, decision=decision, approver="ann", comment="ok", data={"n": 1}))
    vote = {"decision": decision, "approver": "ann", "comment": "ok", "data": {"n": 1}, "at_ms": run.now_ms}
    assert run.outcome == Completed({**vote, "votes": [vote]})
    assert run.replay()[1].outcome == run.outcome


def test_a_timeout_is_an_answer_by_nobody():
    run = Run(ask)
    run.start()
    run.feed(ApprovalDecided(seq=1, decision="timeout"))
    assert run.outcome.result["decision"] == "timeout"
    assert run.outcome.result["approver"] == ""
    assert run.outcome.result["votes"] == []


def test_votes_are_gathered_and_code_sees_them_with_the_decision_only():
    run = Run(ask)
    run.start()
    assert run.feed(ApprovalVoted(seq=1, approver="ann", comment="fine")) == ()
    assert run.feed(DecisionRefused(seq=1, approver="eve", decision="approved", why="role")) == ()
    assert run.outcome is None
    run.feed(ApprovalDecided(seq=1, decision="rejected", approver="bob"))
    votes = [(vote["approver"], vote["decision"], vote["comment"]) for vote in run.outcome.result["votes"]]
    assert votes == [("ann", "approved", "fine"), ("bob", "rejected", "")]
    assert run.replay()[1].outcome == run.outcome


def test_a_wait_that_ran_out_of_time_takes_the_request_back_and_a_late_decision_is_nothing():
    async def program(machine, _started):
        try:
            async with asyncio.timeout(1):
                return await machine.request_approval(TERMS).future
        except TimeoutError:
            return await machine.await_signal("go")

    run = Run(program)
    timer = next(c for c in run.start() if type(c).__name__ == "StartTimer")
    assert names(run.fire(timer.seq, timer.due_ms)) == ["WithdrawApproval 2", "AwaitSignal 3"]
    run.feed(ApprovalDecided(seq=2, decision="approved", approver="ann"))
    run.signal("go", "went on")
    assert run.outcome == Completed("went on")


def test_a_cancelled_run_takes_its_request_back():
    run = Run(ask)
    run.start()
    assert run.cancel() == (WithdrawApproval(seq=1),)


def test_what_an_earlier_owner_has_taken_back_is_not_taken_back_again():
    async def program(machine, _started):
        try:
            async with asyncio.timeout(1):
                await machine.request_approval(TERMS).future
        except TimeoutError:
            await machine.await_signal("go")
            await machine.await_signal("end")

    run = Run(program)
    timer = next(c for c in run.start() if type(c).__name__ == "StartTimer")
    run.fire(timer.seq, timer.due_ms)
    assert run.replay()[1].commands == ()
    # the owner died in the middle: its commands behind the firing never came to the journal
    cut = [event for event in run.journal if type(event).__name__ != "SignalAwaited"]
    run.journal = cut
    assert names(run.replay()[1].commands) == ["WithdrawApproval 2", "AwaitSignal 3"]
    assert names(run.replay(processed=len(cut))[1].commands) == ["AwaitSignal 3"]


def test_two_requests_of_one_name_are_told_apart_by_their_number():
    async def program(machine, _started):
        answers = await asyncio.gather(*(machine.request_approval(TERMS).future for _ in range(2)))
        return [answer["approver"] for answer in answers]

    run = Run(program)
    run.start()
    run.feed(ApprovalDecided(seq=2, decision="approved", approver="bob"))
    run.feed(ApprovalDecided(seq=1, decision="approved", approver="ann"))
    assert run.outcome == Completed(["ann", "bob"])


def test_a_repeated_decision_changes_nothing():
    run = Run(ask)
    run.start()
    first = ApprovalDecided(seq=1, decision="approved", approver="ann")
    run.feed(first, replace(first, approver="bob"))
    assert run.outcome.result["approver"] == "ann"


def test_the_recorded_terms_count():
    run = Run(ask)
    run.start()

    async def later(machine, _started):
        await machine.request_approval(replace(TERMS, due_ms=5, required_roles=[], payload=None)).future

    (command,) = run.replay(later)[0].open_commands()
    assert command == RequestApproval(seq=1, terms=TERMS)


def test_code_that_asks_under_another_name_or_not_at_all_does_not_fit():
    run = Run(ask)
    run.start()

    async def renamed(machine, _started):
        await machine.request_approval(replace(TERMS, name="publish")).future

    async def sleeps(machine, _started):
        await machine.start_timer(5, "nap")

    with pytest.raises(NonDeterminismError, match='the journal has approval "deploy", the code asked approval "publ'):
        run.replay(renamed)
    with pytest.raises(NonDeterminismError, match='has approval "deploy", the code asked timer "nap"'):
        run.replay(sleeps)


def test_a_decision_of_what_was_never_asked_or_is_no_request_does_not_fit():
    async def sleeps(machine, _started):
        await machine.start_timer(5, "nap")

    run = Run(sleeps)
    run.start()
    with pytest.raises(NonDeterminismError, match=r"the decision of an approval, the code asked timer"):
        run.feed(ApprovalDecided(seq=1, decision="approved", approver="ann"))
    run = Run(ask)
    run.start()
    with pytest.raises(NonDeterminismError, match="the decision of an approval, the code has asked 1"):
        run.feed(ApprovalDecided(seq=2, decision="approved", approver="ann"))
    run = Run(ask)
    run.feed(RunStarted(handler="a.b", kind="workflow"))
    with pytest.raises(NonDeterminismError, match='the firing of a timer, the code asked approval "deploy"'):
        run.feed(TimerFired(seq=1))


@pytest.mark.parametrize(("claimed_ms", "due_ms"), [(0, 1_000_060), (999_999, 1_000_060), (1_500_000, 1_500_060)])
def test_a_timeout_begins_when_the_run_is_claimed_and_stands_from_then_on(claimed_ms, due_ms):
    """A run that waited for a worker for long must not ask what is past its due time already."""

    async def program(machine, _started):
        ref = machine.request_approval(TERMS, 60)
        return ref.terms.due_ms, await ref.future

    run = Run(program, claimed_ms=claimed_ms)
    (command,) = run.start()
    assert command.terms.due_ms == due_ms
    machine, answer = run.replay(claimed_ms=9_000_000_000_000)
    assert answer.commands == ()
    assert machine.open_commands() == (command,)


def test_a_request_after_a_patch_keeps_open_runs_on_their_old_path():
    async def old(machine, _started):
        return await machine.await_signal("approved")

    async def new(machine, _started):
        if machine.patched("ask-people"):
            return (await machine.request_approval(TERMS).future)["decision"]
        return await machine.await_signal("approved")

    run = Run(old)
    run.start()
    assert names(run.replay(new)[0].open_commands()) == ["AwaitSignal 1"]
    fresh = Run(new)
    assert names(fresh.start()) == ["MarkPatch 1", "RequestApproval 2"]

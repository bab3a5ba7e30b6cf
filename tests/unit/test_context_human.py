"""ctx.human.approval."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest
from contexts import T0, Flow, function_ctx
from pydantic import AfterValidator, BaseModel

from agnt5 import function
from agnt5.contracts.approvals import ApprovalTerms, Vote
from agnt5.contracts.errors import InvalidInputError, WrongContextError
from agnt5.registry import isolated
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev
from agnt5.replay.outcomes import Failed

ANN = ev.ApprovalDecided(at=T0 + 5, seq=1, decision="approved", approver="ann", comment="go", data={"n": 1})


def asked(**given):
    """A workflow that asks once, with these arguments."""

    async def fn(ctx):
        return await ctx.human.approval("deploy", **given)

    return Flow(fn, requester="rob")


def refused(**given) -> str:
    """What is said of arguments; nothing was asked then."""
    flow = asked(**given)
    assert flow.commands == []
    assert isinstance(flow.outcome, Failed)
    assert isinstance(flow.outcome.error, InvalidInputError)
    return str(flow.outcome.error)


# ---- the request


def test_nothing_but_a_name_asks_anybody_for_ever():
    assert asked().commands == [cmd.RequestApproval(seq=1, terms=ApprovalTerms(name="deploy", requester="rob"))]


def test_every_argument_reaches_the_request():
    flow = asked(
        payload={"v": (1, 2)}, timeout=timedelta(minutes=30), required_roles=("admin", "ops", "admin"), assignee="ann",
        form={"type": "object"}, self_approval=True,
    )  # fmt: skip
    terms = ApprovalTerms(
        name="deploy", payload={"v": [1, 2]}, due_ms=T0 + 1_800_000, required_roles=["admin", "ops"],
        assignees=["ann"], form={"type": "object"}, self_approval=True, requester="rob",
    )  # fmt: skip
    assert flow.commands == [cmd.RequestApproval(seq=1, terms=terms)]


def test_the_payload_is_as_it_was_when_it_was_asked():
    async def fn(ctx):
        payload = {"v": [1]}
        waiting = asyncio.ensure_future(ctx.human.approval("deploy", payload))
        await asyncio.sleep(0)
        payload["v"].append(2)
        return await waiting

    assert Flow(fn).commands[0].terms.payload == {"v": [1]}


def test_the_answer_has_all_that_was_said():
    flow = asked()
    flow.feed(ev.ApprovalVoted(at=T0 + 1, seq=1, approver="bob", data={"n": 0}))
    flow.feed(ANN)
    answer = flow.end()
    assert (answer.decision, answer.approved, answer.approver, answer.comment) == ("approved", True, "ann", "go")
    assert answer.data == {"n": 1}
    assert answer.decided_at == datetime.fromtimestamp((T0 + 5) / 1000, UTC)
    votes = [
        Vote("bob", "approved", "", datetime.fromtimestamp((T0 + 1) / 1000, UTC), {"n": 0}),
        Vote("ann", "approved", "go", answer.decided_at, {"n": 1}),
    ]
    assert answer.votes == votes


@pytest.mark.parametrize("decision", ["rejected", "timeout"])
def test_what_is_not_approved_is_not(decision):
    flow = asked(timeout=5)
    flow.feed(ev.ApprovalDecided(at=T0, seq=1, decision=decision))
    assert (flow.end().approved, flow.outcome.result.decision, flow.outcome.result.approver) == (False, decision, None)


def test_asyncio_timeout_takes_the_request_back():
    async def fn(ctx):
        try:
            async with asyncio.timeout(60):
                await ctx.human.approval("deploy", timeout=3600)
        except TimeoutError:
            return "gave up"

    flow = Flow(fn)
    timer = next(c for c in flow.commands if isinstance(c, cmd.StartTimer))
    assert flow.feed(ev.TimerFired(seq=timer.seq)) == [cmd.WithdrawApproval(seq=2)]
    assert flow.end() == "gave up"


# ---- forms


class Spend(BaseModel):
    euros: int
    reason: str = ""


def test_a_form_of_a_model_comes_back_as_its_instance():
    flow = asked(form=Spend)
    assert flow.commands[0].terms.form == Spend.model_json_schema()
    flow.feed(ev.ApprovalDecided(at=T0, seq=1, decision="approved", approver="ann", data={"euros": 5}))
    assert flow.end().data == Spend(euros=5)


def test_no_data_is_no_instance():
    flow = asked(form=Spend)
    flow.feed(ev.ApprovalDecided(at=T0, seq=1, decision="rejected", approver="ann"))
    assert flow.end().data is None


def test_what_only_the_model_can_check_fails_with_its_name():
    def even(value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value

    class Even(BaseModel):
        n: Annotated[int, AfterValidator(even)]

    flow = asked(form=Even)
    flow.feed(ev.ApprovalDecided(at=T0, seq=1, decision="approved", approver="ann", data={"n": 3}))
    assert "the data of ann does not fit Even" in str(flow.end().error)


# ---- telling people


@pytest.fixture
def bell():
    with isolated():

        @function(service="mail")
        async def bell(ctx, notice: dict): ...

        @function(service="mail")
        async def spread(ctx, run_id: str, name: str, ref: str, payload, required_roles, assignees, due_at, reminder,
                         link): ...  # fmt: skip

        @function(service="mail")
        async def deaf(ctx): ...

        yield {"bell": bell, "spread": spread, "deaf": deaf}


def notice(reminder: int, **changed) -> dict:
    due = (datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=1)).isoformat()
    told = {
        "run_id": "order-17", "name": "deploy", "ref": "0.1", "payload": None, "required_roles": [], "assignees": [],
        "due_at": due, "reminder": reminder, "link": None,
    }  # fmt: skip
    return told | changed


@pytest.mark.parametrize("form", ["bell", "spread", "address"])
def test_a_handler_is_told_at_the_request(bell, form):
    target = "mail.bell" if form == "address" else bell[form]
    flow = asked(notify=target)
    _, told = flow.commands
    assert told == cmd.StartTask(
        seq=2, handler="mail.spread" if form == "spread" else "mail.bell", id="order-17~2",
        input=notice(0, due_at=None), options={"notice": {"name": "deploy", "ref": "0.1", "approver": "", "due_ms": 0}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"assignee": "ann"}, "ann"),
        ({"assignee": ["ann"]}, "ann"),
        ({"assignee": ["ann", "bob"]}, ""),
        ({"assignee": "ann", "required_roles": ["admin"]}, ""),
        ({"required_roles": ["admin"]}, ""),
    ],
)
def test_a_link_is_for_one_named_person_who_has_no_role_to_prove(bell, given, named):
    _, told = asked(notify=bell["bell"], **given).commands
    assert told.options["notice"]["approver"] == named
    assert told.input["link"] is None


def test_reminders_come_in_the_order_of_time_before_the_due_one(bell):
    flow = asked(notify=bell["bell"], timeout=timedelta(hours=1), reminders=[60, timedelta(minutes=30), 60.0])
    request, told, timer = flow.commands
    assert request.terms.due_ms == T0 + 3_600_000
    assert told.input == notice(0)
    assert timer == cmd.StartTimer(seq=3, due_ms=T0 + 1_800_000, name="reminder:deploy")
    told, timer = flow.feed(ev.TimerFired(seq=3))
    assert told.input == notice(1)
    assert timer == cmd.StartTimer(seq=5, due_ms=T0 + 3_540_000, name="reminder:deploy")
    flow.feed(ev.TaskFailed(seq=2, error={"type": "SMTPError", "message": "down"}))
    (told,) = flow.feed(ev.TimerFired(seq=5))
    assert told.input == notice(2)
    flow.feed(ANN)
    assert flow.end().approver == "ann"


def test_a_decision_takes_the_next_reminder_back(bell):
    flow = asked(notify=bell["bell"], timeout=3600, reminders=[60])
    timer = flow.commands[-1]
    assert flow.feed(ANN) == [cmd.CancelTimer(seq=timer.seq)]
    assert flow.end().approved


def test_a_cancelled_run_takes_back_request_and_reminder(bell):
    flow = asked(notify=bell["bell"], timeout=3600, reminders=[60])
    taken_back = flow.feed(ev.CancelRequested(reason="enough"))
    assert {type(command) for command in taken_back} == {cmd.CancelTimer, cmd.WithdrawApproval}


def test_an_answer_that_came_with_the_request_is_taken_at_once(bell):
    """The journal of a run whose worker died between the decision and its next command."""
    flow = asked(notify=bell["bell"], timeout=3600, reminders=[60])
    again = Flow(flow.fn, requester="rob")
    again.feed(*[event for event in flow.journal[1:] if not isinstance(event, ev.TimerStarted)], ANN)
    assert again.outcome.result.approved


# ---- arguments


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"timeout": 0}, "ctx.human.approval('deploy'): timeout: expected a duration above 0, found 0"),
        ({"timeout": -1}, "timeout: a non-negative timedelta or number of seconds is needed, found -1"),
        ({"timeout": "1h"}, "timeout: a non-negative timedelta or number of seconds is needed, found '1h'"),
        ({"required_roles": "admin"}, "required_roles: expected a list, each of it the name of a role, found 'admin'"),
        ({"required_roles": [1]}, "required_roles[0]: expected the name of a role, found 1"),
        ({"required_roles": ["a", ""]}, "required_roles[1]: expected the name of a role, found ''"),
        ({"required_roles": ["a\nb"]}, "required_roles[0] 'a\\nb': the character '\\n' is not allowed"),
        ({"required_roles": 5}, "required_roles: expected a list"),
        ({"required_roles": [f"r{n}" for n in range(101)]}, "required_roles: at most 100 are allowed, found 101"),
        ({"assignee": ""}, "assignee[0]: expected a person's name, found ''"),
        ({"assignee": 5}, "assignee: expected a list"),
        ({"assignee": ["ann", "b\nb"]}, "assignee[1] 'b\\nb'"),
        ({"quorum": 0}, "quorum: expected a number of people from 1 to 100, found 0"),
        ({"quorum": True}, "quorum: expected a number of people from 1 to 100, found True"),
        ({"quorum": 1.5}, "quorum: expected"),
        ({"quorum": 3, "assignee": ["ann", "bob"]}, "quorum: 3 approvals are asked of 2 assignees"),
        ({"payload": object()}, "payload: a builtins.object has no JSON form"),
        ({"payload": {"x": [float("nan")]}}, "payload.x[0]: nan has no JSON form"),
        ({"form": "text"}, "form: expected a JSON Schema or a pydantic model class, found 'text'"),
        ({"form": Spend(euros=1)}, "form: expected a JSON Schema or a pydantic model class"),
        ({"form": {"type": "sum"}}, "form: no JSON Schema, at type: 'sum' is not valid"),
        ({"self_approval": "no"}, "self_approval: expected True or False, found 'no'"),
        ({"notify": 5}, "notify: 5 is not a handler"),
        ({"notify": "mail"}, "notify: handler address 'mail': expected 'service.handler'"),
        ({"reminders": [60]}, "reminders: 60 is counted back from the timeout, and there is none; give timeout="),
        ({"reminders": [60], "timeout": 3600}, "reminders: there is nobody to remind; give notify=handler too"),
        ({"reminders": [3600], "timeout": 3600, "notify": "a.b"}, "3600 before the timeout is not after the request"),
        ({"reminders": 60, "timeout": 3600, "notify": "a.b"}, "reminders: expected a list of durations"),
        ({"reminders": [0], "timeout": 3600, "notify": "a.b"}, "reminders: expected durations before the timeout"),
        ({"reminders": [None], "timeout": 3600, "notify": "a.b"}, "reminders: expected durations"),
        ({"reminders": ["1m"], "timeout": 3600, "notify": "a.b"}, "reminders: a non-negative timedelta"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_found(given, says):
    text = refused(**given)
    assert says in text
    assert text.startswith("ctx.human.approval('deploy'): ")


def test_a_handler_that_takes_no_notice_is_refused(bell):
    assert "notify: mail.deaf" in refused(notify=bell["deaf"])


@pytest.mark.parametrize(("name", "says"), [("", "found ''"), (None, "found None"), ("a\nb", "not allowed")])
def test_a_request_has_a_name(name, says):
    async def fn(ctx):
        await ctx.human.approval(name)

    error = Flow(fn).outcome.error
    assert isinstance(error, InvalidInputError)
    assert str(error).startswith("ctx.human.approval: name")
    assert says in str(error)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("function", "'shop.price' is a function; make it a @workflow, or start a workflow that asks"),
        ("entity", "'shop.price' is an entity; let a workflow ask, and then call the entity with the answer"),
    ],
)
def test_only_a_workflow_can_wait_for_people(kind, says):
    ctx, port = function_ctx(kind=kind)
    with pytest.raises(WrongContextError, match=says):
        ctx.human.approval("deploy")
    assert port.asked == []


@pytest.mark.parametrize("name", ["human.", "human.deploy"])
async def test_names_of_approvals_are_no_names_of_signals(name):
    ctx, port = function_ctx()
    with pytest.raises(InvalidInputError, match=r"begin with 'human\.' are reserved; see ctx\.human\.approval"):
        await ctx.signal.emit(name, target_workflow_id="order-18")
    assert port.asked == []

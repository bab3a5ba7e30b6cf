"""`ctx.human`: people who decide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agnt5 import codec, forms
from agnt5.contracts.approvals import LIST_LIMIT, ApprovalTerms, Vote, check_text, check_texts
from agnt5.contracts.clock import at_ms, to_ms
from agnt5.contracts.errors import InvalidInputError, WrongContextError
from agnt5.registry import Handler
from agnt5.sdk.decorators import duration_ms, handler_of
from agnt5.sdk.port import ApprovalRef, RunInfo, WorkflowPort

NOTICE = "notice"
"""The option of a child that tells people of an approval: what its link is made of when it begins."""

HandlerLike = Callable[..., Any] | Handler | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The answer to a request. `decision` is "approved", "rejected" or "timeout"; then nobody is the `approver`.

    `data` is what the form was filled in with: an instance of the form's model where that was one. `votes` are all
    that were taken, in their order; the last of them decided.
    """

    decision: str
    approver: str | None
    comment: str
    decided_at: datetime
    data: Any = None
    votes: list[Vote] = field(default_factory=list)

    @property
    def approved(self) -> bool:
        """Whether it was approved."""
        return self.decision == "approved"


class Human:
    """`ctx.human` where nobody can be asked: in functions and entities."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info

    def approval(  # noqa: PLR0913 - what there is to say about a request
        self,
        name: str,
        payload: Any = None,  # noqa: ARG002
        timeout: timedelta | float | None = None,  # noqa: ARG002
        required_roles: Iterable[str] | None = None,  # noqa: ARG002
        *,
        assignee: str | Iterable[str] | None = None,  # noqa: ARG002
        quorum: int = 1,  # noqa: ARG002
        reminders: Sequence[timedelta | float] = (),  # noqa: ARG002
        notify: HandlerLike | None = None,  # noqa: ARG002
        form: Any = None,  # noqa: ARG002
        self_approval: bool = False,  # noqa: ARG002
    ) -> Coroutine[Any, Any, Approval]:
        """Ask people for a decision, and wait for it. Workflows only; elsewhere it raises `WrongContextError`.

        The request stands in the inbox (`client.approvals()`) until one person decides with `client.decide(...)`.
        `required_roles`: whoever decides needs one of them; `assignee`: one person or several, and nobody else;
        both empty: anybody. Who asked for the run (`requester` of its start) may decide only with `self_approval`.
        `quorum` people have to approve; one rejection rejects. A decision by somebody who may not is refused, stays
        in the run's history, and the wait goes on.

        `timeout` (timedelta or seconds) bounds the wait: the answer then is "timeout". `form`, a JSON Schema or a
        pydantic model class, is what the decision's data has to fit. `notify`, a handler that takes one dict, is
        started at the request and at each of `reminders`, which are durations before the timeout; whether it
        succeeds is nothing to the request. The dict has run_id, name, ref, payload, required_roles, assignees,
        due_at (ISO time or None), reminder (0 at the request) and link: a URL where there is exactly one assignee
        and no role to prove, and the settings `link_secret` and `web_url` are there; else None.

        The wait is durable: it holds no worker, and a decision is taken while none lives. Whoever cancels the wait
        (`asyncio.timeout`, a cancelled task or run) takes the request back. Raises `InvalidInputError` that names
        the argument.
        """
        kind, remedy = f"a {self._info.kind}", "make it a @workflow, or start a workflow that asks with ctx.spawn(...)"
        if self._info.kind == "entity":
            kind, remedy = "an entity", "let a workflow ask, and then call the entity with the answer"
        raise WrongContextError(
            f"ctx.human.approval({name!r}) waits for people, and only a workflow can: {self._info.handler!r} is {kind};"
            f" {remedy}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What was asked, checked."""

    terms: ApprovalTerms
    timeout_ms: int | None
    notify: str | None
    reminders_ms: list[int]
    model: Any


class WorkflowHuman(Human):
    """`ctx.human` in a workflow."""

    def __init__(self, info: RunInfo, port: WorkflowPort) -> None:
        super().__init__(info)
        self._port = port

    async def approval(  # noqa: PLR0913
        self,
        name: str,
        payload: Any = None,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 - the specification's name
        required_roles: Iterable[str] | None = None,
        *,
        assignee: str | Iterable[str] | None = None,
        quorum: int = 1,
        reminders: Sequence[timedelta | float] = (),
        notify: HandlerLike | None = None,
        form: Any = None,
        self_approval: bool = False,
    ) -> Approval:
        where = f"ctx.human.approval({check_text(name, 'ctx.human.approval: name', 'the name of the request')!r})"
        timeout_ms = duration_ms(timeout, f"{where}: timeout")
        schema, model = forms.schema_of(form, f"{where}: form")
        people = [] if assignee is None else [assignee] if isinstance(assignee, str) else assignee
        terms = ApprovalTerms(
            name=name,
            payload=codec.loads(codec.dumps(payload, what=f"{where}: payload")),
            required_roles=check_texts(
                () if required_roles is None else required_roles, f"{where}: required_roles", "the name of a role"
            ),
            assignees=check_texts(people, f"{where}: assignee", "a person's name"),
            quorum=_quorum(quorum, where),
            form=schema,
            self_approval=_flag(self_approval, f"{where}: self_approval"),
            requester=self._info.requester,
        )
        if terms.assignees and terms.quorum > len(terms.assignees):
            raise InvalidInputError(
                f"{where}: quorum: {quorum} approvals are asked of {len(terms.assignees)} assignees, who vote once each"
            )
        request = _Request(
            terms=terms,
            timeout_ms=timeout_ms,
            notify=None if notify is None else _address(notify, _notice("", "", terms, 0), f"{where}: notify"),
            reminders_ms=_reminders(reminders, timeout_ms, where),
            model=model,
        )
        if reminders and request.notify is None:
            raise InvalidInputError(f"{where}: reminders: there is nobody to remind; give notify=handler too")
        return _approval(await self._ask(request), request.model)

    async def _ask(self, request: _Request) -> dict[str, Any]:
        ref = self._port.request_approval(request.terms, request.timeout_ms)
        try:
            self._tell(request, ref, 0)
            for number, before_ms in enumerate(request.reminders_ms, 1):
                if not await self._quiet_until(ref.terms.due_ms - before_ms, ref):
                    break
                self._tell(request, ref, number)
            answer: dict[str, Any] = await ref.future
        finally:
            ref.future.cancel()  # whoever gives up the wait takes the request back
        return answer

    async def _quiet_until(self, due_ms: int, ref: ApprovalRef) -> bool:
        """Wait until then; False as soon as there is an answer."""
        if ref.future.done():
            return False
        timer = self._port.start_timer(due_ms, f"reminder:{ref.terms.name}")
        try:
            await asyncio.wait([ref.future, timer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return not ref.future.done()

    def _tell(self, request: _Request, ref: ApprovalRef, reminder: int) -> None:
        if request.notify is None:
            return
        terms, place = ref.terms, f"{self._info.generation}.{ref.seq}"
        # a link says who somebody is; which roles they have a worker does not know
        named = terms.assignees[0] if len(terms.assignees) == 1 and not terms.required_roles else ""
        link = {"name": terms.name, "ref": place, "approver": named, "due_ms": terms.due_ms}
        told = _notice(self._info.run_id, place, terms, reminder)
        self._port.start_task(request.notify, told, options={NOTICE: link})


def _notice(run_id: str, ref: str, terms: ApprovalTerms, reminder: int) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "name": terms.name,
        "ref": ref,
        "payload": terms.payload,
        "required_roles": terms.required_roles,
        "assignees": terms.assignees,
        "due_at": at_ms(terms.due_ms).isoformat() if terms.due_ms else None,
        "reminder": reminder,
        "link": None,
    }


def _approval(answer: dict[str, Any], model: Any) -> Approval:
    data = answer["data"]
    if model is not None and data is not None:
        try:
            data = model.model_validate(data)
        except ValueError as error:
            raise InvalidInputError(
                f"the data of {answer['approver']} does not fit {model.__name__}: {error}"
            ) from None
    return Approval(
        decision=answer["decision"],
        approver=answer["approver"] or None,
        comment=answer["comment"],
        decided_at=at_ms(answer["at_ms"]),
        data=data,
        votes=[
            Vote(vote["approver"], vote["decision"], vote["comment"], at_ms(vote["at_ms"]), vote["data"])
            for vote in answer["votes"]
        ],
    )


def _quorum(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LIST_LIMIT:
        raise InvalidInputError(f"{where}: quorum: expected a number of people from 1 to {LIST_LIMIT}, found {value!r}")
    return value


def _flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f"{what}: expected True or False, found {value!r}")
    return value


def _address(notify: Any, sample: dict[str, Any], what: str) -> str:
    """The address of the handler to notify. One that is known here is tried with a notice."""
    try:
        target = handler_of(notify)
        if isinstance(target, Handler):
            target.bind_names(sample)
            return target.address
    except InvalidInputError as error:
        raise InvalidInputError(f"{what}: {error}") from None
    return target


def _reminders(values: Any, timeout_ms: int | None, where: str) -> list[int]:
    """How long before the due time, in the order of their coming."""
    what = f"{where}: reminders"
    if isinstance(values, str | timedelta | int | float) or not isinstance(values, Iterable):
        raise InvalidInputError(f"{what}: expected a list of durations before the timeout, found {values!r}")
    found = []
    for value in values:
        ms = to_ms(value, what)
        if not ms:
            raise InvalidInputError(f"{what}: expected durations before the timeout, found {value!r}")
        if timeout_ms is None:
            raise InvalidInputError(
                f"{what}: {value!r} is counted back from the timeout, and there is none; give timeout="
            )
        if ms >= timeout_ms:
            raise InvalidInputError(
                f"{what}: {value!r} before the timeout is not after the request; it has to be shorter"
            )
        found.append(ms)
    return sorted(set(found), reverse=True)

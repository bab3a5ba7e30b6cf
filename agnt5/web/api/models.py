"""What the API takes and gives, as pydantic models: the OpenAPI document is made from them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agnt5.contracts.budgets import LONGEST, MOST, MOST_BUDGETS, NANOS, Budget
from agnt5.contracts.runs import RunStatus

Json = Annotated[Any, Field(description="Any JSON value.")]


class Given(BaseModel):
    """A request's body: a field that is not known is an error, not a wish unheard."""

    model_config = ConfigDict(extra="forbid", str_max_length=100_000)


class Told(BaseModel):
    """A response's body, made from what the client gives."""

    model_config = ConfigDict(from_attributes=True)


# ---- runs


class Limits(Given):
    """A budget: what calls of language models may spend together. At least one limit is needed."""

    requests: int | None = Field(default=None, ge=0, le=MOST, description="Calls of models.")
    tokens: int | None = Field(default=None, ge=0, le=MOST, description="Tokens of prompts and answers.")
    cost: float | None = Field(default=None, ge=0, le=MOST // NANOS, description="US dollars.")
    key: str | None = Field(
        default=None, min_length=1,
        description="Who shares it: all that name this key. Without one, the run and all below it.",
    )  # fmt: skip
    per_s: int | None = Field(
        default=None, ge=1, le=LONGEST // timedelta(seconds=1),
        description="It counts from zero in each window of so many seconds.",
    )  # fmt: skip

    def budget(self) -> Budget:
        """For the client. Raises `InvalidInputError` where there is no limit, or where the key is none."""
        per = None if self.per_s is None else timedelta(seconds=self.per_s)
        fields = self.model_dump(include={"requests", "tokens", "cost", "key"}, exclude_none=True)
        return Budget(**fields, per=per)


class StartRun(Given):
    """What to start."""

    handler: str = Field(
        description="`service.handler`, or `EntityType.method` with a `key`.", examples=["orders.fulfil"]
    )
    input: Json = Field(default=None, description="The handler's input: an object with its parameters.")
    id: str | None = Field(
        default=None,
        description="The run's id, which makes the start idempotent: the same id with the same input is the same run.",
    )
    key: str | None = Field(default=None, description="The key of the entity, for methods of entities.")
    priority: int | None = Field(default=None, ge=0, le=9, description="0 to 9, 0 first.")
    run_timeout_s: float | None = Field(default=None, ge=0, lt=1e10, description="Seconds after which the run fails.")
    budget: list[Limits] = Field(
        default=[], max_length=MOST_BUDGETS,
        description="Budgets that the language models of the run and of all below it keep to.",
    )  # fmt: skip

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"handler": "orders.fulfil", "input": {"order_id": "17"}, "id": "order-17"}]}
    )


class Cancel(Given):
    """Why a run shall end."""

    reason: str = Field(default="", max_length=2000, description="It stays in the journal.")


class Signal(Given):
    """A signal's payload."""

    payload: Json = Field(default=None, description="What `ctx.signal(name)` gives the workflow.")


class Brief(Told):
    """A run, without its data."""

    id: str
    handler: str
    kind: str = Field(description="function, workflow or entity; empty until a worker has claimed it.")
    status: RunStatus


class RunError(Told):
    """What a run ended with."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(default="", description="The name of the exception's class.")
    message: str = ""
    traceback: str = ""
    where: str = ""


class Run(Brief):
    """A run as it stood when it was read."""

    attempt: int = Field(description="Number of the retry; 0 on the first try.")
    generation: int = Field(description="How often it has continued as new.")
    queue: str
    priority: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    retry_at: datetime | None = Field(description="When the next attempt begins.")
    host: str | None = Field(description="The worker that has it in memory.")
    parent: str | None
    input: Json
    result: Json = None
    error: RunError | None = None
    trouble: str | None = Field(default=None, description="Why a worker refused it: its code does not fit the journal.")


class Runs(Told):
    """A page of runs."""

    runs: list[Run]
    cursor: str | None = Field(description="Give it back for the next page; null where there is none.")


class Result(Told):
    """How a run ended, or that it has not yet."""

    id: str
    status: RunStatus
    result: Json = None
    error: RunError | None = None


# ---- stories


class JournalEvent(Told):
    """An entry of a run's journal."""

    place: str = Field(description="`<generation>.<position>`", examples=["0.17"])
    type: str = Field(examples=["TaskCompleted"])
    at: datetime
    data: dict[str, Any] = Field(description="The event's own fields. Those with their default value are left out.")


class History(Told):
    """A page of a journal."""

    events: list[JournalEvent]
    last: str | None = Field(description="Place of the last of them: give it as `after` for the next page.")
    more: bool = Field(description="Whether more is there already.")


class LogLine(Told):
    """A line that a run's code has logged."""

    place: str = Field(description="Tells lines of one run apart.")
    at: datetime
    level: str = Field(examples=["INFO"])
    logger: str
    message: str
    attempt: int = Field(description="Number of the retry in which it was written.")
    step_id: str | None
    fields: dict[str, Any] = Field(description="What the line says beside its message.")
    exception: str = Field(description="Traceback; empty where there is none.")


class Logs(Told):
    """The lines that are kept with a run."""

    lines: list[LogLine]


class Spent(Told):
    """What answers of language models cost."""

    answers: int
    tokens_in: int
    tokens_out: int
    cost: float = Field(description="US dollars, of the answers with a known price.")
    unpriced: int = Field(description="Answers without a known price.")


class Moment(Told):
    """A line of a run's story."""

    at_ms: int = Field(description="Its beginning, in milliseconds since 1970.")
    kind: str = Field(
        description="run, host, task, map, step, llm, tool, timer, signal, approval, patch, config or event."
    )
    what: str
    outcome: Literal["", "ok", "failed", "open", "cancelled", "note"]
    took_ms: int | None
    detail: str
    child: str = Field(description="Id of the child run, for tasks.")
    map: str = Field(description="The map that it is, or is an item of.")
    spent: Spent | None = Field(description="For answers of language models.")


class Timeline(Told):
    """A run's story."""

    moments: list[Moment]
    spent: Spent = Field(description="By this run itself, its children left out.")


# ---- approvals


class Vote(Told):
    """One person's decision."""

    approver: str
    decision: str
    comment: str
    at: datetime
    data: Json = None


class Approval(Told):
    """What a workflow asks people to decide."""

    run_id: str
    name: str
    ref: str = Field(description="Which of the run's requests it is: `<generation>.<seq>`.")
    handler: str
    payload: Json
    required_roles: list[str]
    assignees: list[str]
    quorum: int = Field(description="How many must approve.")
    form: dict[str, Any] | None = Field(description="JSON Schema of the `data` that a decision must bring.")
    requester: str = Field(description="Who asked for the run; does not decide, unless `self_approval`.")
    self_approval: bool
    requested_at: datetime
    due_at: datetime | None
    status: Literal["open", "approved", "rejected", "timeout", "withdrawn"]
    votes: list[Vote]
    decided_at: datetime | None


class Approvals(Told):
    """Approvals, oldest first."""

    approvals: list[Approval]


class Decision(Given):
    """A decision. Who decides, and with which roles, comes from the credential."""

    decision: Literal["approved", "rejected"]
    comment: str = Field(default="", max_length=10_000)
    data: Json = Field(default=None, description="What the approval's form asks for.")
    ref: str | None = Field(
        default=None, max_length=40, description="`ref` of the request that was seen: a later one is not decided then."
    )


class LinkDecision(Given):
    """A decision by a link. Who decides, and what, comes from the link."""

    decision: Literal["approved", "rejected"]
    comment: str = Field(default="", max_length=10_000)
    data: Json = Field(default=None, description="What the approval's form asks for.")


class Decided(Told):
    """What became of an approval."""

    run_id: str
    name: str
    status: Literal["open", "approved", "rejected", "timeout", "withdrawn"]
    decided_at: datetime | None


# ---- entities


class Call(Given):
    """A call of an entity's method."""

    input: Json = Field(default=None, description="An object with the method's parameters.")


class Entity(Told):
    """An entity as it stood when it was read."""

    type: str
    key: str
    state: dict[str, Any]
    updated_at: datetime | None
    writes: int = Field(description="How many writes have changed it.")
    holder: str | None = Field(description="The run that writes it now.")
    waiting: list[str] = Field(description="Runs that wait for it, in order.")
    recent: list[str] = Field(description="The latest writes that ended, newest first.")


class Entities(Told):
    """Entities, newest change first."""

    entities: list[Entity]


# ---- fleet


class Parameter(Told):
    """A parameter of a handler."""

    name: str
    required: bool
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema", description="JSON Schema.")


class HandlerInfo(Told):
    """A handler as workers announced it."""

    model_config = ConfigDict(extra="allow")

    address: str = Field(examples=["orders.fulfil"])
    service: str
    name: str
    kind: str
    doc: str = ""
    parameters: list[Parameter]
    result: dict[str, Any] | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Handlers(Told):
    """Handlers by address."""

    handlers: list[HandlerInfo]


class ConfigInfo(Told):
    """A key of config and the rule that is set for it in Redis."""

    key: str = Field(examples=["checkout.new_tax"])
    rule: dict[str, Any] = Field(examples=[{"value": True, "rollout": 25}])
    text: str = Field(description="The rule for people.")
    wrong: str = Field("", description="Why workers leave it out; empty where they do not.")
    changed_at: datetime | None = None
    changed_by: str = ""
    comment: str = ""


class Configs(Told):
    """All that is set, by key."""

    configs: list[ConfigInfo]


class WorkerInfo(Told):
    """A worker process."""

    name: str
    seen_at: datetime
    alive: bool = Field(description="Whether it was heard within the liveness timeout.")
    runs: int = Field(description="Runs that it owns now.")


class QueueInfo(Told):
    """Runs that wait for a worker."""

    name: str
    service: str
    waiting: int
    oldest_at: datetime | None
    by_priority: dict[int, int]


class Workers(Told):
    """What works, and what waits for it, by the store's clock."""

    at: datetime
    workers: list[WorkerInfo]
    queues: list[QueueInfo]


class Health(Told):
    """The process answers."""

    status: Literal["ok", "ready"]

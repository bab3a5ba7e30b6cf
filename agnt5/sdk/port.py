"""What the context asks of whatever runs the handler: the seam between user code and the two ways to run it.

The replay machine implements `WorkflowPort`; the executor's function run implements `FunctionPort`. All
futures belong to the event loop on which the handler runs. Values that a future gives have been through JSON,
so that the first execution and every later one see the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from uuid import UUID

from agnt5.contracts.approvals import ApprovalTerms
from agnt5.contracts.budgets import Reserved, ScopedBudget, Spent
from agnt5.contracts.flags import Found, Question
from agnt5.contracts.ids import first_of
from agnt5.contracts.traces import NOWHERE, Trace
from agnt5.sdk.state import StateBuffer
from agnt5.secrets.reader import SecretReader

if TYPE_CHECKING:
    from agnt5.llm.requests import Request
    from agnt5.llm.responses import LLMResponse


class TaskRef(Protocol):
    """A child run as the port knows it. `future` fails with `RunFailedError` when the child finally failed.

    A failed future that nobody awaits is no error: the context marks it as seen.
    """

    @property
    def seq(self) -> int:
        """Its command number."""

    @property
    def id(self) -> str:
        """Its run id."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """Its outcome."""


class ApprovalRef(Protocol):
    """A request for people's decision as the port knows it."""

    @property
    def seq(self) -> int:
        """Its command number."""

    @property
    def terms(self) -> ApprovalTerms:
        """What was asked, with its due time."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """Its answer: `{decision, approver, comment, data, at_ms, votes}`. Cancelling it takes the request back."""


class CommandPort(Protocol):
    """What functions and workflows share."""

    @property
    def replaying(self) -> bool:
        """True while the code runs again what its journal already holds."""

    def start_task(
        self,
        handler: str,
        input: Any,  # noqa: A002 - one word for one thing
        *,
        key: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> TaskRef:
        """Start a child run of `handler` (an address). The same key in one run is the same child."""

    def cancel_task(self, ref: Any) -> None:
        """Ask a child, by the ref of its start, to end. Its future then fails with `RunCancelledError`."""

    def call_entity(
        self,
        handler: str,
        entity: str,
        input: Any,  # noqa: A002 - one word for one thing
        *,
        key: str = "",
        options: dict[str, Any] | None = None,
    ) -> TaskRef:
        """Call `handler` (`Type.method`) of the entity `Type/key`.

        `key` tells calls of one method of one entity apart where their order may change between attempts (functions).
        The future fails with `RunFailedError`; with `EntityDeadlockError` when the chain of calls holds that entity.
        """

    def step(self, name: str, fn: Callable[[], Any], key: str = "") -> asyncio.Future[Any]:
        """Run `fn` once for good; a coroutine that it returns is awaited. Cancelling the future stops it.

        `key` tells steps of one name apart where their order may change between attempts (functions).
        """

    def start_timer(self, due_ms: int, name: str = "") -> asyncio.Future[Any]:
        """A future that is done at `due_ms`. Cancelling it takes the timer back."""

    def emit_signal(self, name: str, target: str, payload: Any) -> asyncio.Future[Any]:
        """Deliver a signal to the run `target`; fails with `RunNotFoundError` or `RunEndedError`."""

    def now_ms(self) -> int:
        """The time as the run sees it."""


class FunctionPort(CommandPort, Protocol):
    """What only functions need."""

    def waits_for(self, ref: TaskRef) -> None:
        """The code begins to wait for this child: the moment to give back the worker slot."""


class EntityPort(FunctionPort, Protocol):
    """What only methods of entities have."""

    @property
    def state(self) -> StateBuffer:
        """The entity's state as this call sees it; what it writes is committed with the call's result."""


class WorkflowPort(CommandPort, Protocol):
    """What only workflows have."""

    def await_signal(self, name: str) -> asyncio.Future[Any]:
        """The next signal of this name. Cancelling the future leaves later signals to later waits."""

    def request_approval(self, terms: ApprovalTerms, timeout_ms: int | None = None) -> ApprovalRef:
        """Ask people for a decision; `timeout_ms` sets the due time of the terms."""

    def patched(self, change: str) -> bool:
        """True where the changed code is to run."""

    def read_config(self, key: str, unit: str, ask: Callable[[], Any], *, fresh: bool = False) -> Any:
        """What `ask` gives, recorded; the first answer holds for the generation, until a `fresh` one is asked for."""

    def continue_as_new(self, input: Any) -> NoReturn:  # noqa: A002 - one word for one thing
        """End this generation of the run and begin the next with `input`."""

    def random(self) -> random.Random:
        """A source of numbers that replays the same."""

    def uuid(self) -> UUID:
        """A UUID that replays the same."""


class FlagPort(Protocol):
    """The config values that a worker process knows. Safe from any thread, and nothing here waits or raises."""

    def find(self, question: Question) -> Found | None:
        """What is set for whoever asks; None: nothing."""

    def warn(self, key: str, text: str) -> None:
        """Say once in the log what is wrong with a value."""


class HostPort(Protocol):
    """What the worker process does for a handler beside its journal: only inside a step, on the host's loop."""

    @property
    def flags(self) -> FlagPort:
        """Config values: also outside of steps, from any thread."""

    @property
    def secrets(self) -> SecretReader:
        """Reads secrets: also outside of steps, from any thread."""

    async def reserve(self, budgets: Sequence[ScopedBudget], operation: str, estimate: Spent) -> Reserved:
        """Hold an estimate in each budget before it is spent; in all of them or in none.

        `operation` is the same when the step runs again after a crash, and another for every other call: what the
        earlier try held is then given back. What it gives is to be settled, also when the call fails. Raises
        `BudgetExceededError`.
        """

    async def settle(self, reserved: Reserved, spent: Spent) -> None:
        """Put what was really spent in the place of the estimate, once. `Spent(requests=0)` gives all of it back."""

    def asks(self, call: ModelCall) -> AbstractContextManager[None]:
        """Around a call of a language model that really happens, with its tries: for figures and spans.

        `call.response` is there when it is left without an error; what leaves it otherwise is the call's error.
        """


@dataclass(slots=True, kw_only=True, eq=False)
class ModelCall:
    """One call of a language model by a run: what is asked, then what came of it.

    `request` has the models in the order in which they are asked, and the parameters. `first_chunk_s` is the time of
    the loop's clock at which the first part of a streamed answer came, `begun_s` that of the call's begin. `response`
    has the model that answered, usage, cost and the reason of its end; it stays None where the call failed.
    """

    run: RunInfo
    request: Request
    begun_s: float
    streamed: bool = False
    first_chunk_s: float | None = None
    response: LLMResponse | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a run knows about itself while it runs.

    `handler` is its address, `attempt` 0 on the first try, `started_ms` the store's time of its first start.
    `object_id` and `method_name` are set for entity methods only. `root` is the id of its tree's root where its own
    id does not tell.
    """

    run_id: str
    handler: str
    kind: str
    attempt: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    generation: int = 0
    started_ms: int = 0
    host: str = ""
    object_id: str | None = None
    method_name: str | None = None
    requester: str = ""
    root: str = ""
    trace: Trace = NOWHERE

    @property
    def tree(self) -> str:
        """The id of the root run of its tree; of a call of an entity that is the caller's."""
        return self.root or first_of(self.run_id)

"""What the store's verbs give back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agnt5.contracts.runs import RunStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A Celery message to send: "look at run X". Losing it costs time only (rule R1)."""

    queue: str
    priority: int
    handler: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Mail:
    """An event for a run that the calling host owns: the journal's generation and length after it, and the entry."""

    run_id: str
    generation: int
    length: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Called:
    """A call of an entity exists. `heir`: the calling host owns it already, or the call that came after it."""

    fresh: bool
    status: RunStatus
    out: list[Dispatch] = field(default_factory=list)
    heir: Heir | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """A run exists under the id. `fresh` is False when it did before, with the same handler and input."""

    fresh: bool
    status: RunStatus
    out: list[Dispatch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Claimed:
    """Ownership of a run, with the first page of its journal. `queued_ms`: when it was queued last."""

    epoch: str
    attempt: int
    failures: int
    crashes: int
    generation: int
    seen: int
    length: int
    queued_ms: int
    now_ms: int
    entries: list[bytes]

    @property
    def first(self) -> bool:
        """Whether nobody had claimed it before."""
        return self.epoch.startswith("1:")


@dataclass(frozen=True, slots=True)
class Heir:
    """A call of an entity that a host owns without having claimed it by a message."""

    run_id: str
    handler: str
    claimed: Claimed


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """Why a message had nothing to do: `gone`, `ended`, `owned` or `waiting`; `detail` is the status or host."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """A fenced write took effect. `again`: it had before, and `length` is the journal's length now.

    After `again` the caller no longer knows where its entries stand and reads its journal.
    """

    again: bool = False
    length: int = 0
    now_ms: int = 0
    out: list[Dispatch] = field(default_factory=list)
    mail: list[Mail] = field(default_factory=list)
    heir: Heir | None = None


@dataclass(frozen=True, slots=True)
class More:
    """The journal has entries that the owner has not seen: it reads them and decides anew."""

    length: int


@dataclass(frozen=True, slots=True)
class Fired:
    """What one pass over a shard's due timers did. `next_due_ms` is None when no timer is left."""

    count: int
    next_due_ms: int | None
    now_ms: int
    out: list[Dispatch]
    lateness_ms: list[int]


@dataclass(frozen=True, slots=True)
class Untold:
    """How a run ended that no worker had: `ending` is as an owner says it, `length` that of its journal with the end.

    `entry` is what strikes it off.
    """

    entry: bytes
    run_id: str
    ending: str
    generation: int
    attempt: int
    length: int
    at_ms: int
    handler: str


@dataclass(frozen=True, slots=True)
class NewChild:
    """A child run that an append creates."""

    id: str
    seq: int
    handler: str
    queue: str
    priority: int
    body: bytes
    run_timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call of an entity's method. `mode`: write or read; `caller`: the run that is to be told, '' for a client."""

    id: str
    handler: str
    mode: str
    queue: str
    priority: int
    body: bytes
    digest: str = ""
    run_timeout_ms: int | None = None
    caller: str = ""


@dataclass(frozen=True, slots=True)
class NewAsk:
    """What an append asks of people. `body` is the journal body that records it; `barred` may not decide it ('': none).

    `roles` and `people`: who may decide, anybody where empty. Names are compared as they are and hold no line break.
    """

    seq: int
    body: bytes
    due_ms: int | None = None
    quorum: int = 1
    roles: Sequence[str] = ()
    people: Sequence[str] = ()
    barred: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a person's decision: `ok`, or why it was refused: `closed`, `role`, `assignee`, `self`, `voted`.

    `status` is the ask's after it, `by` and `at_ms` who closed it and when (nobody and None while it is open).
    """

    word: str
    status: str
    by: str
    at_ms: int | None
    out: list[Dispatch]


@dataclass(frozen=True, slots=True)
class Record:
    """A run as the store has it: its state, its first journal entry and (ended) its last one."""

    id: str
    status: RunStatus
    fields: dict[str, str]
    first: bytes
    last: bytes

    def number(self, name: str) -> int | None:
        """An integer field, None where it is not set."""
        text = self.fields.get(name)
        return int(text) if text else None


def pairs(flat: Sequence[T]) -> Iterator[tuple[T, T]]:
    """A flat reply of keys and values, or of members and scores, two by two."""
    return zip(flat[::2], flat[1::2], strict=True)


def claim_of(parts: list[Any]) -> Claimed:
    """What follows a script's word CLAIMED, or an heir's id and handler."""
    epoch, attempt, failures, crashes, generation, seen, length, queued, now, entries = parts
    return Claimed(
        epoch=epoch.decode(),
        attempt=int(attempt),
        failures=int(failures),
        crashes=int(crashes),
        generation=int(generation),
        seen=int(seen),
        length=int(length),
        queued_ms=int(queued),
        now_ms=int(now),
        entries=entries,
    )


def heir_of(parts: list[Any]) -> Heir | None:
    """The HEIR list of a script."""
    return Heir(parts[0].decode(), parts[1].decode(), claim_of(parts[2:])) if parts else None


def dispatches(flat: list[bytes]) -> list[Dispatch]:
    """The flat OUT list of a script."""
    it = iter(flat)
    return [
        Dispatch(queue.decode(), int(priority), handler.decode(), run_id.decode())
        for queue, priority, handler, run_id in zip(it, it, it, it, strict=True)
    ]


def mails(flat: list[bytes | int]) -> list[Mail]:
    """The flat MAIL list of a script."""
    it: Any = iter(flat)
    return [
        Mail(run_id.decode(), int(generation), int(length), entry)
        for run_id, generation, length, entry in zip(it, it, it, it, strict=True)
    ]

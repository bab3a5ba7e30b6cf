"""Child runs as workflow code holds them, and the part of their ids that a key makes."""

from __future__ import annotations

from dataclasses import dataclass

from agnt5.contracts.approvals import ApprovalTerms
from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import check_id
from agnt5.replay.futures import CommandFuture


@dataclass(slots=True, eq=False)
class TaskRef:
    """A child run of this run. `future` has its result, or the error it failed with.

    Cancelling `future` only ends the waiting; `Machine.cancel_task` ends the child. `id` changes when an
    operator re-opens the run and the child is done again.
    """

    seq: int
    id: str
    handler: str
    future: CommandFuture
    redo: int = 0
    cancelled_by: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ApprovalRef:
    """A request for people's decision, with its recorded terms. Cancelling `future` takes it back."""

    seq: int
    terms: ApprovalTerms
    future: CommandFuture


def key_part(key: str) -> str:
    """A key as the own part of a child's id. One that could be read as a command number is marked with `=`."""
    check_id(key, "key")
    if "!" in key:
        raise InvalidInputError(f"key {key!r}: the character '!' is not allowed, it marks a child that was done again")
    if key[0] == "@":
        raise InvalidInputError(f"key {key!r}: '@' is not allowed in the first place, it marks calls of entities")
    return f"={key}" if key[0].isdigit() or key[0] == "=" else key


def is_keyed(child: str) -> bool:
    """True if the id of a child, made by `ids.child_id`, has a key in it, not a command number."""
    own = child.rpartition("~")[2].partition("!")[0]
    generation, dot, part = own.partition(".")
    if dot and generation.isdecimal():
        own = part
    return not own.isdecimal()

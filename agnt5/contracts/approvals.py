"""Approvals: what is asked of people, and their votes, as every layer knows them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from agnt5.contracts.errors import InvalidInputError

Decision = Literal["approved", "rejected"]
DECISIONS = ("approved", "rejected")

NAME_LIMIT = 200
"""Characters of the name of an approval, person or role."""

LIST_LIMIT = 100
"""Roles or assignees of one approval, and the largest quorum."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTerms:
    """What a workflow asks of people.

    `required_roles` empty: anybody may decide, else who has one of them; `assignees` empty: anybody, else one of
    these. `quorum` people have to approve; one rejection rejects. `due_ms` 0: it waits for as long as it takes.
    `requester` asked for the run, and may decide only with `self_approval`. `form` is the JSON Schema of the
    decision's data.
    """

    name: str
    payload: Any = None
    required_roles: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    quorum: int = 1
    form: dict[str, Any] | None = None
    due_ms: int = 0
    self_approval: bool = False
    requester: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's decision. `at` is the store's time of it, in UTC; `data` is what the form was filled in with."""

    approver: str
    decision: str
    comment: str
    at: datetime
    data: Any = None


def check_text(value: object, what: str, expected: str) -> str:
    """A name of an approval, a person or a role: one line of at most `NAME_LIMIT` characters.

    The store compares names as they are, a line each: a line break in one would make two of it.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"{what}: expected {expected}, found {value!r}")
    if len(value) > NAME_LIMIT:
        raise InvalidInputError(f"{what}: at most {NAME_LIMIT} characters are allowed, found {len(value)}")
    if bad := _CONTROL.search(value):
        raise InvalidInputError(
            f"{what} {value!r}: the character {bad.group()!r} is not allowed, {expected} is one line"
        )
    return value


def check_texts(values: object, what: str, expected: str) -> list[str]:
    """A list of names, each once, in their order. One plain string is refused: its letters would be the names."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidInputError(f"{what}: expected a list, each of it {expected}, found {values!r}")
    found = list(dict.fromkeys(check_text(value, f"{what}[{at}]", expected) for at, value in enumerate(values)))
    if len(found) > LIST_LIMIT:
        raise InvalidInputError(f"{what}: at most {LIST_LIMIT} are allowed, found {len(found)}")
    return found

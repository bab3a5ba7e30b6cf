"""What the doctor finds, and how it may be repaired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
About = Literal["run", "index", "key", "host", "beat", "queue", "server"]


@dataclass(frozen=True, slots=True)
class Mend:
    """Let the store make a run's index entries agree with its record; `entry` holds `member` for it."""

    run_id: str
    entry: str = ""
    member: str = ""


@dataclass(frozen=True, slots=True)
class Reap:
    """Queue what a dead host owned."""

    host: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Let a key without an owner expire after the retention."""

    key: str


Repair = Mend | Reap | Expire


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    `code` names the sort of fault and stays the same over releases. `severity`: "error" breaks a promise, "warning"
    needs an operator's eye, "info" is worth knowing. `about` says what sort of thing it is; `run` is the run that it
    concerns, if any. `mark` is the state that it was seen in: a run that moved between two readings is not stuck.
    """

    code: str
    severity: Severity
    about: About
    found: str
    remedy: str
    run: str | None = None
    repair: Repair | None = None
    mark: tuple[str | int | None, ...] = ()

    def __str__(self) -> str:
        return f"{self.severity}: {self.found}; {self.remedy}"

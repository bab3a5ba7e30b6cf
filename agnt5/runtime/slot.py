"""A worker slot as a run sees it: what the Celery request behind it is told, once."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from agnt5.contracts.errors import RunFailedError


class Begun(NamedTuple):
    """What is told of an attempt whose code begins."""

    input: Any
    attempt: int
    parent: str | None = None
    """The run that asked for it."""
    root: str = ""
    """The root of its tree, where its id does not tell."""
    before_s: float = 0.0
    """Seconds since a workflow that was parked, and is taken up again, was started."""


class Slot(Protocol):
    """One Celery request that a run holds. Exactly one of these is called, on the host's loop."""

    def drop(self, why: str) -> None:
        """There was nothing to do: a late, doubled or unknown message."""

    def refuse(self, why: str) -> None:
        """This worker cannot run it; another one may."""

    def started(self, begun: Begun) -> None:
        """An attempt of the run is claimed and its code begins; one of the others follows."""

    def release(self) -> None:
        """The run goes on without a request: it waits in memory, is parked, or was handed back."""

    def succeeded(self, result: Any) -> None:
        """The run completed while it held the request."""

    def failed(self, error: RunFailedError) -> None:
        """The run failed or was cancelled while it held the request."""

    def retried(self, error: RunFailedError, due_ms: int) -> None:
        """The attempt failed; another one follows at `due_ms`."""


class Teller(Protocol):
    """Sends Celery's task events for runs that have no request."""

    def slot(self, run_id: str, handler: str) -> Slot:
        """What stands in for the request of a run that came without a message."""

    def succeeded(self, run_id: str, result: Any, runtime_s: float) -> None:
        """As Celery's `task-succeeded`."""

    def failed(self, run_id: str, error: RunFailedError) -> None:
        """As Celery's `task-failed`."""

    def revoked(self, run_id: str, reason: str) -> None:
        """As Celery's `task-revoked`: the run was cancelled."""

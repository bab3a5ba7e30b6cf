"""What happens to runs on a host, as the host tells it: the one place where figures and spans of runs come from.

The host and its live runs call these at each turn of a run's life and know nothing of Prometheus or OpenTelemetry.
Everything here is for work that really happens: nothing is told of what a replay runs again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from agnt5.contracts.errors import RunFailedError
from agnt5.runtime.figures import RunFigures
from agnt5.sdk.port import ModelCall
from agnt5.store.replies import Claimed

if TYPE_CHECKING:
    from agnt5.runtime.host import Host
    from agnt5.runtime.live import LiveRun
    from agnt5.store.store import Ending


class Observer:
    """One host's. Every method is cheap, and none raises into a run."""

    def __init__(self) -> None:
        self._figures = RunFigures()

    def claimed(self, live: LiveRun, claimed: Claimed, *, by_message: bool = True) -> None:
        """A run was taken, or taken again: its queue delay, the length of its journal.

        Not `by_message`: a call of an entity that came with the entity's lock.
        """
        self._figures.claimed(live, claimed, by_message=by_message)

    def attempt(self, live: LiveRun) -> AbstractContextManager[Any]:
        """Around one attempt of a function or of an entity's method. What leaves it is the attempt's error."""
        return self._figures.attempt(live)

    def activation(self, live: LiveRun, *, replay: bool) -> AbstractContextManager[Any]:
        """Around one stretch of a workflow's code; `replay` for the first one after a claim."""
        del replay
        return self._figures.activation(live)

    def step(self, live: LiveRun, name: str) -> AbstractContextManager[Any]:
        """Around a step that is really run. What leaves it is the step's error."""
        return self._figures.step(live, name)

    def asks(self, call: ModelCall) -> AbstractContextManager[Any]:
        """Around a call of a language model that is really made, inside its step. What leaves it is its error."""
        return self._figures.asks(call)

    def retried(self, live: LiveRun, error: RunFailedError, delay_ms: int) -> None:
        """An attempt failed, and another one follows after the delay."""
        del error, delay_ms
        self._figures.retried(live)

    def ended(self, live: LiveRun, status: Ending, error: RunFailedError | None = None) -> None:
        """A run ended, and its end is recorded."""
        del error
        self._figures.ended(live, status)

    def parked(self, live: LiveRun) -> None:
        """A waiting run was given back."""
        self._figures.parked(live)

    def turned(self, host: Host) -> None:
        """A second has passed, or the host ends."""
        self._figures.turned(host)

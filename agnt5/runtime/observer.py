"""What happens to runs on a host, as the host tells it: the one place where figures and spans of runs come from.

The host and its live runs call these at each turn of a run's life and know nothing of Prometheus or OpenTelemetry.
Everything here is for work that really happens: nothing is told of what a replay runs again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from agnt5.contracts.errors import RunFailedError
from agnt5.sdk.port import ModelCall
from agnt5.store.replies import Claimed

if TYPE_CHECKING:
    from agnt5.runtime.live import LiveRun
    from agnt5.store.store import Ending


class Observer:
    """One host's. Every method is cheap, and none raises into a run."""

    def claimed(self, live: LiveRun, claimed: Claimed) -> None:
        """A run was taken, or taken again: its queue delay, the length of its journal."""

    def attempt(self, live: LiveRun) -> AbstractContextManager[None]:
        """Around one attempt of a function or of an entity's method. What leaves it is the attempt's error."""
        del live
        return contextlib.nullcontext()

    def activation(self, live: LiveRun, *, replay: bool) -> AbstractContextManager[None]:
        """Around one stretch of a workflow's code; `replay` for the first one after a claim."""
        del live, replay
        return contextlib.nullcontext()

    @contextmanager
    def step(self, live: LiveRun, name: str) -> Iterator[None]:
        """Around a step that is really run. What leaves it is the step's error."""
        del live, name
        yield

    def asks(self, call: ModelCall) -> AbstractContextManager[None]:
        """Around a call of a language model that is really made, inside its step. What leaves it is its error."""
        del call
        return contextlib.nullcontext()

    def retried(self, live: LiveRun, error: RunFailedError, delay_ms: int) -> None:
        """An attempt failed, and another one follows after the delay."""

    def ended(self, live: LiveRun, status: Ending, error: RunFailedError | None = None) -> None:
        """A run ended, and its end is recorded."""

    def parked(self, live: LiveRun) -> None:
        """A waiting run was given back."""

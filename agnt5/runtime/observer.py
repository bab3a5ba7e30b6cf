"""What happens to runs on a host, as the host tells it: the one place where figures and spans of runs come from.

The host and its live runs call these at each turn of a run's life and know nothing of Prometheus or OpenTelemetry.
Everything here is for work that really happens: nothing is told of what a replay runs again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from agnt5.contracts.errors import RunFailedError
from agnt5.contracts.traces import Trace
from agnt5.runtime.figures import RunFigures
from agnt5.sdk.port import ModelCall
from agnt5.store.replies import Claimed
from agnt5.telemetry.spans import active

if TYPE_CHECKING:
    from agnt5.replay.events import Event
    from agnt5.runtime.host import Host
    from agnt5.runtime.live import LiveRun
    from agnt5.runtime.run_spans import RunSpans
    from agnt5.store.store import Ending


class Observer:
    """One host's. Every method is cheap, and none raises into a run."""

    def __init__(self) -> None:
        self._figures = RunFigures()
        self._spans: RunSpans | None = None
        if (tracing := active()) is not None:
            from agnt5.runtime.run_spans import RunSpans  # noqa: PLC0415 - only those who trace pay for it

            self._tracing = tracing
            self._spans = RunSpans(tracing)

    def placed(self, trace: Trace) -> Trace:
        """A run's place in its trace; where the trace begins with the run, it is decided here whether it is sampled."""
        return trace if self._spans is None else self._tracing.placed(trace)

    def begun(self, live: LiveRun) -> None:
        """A workflow's code is about to be begun, or replayed, in this context of asyncio."""
        if self._spans is not None:
            self._spans.enter(live)

    def claimed(self, live: LiveRun, claimed: Claimed, *, by_message: bool = True) -> None:
        """A run was taken, or taken again: its queue delay, the length of its journal.

        Not `by_message`: a call of an entity that came with the entity's lock.
        """
        self._figures.claimed(live, claimed, by_message=by_message)

    def attempt(self, live: LiveRun) -> AbstractContextManager[Any]:
        """Around one attempt of a function or of an entity's method. What leaves it is the attempt's error."""
        figures = self._figures.attempt(live)
        return figures if self._spans is None else _both(figures, self._spans.attempt(live))

    def activation(self, live: LiveRun) -> AbstractContextManager[Any]:
        """Around one stretch of a workflow's code."""
        if self._spans is not None:
            self._spans.activating()
        return self._figures.activation(live)

    def activated(self, live: LiveRun, events: Sequence[Event], commands: int, *, ended: bool, replay: bool) -> None:
        """A stretch of a workflow's code is over: the events that it was for, the number of new commands that came
        of it, and whether it was the last; `replay` for the first one after a claim.
        """
        if self._spans is not None:
            self._spans.activated(live, events, commands, ended=ended, replay=replay)

    def place_told(self, live: LiveRun) -> str:
        """The run's place in a trace as it is told to those whom it signals; "" where no spans are made."""
        return "" if self._spans is None else live.trace.traceparent()

    def step(self, live: LiveRun, name: str) -> AbstractContextManager[Any]:
        """Around a step that is really run. What leaves it is the step's error."""
        figures = self._figures.step(live, name)
        return figures if self._spans is None else _both(figures, self._spans.step(live, name))

    def asks(self, call: ModelCall) -> AbstractContextManager[Any]:
        """Around a call of a language model that is really made, inside its step. What leaves it is its error."""
        figures = self._figures.asks(call)
        if self._spans is None:
            return figures
        from agnt5.runtime.model_spans import model_span  # noqa: PLC0415 - models are loaded where they are asked

        return _both(figures, model_span(self._tracing, call))

    def retried(self, live: LiveRun) -> None:
        """An attempt failed, and another one follows."""
        self._figures.retried(live)

    def ended(self, live: LiveRun, status: Ending, error: RunFailedError | None = None) -> None:
        """A run ended, and its end is recorded."""
        self._figures.ended(live, status)
        if self._spans is not None:
            self._spans.ended(live, status, error)

    def renewed(self, live: LiveRun) -> None:
        """A generation of a run ended, and the next one is recorded; `live` is still as in the one that ended."""
        if self._spans is not None:
            self._spans.renewed(live)

    def parked(self, live: LiveRun) -> None:
        """A waiting run was given back."""
        self._figures.parked(live)

    def turned(self, host: Host) -> None:
        """A second has passed, or the host ends."""
        self._figures.turned(host)


@contextmanager
def _both(outer: AbstractContextManager[Any], inner: AbstractContextManager[Any]) -> Generator[None]:
    with outer, inner:
        yield

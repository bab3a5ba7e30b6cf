"""Spans of a host's runs: the run, its attempts or activations, its steps. Made only where spans are wanted.

A run's own span is recorded by the worker that ends it, or by beat where no worker does; everything else names that
span as its parent before it exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from agnt5.contracts.clock import now_ns
from agnt5.contracts.errors import RunFailedError, from_data
from agnt5.contracts.ids import entity_of, queue_of
from agnt5.contracts.runs import Kind
from agnt5.contracts.traces import trace_of
from agnt5.replay.events import Event, RunCancelled, RunFailed, RunStarted, SignalReceived
from agnt5.store.replies import Untold
from agnt5.telemetry.spans_tracer import Tracing

if TYPE_CHECKING:
    from agnt5.runtime.live import LiveRun
    from agnt5.store.store import Ending

_TOOL = "tool:"

_STATUS = {"timeout": "failed"}
"""How an end is called, where its name is not the status of the run's record."""


class RunSpans:
    """Those of one host."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._begun_ns = 0

    def enter(self, live: LiveRun) -> None:
        """The code that follows, in this context, belongs to the run."""
        self._tracing.enter(live.trace)

    def attempt(self, live: LiveRun) -> AbstractContextManager[Any]:
        """Around an attempt of a function or of an entity's method; what it calls is below it."""
        attributes = {**_about(live), "agnt5.attempt": live.claimed.attempt}
        return self._tracing.span("attempt", attributes, context=self._tracing.inside(live.trace))

    def activating(self) -> None:
        """A stretch of a workflow's code begins: nothing else runs on this loop until it is over."""
        self._begun_ns = now_ns()

    def activated(self, live: LiveRun, events: Sequence[Event], commands: int, *, ended: bool, replay: bool) -> None:
        """It is over. Told only if something came of it: a mere replay is silent. Has links to who sent signals."""
        if not commands and not ended:
            return
        attributes = {**_about(live), "agnt5.commands": commands, "agnt5.replayed": replay}
        inside = self._tracing.inside(live.trace)
        fresh = events[live.claimed.seen :] if replay else events
        senders = [event.traceparent for event in fresh if isinstance(event, SignalReceived) and event.traceparent]
        span = self._tracing.start("activation", attributes, context=inside, begun_ns=self._begun_ns, linked=senders)
        self._tracing.end(span)

    @contextmanager
    def step(self, live: LiveRun, name: str) -> Iterator[None]:
        """Around a step that is really run, below the span that was current where the code asked for it."""
        shown, attributes = f"step {name}", {**_about(live), "agnt5.step": name}
        if name.startswith(_TOOL):
            tool = name.removeprefix(_TOOL)
            shown = f"execute_tool {tool}"
            attributes |= {
                "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.type": "function",
            }  # fmt: skip
        with self._tracing.span(shown, attributes):
            yield

    def ended(self, live: LiveRun, status: Ending, error: RunFailedError | None) -> None:
        """Record the run's span: its end is recorded in the store."""
        handler = live.handler
        attributes = _of_an_end(
            live.run_id, handler.address, handler.kind.value,
            attempt=live.claimed.attempt, generation=live.generation, status=status,
        )  # fmt: skip
        times_ms = (live.stretch_ms, live.host.clock_ms())
        self._tracing.record(live.trace, handler.address, times_ms, attributes, error)

    def renewed(self, live: LiveRun) -> None:
        """A generation ended with `continue_as_new`: a span of its own."""
        attributes = {
            **_about(live), "agnt5.kind": live.handler.kind.value, "agnt5.generation": live.generation,
            "agnt5.status": "continued",
        }  # fmt: skip
        self._tracing.record(live.trace, live.handler.address, (live.stretch_ms, live.host.clock_ms()), attributes)


def record_untold(
    tracing: Tracing, end: Untold, started: RunStarted, ended: RunFailed | RunCancelled, reopened_ms: Sequence[int]
) -> None:
    """Record the span of a run that no worker ended; `reopened_ms` are the times at which it was opened again."""
    trace = tracing.placed(trace_of(end.run_id, started.headers, started.at)).reopened(len(reopened_ms))
    attributes = _of_an_end(
        end.run_id, end.handler, started.kind, attempt=end.attempt, generation=end.generation, status=end.ending
    )
    error = from_data(ended.error) if isinstance(ended, RunFailed) else None
    tracing.record(trace, end.handler, ([started.at, *reopened_ms][-1], end.at_ms), attributes, error)


def _of_an_end(run_id: str, address: str, kind: str, *, attempt: int, generation: int, status: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "agnt5.run_id": run_id,
        "agnt5.handler": address,
        "agnt5.kind": kind,
        "agnt5.attempt": attempt,
        "agnt5.generation": generation,
        "agnt5.status": _STATUS.get(status, status),
        "messaging.system": "agnt5",
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "messaging.destination.name": queue_of(address.partition(".")[0]),
        "messaging.message.id": run_id,
    }
    if kind == Kind.ENTITY.value and (entity := entity_of(run_id)) is not None:
        attributes["agnt5.entity"] = entity
    return attributes


def _about(live: LiveRun) -> dict[str, Any]:
    return {"agnt5.run_id": live.run_id, "agnt5.handler": live.handler.address}

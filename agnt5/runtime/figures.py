"""What happens to runs, as numbers: asked for by the observer, kept by `telemetry/figures.py`. Free where it is off."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from agnt5.contracts.ids import queue_of
from agnt5.contracts.runs import Kind
from agnt5.replay.events import RunStarted
from agnt5.sdk.port import ModelCall
from agnt5.store.replies import Claimed
from agnt5.telemetry.figures import NOTHING, current

if TYPE_CHECKING:
    from agnt5.runtime.host import Host
    from agnt5.runtime.live import LiveRun

_STATES = [(kind.value, state) for kind in Kind for state in ("running", "waiting")]


class RunFigures:
    """One host's."""

    def __init__(self) -> None:
        self._to = current()

    def claimed(self, live: LiveRun, claimed: Claimed, *, by_message: bool) -> None:
        if not self._to.on:
            return
        handler = live.handler
        self._to.claimed(handler.address, first=claimed.first)
        if by_message:
            self._to.queue_delay(queue_of(handler.service), max(0, claimed.now_ms - claimed.queued_ms) / 1000)
        if handler.kind is Kind.WORKFLOW:
            self._to.replayed(handler.address, claimed.length)
        elif handler.kind is Kind.ENTITY and handler.mode == "write" and claimed.first and claimed.entries:
            # one that stood in line was queued when it got the lock, or came to its host with it
            got_lock_ms = claimed.queued_ms if by_message else claimed.now_ms
            self._to.lock_wait(handler.address, max(0, got_lock_ms - entry_ms(claimed.entries[0])) / 1000)

    def attempt(self, live: LiveRun) -> AbstractContextManager[Any]:
        return self._to.attempt(live.handler.address)

    def activation(self, live: LiveRun) -> AbstractContextManager[Any]:
        return self._to.activation(live.handler.address)

    def step(self, live: LiveRun, name: str) -> AbstractContextManager[Any]:
        return self._to.step(live.handler.address, name)

    def asks(self, call: ModelCall) -> AbstractContextManager[Any]:
        return self._asked(call) if self._to.on else NOTHING

    @contextmanager
    def _asked(self, call: ModelCall) -> Generator[None]:
        begun_s, outcome = time.perf_counter(), "failed"
        try:
            yield
            outcome = "completed"
        finally:
            response = call.response
            model = (response and response.model) or call.request.models[0]
            self._to.asked(model, time.perf_counter() - begun_s, outcome)
            if response is not None:
                usage = response.usage
                self._to.spent(
                    model, tokens_in=usage.prompt_tokens, tokens_out=usage.completion_tokens, cost=response.cost
                )

    def retried(self, live: LiveRun) -> None:
        self._to.retried(live.handler.address)

    def ended(self, live: LiveRun, status: str) -> None:
        if self._to.on:
            started: RunStarted | None = getattr(live, "started", None)  # None: it ended before its code began
            # the store's time up to the claim, our own since then: no two clocks are compared
            took_ms = None if started is None else live.claimed.now_ms - started.at + live.host.since_ms(live.begun_s)
            self._to.ended(live.handler.address, status, None if took_ms is None else max(0, took_ms) / 1000)

    def parked(self, live: LiveRun) -> None:
        self._to.parked(live.handler.address)

    def turned(self, host: Host) -> None:
        """Tell what is counted once a second."""
        if not self._to.on:
            return
        counts = dict.fromkeys(_STATES, 0)
        for live in host.live.values():
            counts[live.handler.kind.value, "waiting" if live.waiting else "running"] += 1
        self._to.hosted(counts)


def entry_ms(entry: bytes) -> int:
    """The time of a journal's entry, which begins `{"at":<ms>,`."""
    return int(entry[6:].partition(b",")[0])

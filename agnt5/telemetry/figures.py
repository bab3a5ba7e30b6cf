"""The runtime's own figures, as the runtime tells them. Off by default: then nothing is counted, made or imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as beat sees it."""

    length: int
    oldest_age_s: float


class Figures:
    """What can be told. These methods do nothing; `metrics_runtime.py` has those that count.

    None raises, each takes at most a few microseconds, and all can be called from any thread.
    """

    on = False

    # ---- runs

    def claimed(self, handler: str, *, first: bool) -> None:
        """A run was taken."""

    def queue_delay(self, queue: str, seconds: float) -> None:
        """A run was taken so long after it was queued."""

    def replayed(self, handler: str, events: int) -> None:
        """A workflow was taken whose journal has so many events."""

    def lock_wait(self, handler: str, seconds: float) -> None:
        """A write of an entity got its lock."""

    def attempt(self, handler: str) -> AbstractContextManager[Any]:
        """Around an attempt."""
        del handler
        return NOTHING

    def activation(self, handler: str) -> AbstractContextManager[Any]:
        """Around a stretch of a workflow's code."""
        del handler
        return NOTHING

    def step(self, handler: str, name: str) -> AbstractContextManager[Any]:
        """Around a step."""
        del handler, name
        return NOTHING

    def retried(self, handler: str) -> None:
        """An attempt failed that another one follows."""

    def expected(self, handlers: Iterable[str]) -> None:
        """Runs of these will end."""

    def ended(self, handler: str, status: str, seconds: float | None) -> None:
        """A run ended, so long after its creation."""

    def parked(self, handler: str) -> None:
        """A run was given back."""

    def hosted(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Runs in this process, by kind and state."""

    def asked(self, model: str, seconds: float, outcome: str) -> None:
        """A language model was called."""

    def spent(self, model: str, *, tokens_in: int, tokens_out: int, cost: float | None) -> None:
        """What an answered call of a language model used."""

    # ---- the store

    def store(self, *, calls: int, writes: int, reconnects: int) -> None:
        """What a link did since it was told last."""

    def round_trip(self, seconds: float) -> None:
        """A call took so long from its write to its reply."""

    # ---- beat, and whoever sweeps

    def reaped(self, how: str, runs: int) -> None:
        """A host was struck off: `silent` or `left`; so many runs were queued again."""

    def fired(self, lateness_ms: Iterable[int]) -> None:
        """Timers were delivered, each so late."""

    def resent(self, messages: int) -> None:
        """Lost messages were sent again."""

    def turned(self, unix_s: float) -> None:
        """Beat made a turn."""

    def looked(self, queues: Mapping[str, Queue], *, open_runs: int, refused_runs: int, live_hosts: int) -> None:
        """Beat looked around."""


_OFF = Figures()
_current: Figures = _OFF


def current() -> Figures:
    """This process's figures."""
    return _current


def use(figures: Figures) -> None:
    """Count from here on. Hosts and beats that are made later tell these."""
    global _current  # noqa: PLW0603 - a process has one registry of metrics, and so one set of figures
    _current = figures

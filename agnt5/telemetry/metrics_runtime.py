"""The runtime's own figures, kept by prometheus-client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any

from agnt5.telemetry.figures import Figures, Queue
from agnt5.telemetry.metrics_names import METHODS
from agnt5.telemetry.metrics_table import OF_ROLE, Figure, Role

logger = logging.getLogger("agnt5.metrics")

STATUSES = ("completed", "failed", "timeout", "cancelled")
MODELS_LIMIT = 200
"""Names of models; further ones count as `other`, since anybody who starts runs may choose them."""

_STEP_KINDS = {"llm": "llm", "tool": "tool"}


Ended = Callable[[type[BaseException] | None, float], None]
"""Told what an error left a piece of work (None: none did), and how many seconds it took."""


class _Measured:
    """Around a piece of work. Made for each, so it is small."""

    __slots__ = ("_begun_s", "_ended")

    def __init__(self, ended: Ended) -> None:
        self._ended = ended

    def __enter__(self) -> None:
        self._begun_s = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended(kind, perf_counter() - self._begun_s)


class PrometheusFigures(Figures):
    """Counts. Every set of label values is bound once: telling costs a look-up and an addition."""

    on = True

    def __init__(self, registry: Any = None) -> None:
        import prometheus_client  # noqa: PLC0415 - only where figures are served

        self._client = prometheus_client
        self._registry = registry or prometheus_client.REGISTRY
        self._made: dict[str, Any] = {}
        self._bound: dict[tuple[str, ...], Callable[[float], None]] = {}
        self._ends: dict[tuple[str, ...], Ended] = {}
        self._models: set[str] = set()
        self._queues: set[str] = set()
        self._told = False

    def add(self, role: Role) -> None:
        """Make the figures of a role, as far as they are not there."""
        for figure in OF_ROLE[role]:
            if figure.name not in self._made:
                self._made[figure.name] = self._make(figure)
                if not figure.labels:
                    self._bind((figure.name,))
        for how in ("silent", "left"):  # from 0 on, so that the first one is an increase
            self._bind(("agnt5_hosts_reaped", how))

    def _make(self, figure: Figure) -> Any:
        common = (figure.name, figure.text, figure.labels)
        match figure.sort:
            case "counter":
                return self._client.Counter(*common, registry=self._registry)
            case "histogram":
                return self._client.Histogram(*common, registry=self._registry, buckets=figure.buckets)
            case "gauge":
                return self._client.Gauge(*common, registry=self._registry, multiprocess_mode=figure.mode)

    def _bind(self, key: tuple[str, ...]) -> Callable[[float], None]:
        name, *labels = key
        made = self._made[name]
        child = made.labels(*labels) if labels else made
        bound: Callable[[float], None] = getattr(child, METHODS[made._type])  # noqa: SLF001 - its own word for its sort
        self._bound[key] = bound
        return bound

    def _tell(self, value: float, *key: str) -> None:
        try:
            bound = self._bound.get(key) or self._bind(key)
            bound(value)
        except Exception as error:  # noqa: BLE001 - figures never break what they count
            if not self._told:
                self._told = True
                logger.warning("figure %s was not counted: %r; further such errors are not told", key[0], error)

    def _measured(self, *key: str, outcome: bool = True) -> _Measured:
        """Around a piece of work whose time goes to a figure; with its outcome as the last label."""
        ended = self._ends.get(key)
        if ended is None:
            ended = self._ends[key] = self._with_outcome(key) if outcome else lambda _, took_s: self._tell(took_s, *key)
        return _Measured(ended)

    def _with_outcome(self, key: tuple[str, ...]) -> Ended:
        completed, failed, cancelled = ((*key, outcome) for outcome in ("completed", "failed", "cancelled"))

        def ended(kind: type[BaseException] | None, took_s: float) -> None:
            if kind is None:
                self._tell(took_s, *completed)
            else:
                self._tell(took_s, *(cancelled if issubclass(kind, asyncio.CancelledError) else failed))

        return ended

    # ---- runs

    def claimed(self, handler: str, *, first: bool) -> None:
        if not first:
            return
        self.expected((handler,))
        self._tell(1, "agnt5_runs_started", handler)

    def expected(self, handlers: Iterable[str]) -> None:
        for handler in handlers:
            if ("agnt5_runs_ended", handler, STATUSES[0]) not in self._bound:
                for status in STATUSES:
                    self._tell(0, "agnt5_runs_ended", handler, status)

    def queue_delay(self, queue: str, seconds: float) -> None:
        self._tell(seconds, "agnt5_queue_delay_seconds", queue)

    def replayed(self, handler: str, events: int) -> None:
        self._tell(events, "agnt5_replay_events", handler)

    def lock_wait(self, handler: str, seconds: float) -> None:
        self._tell(seconds, "agnt5_entity_lock_wait_seconds", handler)

    def attempt(self, handler: str) -> _Measured:
        return self._measured("agnt5_attempt_seconds", handler)

    def activation(self, handler: str) -> _Measured:
        return self._measured("agnt5_activation_seconds", handler, outcome=False)

    def step(self, handler: str, name: str) -> _Measured:
        kind = _STEP_KINDS.get(name.partition(":")[0], "step") if ":" in name else "step"
        return self._measured("agnt5_step_seconds", handler, kind)

    def retried(self, handler: str) -> None:
        self._tell(1, "agnt5_retries", handler)

    def ended(self, handler: str, status: str, seconds: float | None) -> None:
        self._tell(1, "agnt5_runs_ended", handler, status)
        if seconds is not None:
            self._tell(seconds, "agnt5_run_duration_seconds", handler, status)

    def parked(self, handler: str) -> None:
        self._tell(1, "agnt5_runs_parked", handler)

    def hosted(self, counts: Mapping[tuple[str, str], int]) -> None:
        for (kind, state), count in counts.items():
            self._tell(count, "agnt5_hosted_runs", kind, state)

    def asked(self, model: str, seconds: float, outcome: str) -> None:
        model = self._model(model)
        self._tell(1, "agnt5_llm_requests", model, outcome)
        self._tell(seconds, "agnt5_llm_seconds", model)

    def spent(self, model: str, *, tokens_in: int, tokens_out: int, cost: float | None) -> None:
        model = self._model(model)
        self._tell(tokens_in, "agnt5_llm_tokens", model, "input")
        self._tell(tokens_out, "agnt5_llm_tokens", model, "output")
        if cost is not None:
            self._tell(cost, "agnt5_llm_cost_dollars", model)

    def _model(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= MODELS_LIMIT:
                return "other"
            self._models.add(model)
        return model

    # ---- the store

    def store(self, *, calls: int, writes: int, reconnects: int) -> None:
        self._tell(calls, "agnt5_store_calls")
        self._tell(writes, "agnt5_store_writes")
        self._tell(reconnects, "agnt5_store_reconnects")

    def round_trip(self, seconds: float) -> None:
        self._tell(seconds, "agnt5_store_round_trip_seconds")

    # ---- beat

    def reaped(self, how: str, runs: int) -> None:
        self._tell(1, "agnt5_hosts_reaped", how)
        self._tell(runs, "agnt5_runs_requeued")

    def fired(self, lateness_ms: Iterable[int]) -> None:
        for late_ms in lateness_ms:
            self._tell(1, "agnt5_timers_fired")
            self._tell(late_ms / 1000, "agnt5_timer_lateness_seconds")

    def resent(self, messages: int) -> None:
        self._tell(messages, "agnt5_messages_resent")

    def turned(self, unix_s: float) -> None:
        self._tell(unix_s, "agnt5_beat_last_turn_timestamp_seconds")

    def looked(self, queues: Mapping[str, Queue], *, open_runs: int, refused_runs: int, live_hosts: int) -> None:
        self._queues |= set(queues)
        for name in self._queues:
            queue = queues.get(name) or Queue(0, 0.0)
            self._tell(queue.length, "agnt5_queue_length", name)
            self._tell(queue.oldest_age_s, "agnt5_queue_oldest_age_seconds", name)
        self._tell(open_runs, "agnt5_open_runs")
        self._tell(refused_runs, "agnt5_refused_runs")
        self._tell(live_hosts, "agnt5_live_hosts")

"""The runtime's own figures: names, labels, what they say. docs/metrics.md, dashboard and alerts use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agnt5.telemetry.metrics_names import Sort

Role = Literal["worker", "beat", "web"]

SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""Seconds: what holds a loop, or goes to Redis and back."""

WORK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Seconds: what code does, or waits for in a line."""

LONG = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600, 21_600, 86_400, 604_800)
"""Seconds: what may wait for people."""

EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. A counter's name is without its `_total`; `mode` is how a gauge of several processes is merged."""

    name: str
    sort: Sort
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    mode: Literal["livesum", "livemax"] = "livemax"

    @property
    def shown(self) -> str:
        """Its name as Prometheus has it."""
        return f"{self.name}_total" if self.sort == "counter" else self.name


SHARED = (
    Figure("agnt5_store_calls", "counter", "Commands and scripts sent to Redis."),
    Figure("agnt5_store_writes", "counter", "Writes to Redis' socket; each carries all calls of a moment."),
    Figure(
        "agnt5_store_round_trip_seconds", "histogram", "From a write to Redis to its reply; of each fourth write.",
        buckets=SHORT,
    ),
    Figure("agnt5_store_reconnects", "counter", "Connections to Redis made anew."),
    Figure("agnt5_hosts_reaped", "counter", "Hosts struck off: silent ones died, others left.", ("how",)),
    Figure("agnt5_runs_requeued", "counter", "Runs of dead hosts that were given to others."),
)  # fmt: skip
"""Of every process."""

ENDS = (
    Figure(
        "agnt5_runs_ended", "counter", "Runs that ended: on a worker, or told by a beat because no worker had them.",
        ("handler", "status"),
    ),
    Figure(
        "agnt5_run_duration_seconds", "histogram", "From a run's creation to its end, with all waiting.",
        ("handler", "status"), LONG,
    ),
)  # fmt: skip
"""Of workers and beats."""

WORKER = (
    Figure("agnt5_runs_started", "counter", "Runs taken by a worker for the first time.", ("handler",)),
    Figure("agnt5_runs_parked", "counter", "Waiting runs given back to Redis.", ("handler",)),
    Figure(
        "agnt5_hosted_runs", "gauge", "Runs in the memory of workers, by kind, running or waiting.",
        ("kind", "state"), mode="livesum",
    ),
    Figure(
        "agnt5_queue_delay_seconds", "histogram", "From queueing a run (anew) to a worker's claim.", ("queue",), LONG
    ),
    Figure("agnt5_attempt_seconds", "histogram", "Attempts of functions and entities.", ("handler", "outcome"), WORK),
    Figure("agnt5_retries", "counter", "Failed attempts that another one follows.", ("handler",)),
    Figure("agnt5_activation_seconds", "histogram", "Stretches of workflow code.", ("handler",), SHORT),
    Figure("agnt5_replay_events", "histogram", "Events in a workflow's journal at its claim.", ("handler",), EVENTS),
    Figure(
        "agnt5_step_seconds", "histogram", "Steps really run; kind is step, llm or tool.",
        ("handler", "kind", "outcome"), WORK,
    ),
    Figure(
        "agnt5_entity_lock_wait_seconds", "histogram", "From the call of an entity's write to its lock.",
        ("handler",), WORK,
    ),
    Figure("agnt5_llm_requests", "counter", "Calls of language models.", ("model", "outcome")),
    Figure("agnt5_llm_seconds", "histogram", "Calls of language models, with their tries.", ("model",), WORK),
    Figure("agnt5_llm_tokens", "counter", "Tokens of answered calls; input or output.", ("model", "direction")),
    Figure("agnt5_llm_cost_dollars", "counter", "US dollars of answered calls whose price is known.", ("model",)),
)  # fmt: skip

BEAT = (
    Figure("agnt5_timers_fired", "counter", "Timers delivered."),
    Figure("agnt5_timer_lateness_seconds", "histogram", "How late timers were delivered.", buckets=WORK),
    Figure("agnt5_messages_resent", "counter", "Lost Celery messages found and sent again."),
    Figure("agnt5_beat_last_turn_timestamp_seconds", "gauge", "Unix time of beat's last turn."),
    Figure("agnt5_queue_length", "gauge", "Runs that wait for a worker.", ("queue",)),
    Figure("agnt5_queue_oldest_age_seconds", "gauge", "How long the oldest run waits for a worker.", ("queue",)),
    Figure("agnt5_open_runs", "gauge", "Root runs that have not ended."),
    Figure("agnt5_refused_runs", "gauge", "Runs that wait for other code (see agnt5 doctor)."),
    Figure("agnt5_live_hosts", "gauge", "Worker processes that have beaten lately."),
)

OF_ROLE: dict[Role, tuple[Figure, ...]] = {
    "worker": (*SHARED, *ENDS, *WORKER), "beat": (*SHARED, *ENDS, *BEAT), "web": SHARED,
}  # fmt: skip

FIGURES = (*SHARED, *ENDS, *WORKER, *BEAT)
"""All of them."""

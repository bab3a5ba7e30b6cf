"""Metrics of user code, kept by prometheus-client. One recorder a process; nothing that it is told can raise."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agnt5.telemetry import metrics_names as names
from agnt5.telemetry.logs import shown
from agnt5.telemetry.metrics_names import MisuseError, Sort

logger = logging.getLogger("agnt5.metrics")

SERIES_LIMIT = 1000
"""Sets of label values of one metric; what is beyond it counts in one more series, whose labels are all `other`."""

METRICS_LIMIT = 1000
_BOUND_LIMIT = 10_000
_TOLD_LIMIT = 1000
_KEY_LIMIT = 1000


@dataclass(slots=True)
class _Metric:
    sort: Sort
    labels: tuple[str, ...]
    made: Any
    series: set[tuple[str, ...]] = field(default_factory=set)


class Recorder:
    """What `ctx.metrics()` writes to. Safe from any thread.

    Misuse is told in the log once for each metric and sort of mistake, and changes nothing else: neither what was
    counted before, nor the caller.
    """

    def __init__(self, registry: Any = None) -> None:
        import prometheus_client  # noqa: PLC0415 - whoever counts nothing need not load it

        self._client = prometheus_client
        self._registry = registry or prometheus_client.REGISTRY
        self._lock = threading.Lock()
        self._metrics: dict[str, _Metric] = {}
        self._bound: dict[tuple[Any, ...], Callable[[float], None]] = {}
        self._told: set[tuple[str, str]] = set()

    def record(self, sort: Sort, name: str, value: float, labels: Mapping[str, Any]) -> None:
        """Count, observe or set."""
        try:
            amount = names.number(sort, value)
            key = (sort, name, *labels, *map(str, labels.values()))
            bound = self._bound.get(key)
            if bound is None:
                bound = self._bind(sort, name, labels, key)
            bound(amount)
        except MisuseError as misuse:
            self._tell(name, misuse.problem, misuse)
        except Exception as error:  # noqa: BLE001 - a metric never breaks a handler
            self._tell(name, type(error).__name__, f"{shown(error)}; it is not counted")

    def _bind(self, sort: Sort, name: str, labels: Mapping[str, Any], key: tuple[Any, ...]) -> Callable[[float], None]:
        made = names.valid_name(name, sort)
        label_names = names.valid_labels(labels)
        with self._lock:
            metric = self._metrics.get(made) or self._make(made, sort, label_names)
            _check(metric, sort, label_names)
            bound: Callable[[float], None] = getattr(self._child(name, metric, labels), names.METHODS[sort])
            if len(self._bound) >= _BOUND_LIMIT:
                self._bound.clear()
            if sum(map(len, key)) < _KEY_LIMIT:  # longer ones are looked up each time, so that they take no memory
                self._bound[key] = bound
            return bound

    def _make(self, name: str, sort: Sort, label_names: tuple[str, ...]) -> _Metric:
        if len(self._metrics) >= METRICS_LIMIT:
            raise MisuseError(
                "metrics",
                f"there are {METRICS_LIMIT:,} metrics already, it is not counted; put what differs into a label's value"
                " instead of into names",
            )
        client, common = self._client, (name, f"{name}, of handlers.", label_names)
        made: Any
        try:
            match sort:
                case "counter":
                    made = client.Counter(*common, registry=self._registry)
                case "histogram":
                    made = client.Histogram(*common, registry=self._registry, buckets=names.buckets_of(name))
                case "gauge":
                    made = client.Gauge(*common, registry=self._registry, multiprocess_mode="mostrecent")
        except ValueError as error:
            raise MisuseError("name", f"another metric uses this name already ({error}); choose another") from None
        metric = self._metrics[name] = _Metric(sort, label_names, made)
        return metric

    def _child(self, name: str, metric: _Metric, labels: Mapping[str, Any]) -> Any:
        if not metric.labels:
            return metric.made
        values = tuple(names.label_text(labels[label]) for label in metric.labels)
        if values not in metric.series:
            if len(metric.series) >= SERIES_LIMIT:
                self._tell(
                    name,
                    "series",
                    f"more than {SERIES_LIMIT:,} sets of values of the labels {_shown(metric.labels)}; further ones are"
                    f" counted with {names.OTHER!r} as each value. Leave out labels whose values are never the same"
                    " twice, such as ids",
                )
                values = (names.OTHER,) * len(values)
            else:
                metric.series.add(values)
        return metric.made.labels(*values)

    def _tell(self, name: object, problem: str, text: object) -> None:
        """Once for each name and problem, and only so many of them."""
        key = ((name if isinstance(name, str) else shown(name))[: names.NAME_LIMIT], problem)
        if key not in self._told and len(self._told) < _TOLD_LIMIT:
            self._told.add(key)
            logger.warning("metric %s: %s", key[0], text)


def _check(metric: _Metric, sort: Sort, label_names: tuple[str, ...]) -> None:
    if metric.sort != sort:
        raise MisuseError(
            "sort", f"it was a {metric.sort} before and is used as a {sort}; it is not counted. Use another name"
        )
    if metric.labels != label_names:
        raise MisuseError(
            "labels",
            f"found the labels {_shown(label_names)}, expected {_shown(metric.labels)} as at its first use; it is not"
            " counted. Give the same label names in every place that uses this metric, or use another name",
        )


def _shown(label_names: tuple[str, ...]) -> str:
    return f"({', '.join(label_names)})" if label_names else "(none)"


_making = threading.Lock()
_recorder: Recorder | None = None


def recorder() -> Recorder:
    """This process's recorder: its metrics are in prometheus-client's default registry."""
    global _recorder  # noqa: PLW0603 - a process has one registry of metrics, and so one of these
    if _recorder is None:
        with _making:
            if _recorder is None:
                _recorder = Recorder()
    return _recorder

"""`ctx.metrics()`: counters, histograms, gauges and times of handlers."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, Self, TypeVar, overload

from agnt5.contracts.clock import monotonic_s
from agnt5.telemetry.metrics import Recorder, recorder
from agnt5.telemetry.metrics_names import Sort, timed

F = TypeVar("F", bound=Callable[..., Any])


class Metrics:
    """Metrics for Prometheus, served at `AGNT5_METRICS_PORT`.

    Names are made valid (`requests.count` is `requests_count`, shown as `requests_count_total`). The first use of a
    name decides its sort and its labels; what does not agree later is left out and told in the log once. Nothing here
    raises. Silent while a workflow is replayed, so that what a replay runs again counts once; a later attempt of a
    function counts again, and so does what a crash cut off before it was recorded.
    """

    def __init__(self, silent: Callable[[], bool]) -> None:
        self._silent = silent
        self._recorder: Recorder = recorder()

    def increment(self, name: str, /, value: float = 1, **labels: Any) -> None:
        """Add to a counter; a negative value is refused."""
        self._record("counter", name, value, labels)

    def observe(self, name: str, /, value: float, **labels: Any) -> None:
        """Put a value into a histogram. Its buckets suit the unit that the name ends in: ms, seconds, bytes, ratio."""
        self._record("histogram", name, value, labels)

    def gauge(self, name: str, /, value: float, **labels: Any) -> None:
        """Set a gauge. Of a worker's processes the one that set it last is shown."""
        self._record("gauge", name, value, labels)

    @overload
    def timing(self, name: str, /, milliseconds: float, **labels: Any) -> None: ...
    @overload
    def timing(self, name: str, /, **labels: Any) -> Timing: ...
    def timing(self, name: str, /, milliseconds: float | None = None, **labels: Any) -> Timing | None:
        """Put a time into a histogram: given in milliseconds, or measured around a block (`with`) or a function (`@`).

        It is kept in seconds under `<name>_seconds`; a name that ends in `ms` or `seconds` stays as it is and says the
        unit. In a workflow, a time that began while it was replayed is not recorded: nobody knows how long it took.
        """
        if milliseconds is None:
            return Timing(self, name, labels)
        with contextlib.suppress(TypeError, AttributeError):  # no text, no number: told by what records it
            name, milliseconds = timed(name, milliseconds)
        self._record("histogram", name, milliseconds, labels)
        return None

    def _record(self, sort: Sort, name: str, value: float, labels: dict[str, Any]) -> None:
        if not self._silent():
            self._recorder.record(sort, name, value, labels)

    def _measures(self) -> bool:
        return not self._silent()


class Timing:
    """Measures a block, or each call of a function (sync or `async def`), also when it raises."""

    def __init__(self, metrics: Metrics, name: str, labels: dict[str, Any]) -> None:
        self._metrics = metrics
        self._name = name
        self._labels = labels
        self._begun_s: list[float | None] = []

    def __enter__(self) -> Self:
        """Begin to measure."""
        self._begun_s.append(monotonic_s() if self._metrics._measures() else None)  # noqa: SLF001 - its other half
        return self

    def __exit__(self, *_: object) -> None:
        """Record the time since the block was entered."""
        begun_s = self._begun_s.pop()
        if begun_s is not None:
            self._metrics.timing(self._name, (monotonic_s() - begun_s) * 1000, **self._labels)

    def __call__(self, fn: F) -> F:
        """Measure each call of a function."""
        metrics, name, labels = self._metrics, self._name, self._labels
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def measured(*args: Any, **kwargs: Any) -> Any:
                with Timing(metrics, name, labels):
                    return await fn(*args, **kwargs)

        else:

            @functools.wraps(fn)
            def measured(*args: Any, **kwargs: Any) -> Any:
                with Timing(metrics, name, labels):
                    return fn(*args, **kwargs)

        return measured  # type: ignore[return-value]  # of the same form as fn

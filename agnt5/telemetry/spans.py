"""Spans of this process, for OpenTelemetry. Where it is off, everything here is a None check.

`spans_tracer` makes the spans and `spans_export` sets OpenTelemetry's SDK up; both are loaded only where the standard
environment (OTEL_*), or a provider that the application has set, says that spans are wanted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from agnt5.contracts.traces import TRACE_HEADERS, TRACEPARENT, TRACESTATE, Trace

if TYPE_CHECKING:
    from agnt5.telemetry.spans_tracer import Tracing

SCOPE = "agnt5"
"""The instrumentation scope of all spans that are made here."""

_API = "opentelemetry.trace"
_WISHES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

logger = logging.getLogger("agnt5.telemetry")

_active: Tracing | None = None


def active() -> Tracing | None:
    """What makes the spans of this process; None where there are none to make."""
    return _active


def start_tracing(instance: str) -> Tracing | None:
    """Begin to make spans in this process, if they are wanted. To be called after a fork, before the first run.

    `instance` tells processes apart (`service.instance.id`). What is missing or wrong is logged, and there are no
    spans then: runs do not depend on them.
    """
    global _active  # noqa: PLW0603 - one a process, as OpenTelemetry's own provider
    _active = None
    if not _asked_for():
        return None
    try:
        from agnt5.telemetry import spans_tracer  # noqa: PLC0415 - only those who trace pay for it

        _active = spans_tracer.begin(instance)
    except ImportError as error:
        logger.error(  # noqa: TRY400 - its text says all
            "tracing is off: OTEL_* asks for spans, and OpenTelemetry cannot be imported (%s):"
            " pip install 'agnt5-celery[otel]', or set OTEL_TRACES_EXPORTER=none",
            error,
        )
    except Exception as error:  # noqa: BLE001 - a wrong setting of spans stops no worker
        logger.error("tracing is off: %s", error)  # noqa: TRY400 - as above
    return _active


def _asked_for() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return environment_asks() or _application_has_set_one()


def environment_asks() -> bool:
    """Whether the environment asks for spans."""
    if os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(os.environ.get(name, "").strip() for name in _WISHES)


def _application_has_set_one() -> bool:
    """Whether there is a provider; others (redis-py, for one) load the API too and set none."""
    if (api := sys.modules.get(_API)) is None:
        return False
    with contextlib.suppress(Exception):  # as in `outgoing`
        return not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)
    return False


def current_span_id() -> str:
    """The span in which the caller's code runs, as 16 hexadecimal digits; "" where there is none."""
    if _active is None:
        return ""
    return _active.current_span_id()


def outgoing() -> dict[str, str]:
    """The headers that put a receiver below the current span of OpenTelemetry, whoever made it; none outside of one.

    Costs nothing where OpenTelemetry was never imported.
    """
    if (api := sys.modules.get(_API)) is None:
        return {}
    with contextlib.suppress(Exception):  # half imported, or a provider of somebody's own
        context = api.get_current_span().get_span_context()
        if context.is_valid:
            trace = Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=context.trace_flags.sampled)
            state = context.trace_state.to_header()
            return {TRACEPARENT: trace.traceparent(), **({TRACESTATE: state} if state else {})}
    return {}


def with_outgoing(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with those of the current span, unless they say themselves where the receiver stands in a trace."""
    if any(name.lower() in TRACE_HEADERS for name in headers):
        return dict(headers)
    return {**headers, **outgoing()}


class NoSpan:
    """What `ctx.trace_span()` gives where no spans are made. Takes what OpenTelemetry's spans take."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Nothing."""

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Nothing."""

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        """Nothing."""

    def add_link(self, context: Any, attributes: Mapping[str, Any] | None = None) -> None:
        """Nothing."""

    def record_exception(self, exception: BaseException, *_: Any, **__: Any) -> None:
        """Nothing."""

    def set_status(self, status: Any, description: str | None = None) -> None:
        """Nothing."""

    def update_name(self, name: str) -> None:
        """Nothing."""

    def is_recording(self) -> bool:
        """False."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


NO_SPAN = NoSpan()

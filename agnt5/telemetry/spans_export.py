"""Sets OpenTelemetry's SDK up as the standard environment says. Loaded where that asks for spans."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.masking import masked
from agnt5.telemetry.spans import environment_asks

DEFAULT_SERVICE = "agnt5"

_GROUP = "opentelemetry_traces_exporter"
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_PACKAGES = {
    "otlp_proto_http": "pip install 'agnt5-celery[otel]'",
    "otlp_proto_grpc": "pip install opentelemetry-exporter-otlp-proto-grpc, or set the protocol to http/protobuf",
}
_LOUD = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")

logger = logging.getLogger("agnt5.telemetry")


def provider_of_environment(instance: str) -> TracerProvider | None:
    """A provider with what OTEL_TRACES_EXPORTER names (by default `otlp`), in batches; None where it names none.

    Raises `ConfigurationError` that names the variable, or the extra that is missing.
    """
    if not environment_asks():
        return None
    names = [name.strip() for name in (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    exporters = [_exporter(name) for name in names if name]
    provider = TracerProvider(resource=_resource(instance), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(_Quiet(exporter)))
    for name in _LOUD:
        logging.getLogger(name).addFilter(_worth_telling)
    return provider


def _exporter(name: str) -> SpanExporter:
    if name == "otlp":
        protocol = _of_traces("PROTOCOL") or "http/protobuf"
        if protocol not in _OTLP:
            raise ConfigurationError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL: expected one of {', '.join(_OTLP)}, found {protocol!r}"
            )
        name = _OTLP[protocol]
    found = next(iter(entry_points(group=_GROUP, name=name)), None)
    if found is None:
        known = ", ".join(sorted(entry_points(group=_GROUP).names))
        remedy = _PACKAGES.get(name, f"known are otlp, none, {known}")
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER: the exporter {name!r} is not installed; {remedy}")
    exporter = found.load()()
    assert isinstance(exporter, SpanExporter)
    return exporter


def _of_traces(name: str) -> str:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "")
    return (own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")).strip().lower()


def _resource(instance: str) -> Resource:
    """Who makes the spans. What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say comes first."""
    named = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    given: dict[str, Any] = {}
    if not os.environ.get("OTEL_SERVICE_NAME") and f"{SERVICE_NAME}=" not in named:
        given[SERVICE_NAME] = DEFAULT_SERVICE
    if f"{SERVICE_INSTANCE_ID}=" not in named:
        given[SERVICE_INSTANCE_ID] = instance
    return Resource.create(given)


class _Quiet(SpanExporter):
    """An exporter that masks what it sends, and whose failures are told once, until it has worked again."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        reason = ""
        try:
            result = self._inner.export([_masked(span) for span in spans])
        except Exception as error:  # noqa: BLE001 - as a failure that it reports itself
            result, reason = SpanExportResult.FAILURE, f" ({masked(repr(error))})"
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            logger.warning(
                "spans cannot be sent%s; runs go on without them. Look at the collector of OTEL_EXPORTER_OTLP_ENDPOINT",
                reason,
            )
        elif self._failing and not failing:
            logger.info("spans can be sent again")
        self._failing = failing
        return result

    def shutdown(self) -> None:
        """End."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the exporter holds itself."""
        return self._inner.force_flush(timeout_millis)


def _worth_telling(record: logging.LogRecord) -> bool:
    """Whether a line of the SDK is told: those about a collector that does not answer come with every batch."""
    return record.levelno > logging.ERROR


def _masked(span: ReadableSpan) -> ReadableSpan:
    """A span without the secrets that this process knows; itself where there is nothing to mask."""
    texts = repr((span.name, span.attributes and dict(span.attributes), span.status.description, _events(span)))
    if masked(texts) == texts:
        return span
    return ReadableSpan(
        name=masked(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_masked_all(span.attributes),
        events=[Event(masked(one.name), _masked_all(one.attributes), one.timestamp) for one in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, masked(span.status.description or "") or None),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(one.name, dict(one.attributes or {})) for one in span.events]


def _masked_all(attributes: Any) -> dict[str, Any]:
    return {name: _masked_value(value) for name, value in (attributes or {}).items()}


def _masked_value(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    return tuple(_masked_value(one) for one in value) if isinstance(value, list | tuple) else value

"""Spans of this process, kept in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agnt5.telemetry.spans_tracer import Tracing


class Recorded:
    """A provider with an exporter that keeps what it gets, in use for this process."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(self.provider.get_tracer("agnt5"), self.provider)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """The latest of each name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}

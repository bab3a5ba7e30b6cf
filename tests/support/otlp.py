"""A collector of traces for tests: OTLP over real HTTP, spans as they came."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.waiting import until_sync


@dataclass(frozen=True)
class Told:
    """A span as it was received. Ids in hexadecimal digits; times in nanoseconds; `kind` and `status` as in OTLP."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    begun_ns: int
    ended_ns: int
    status: int
    message: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str]]
    resource: dict[str, Any] = field(repr=False)
    scope: str = ""


class Collector:
    """Receives spans on a port of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Told] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="test-otlp", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def env(self) -> dict[str, str]:
        """Variables with which a process sends its spans here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def take(self, body: bytes) -> None:
        """A request's spans."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            for group in request.resource_spans:
                resource = _plain(group.resource.attributes)
                for scope in group.scope_spans:
                    self._spans += [_told(span, resource, scope.scope.name) for span in scope.spans]

    @property
    def spans(self) -> list[Told]:
        """All that came, in order."""
        with self._lock:
            return list(self._spans)

    def of(self, run_id: str) -> list[Told]:
        """The spans that name a run."""
        return [span for span in self.spans if span.attributes.get("agnt5.run_id") == run_id]

    def run(self, run_id: str) -> Told:
        """The span of a run, once it is there. A run has one."""
        (span,) = self.wait(lambda: [one for one in self.of(run_id) if "agnt5.status" in one.attributes], run_id)
        return span

    def trace(self, trace_id: str) -> list[Told]:
        """The spans of a trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def below(self, span: Told) -> list[Told]:
        """The spans that name this one as their parent, by their begin."""
        found = [one for one in self.trace(span.trace_id) if one.parent_id == span.span_id]
        return sorted(found, key=lambda one: one.begun_ns)

    def one(self, name: str, below: Told) -> Told:
        """The one span of this name below another, once it is there."""
        (span,) = self.wait(lambda: [one for one in self.below(below) if one.name == name], name)
        return span

    def wait(self, found: Callable[[], list[Told]], what: str) -> list[Told]:
        """Wait until something is found."""
        return until_sync(found, 30.0, f"a span of {what}")


def _told(span: Any, resource: dict[str, Any], scope: str) -> Told:
    return Told(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        begun_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        status=span.status.code,
        message=span.status.message,
        attributes=_plain(span.attributes),
        events=[(event.name, _plain(event.attributes)) for event in span.events],
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        resource=resource,
        scope=scope,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)

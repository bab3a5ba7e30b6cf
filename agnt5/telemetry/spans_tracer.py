"""Makes spans with OpenTelemetry's API, also those whose ids are known before they exist. Loaded where spans are made.

A run's span gets its id from its place in the trace. That is done by the tracer's own source of ids, of our tracer
only: it works with any provider of OpenTelemetry's SDK, ours or the application's. Providers that are none of the
SDK's choose ids themselves; there a run's span has a link to the id that its parts name as their parent.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from agnt5.contracts.errors import RunFailedError
from agnt5.contracts.masking import masked
from agnt5.contracts.traces import TRACEPARENT, Trace, trace_of
from agnt5.telemetry.spans import SCOPE

FLUSH_S = 5.0
"""How long a process that ends waits at most for its spans to be taken by the collector."""

_LONGEST = 16_000
_NEXT: ContextVar[tuple[int, int] | None] = ContextVar("agnt5_next_span", default=None)
_MS = 1_000_000

logger = logging.getLogger("agnt5.telemetry")


def begin(instance: str) -> Tracing | None:
    """The application's provider, or one that the environment describes; None where neither is there.

    Raises `ImportError` for a missing package, `ConfigurationError` for settings that name nothing known.
    """
    provider = api.get_tracer_provider()
    if isinstance(provider, api.NoOpTracerProvider):
        return None
    if isinstance(provider, api.ProxyTracerProvider):
        from agnt5.telemetry import spans_export  # noqa: PLC0415 - an application's provider needs no SDK of ours

        made = spans_export.provider_of_environment(instance)
        if made is None:
            return None
        api.set_tracer_provider(made)
        provider = made
    tracer = provider.get_tracer(SCOPE)
    if isinstance(tracer, api.NoOpTracer):
        return None
    return Tracing(tracer, provider)


class _Ids:
    """A source of ids that gives the ones which are fixed for the span that is being made, else those of `inner`."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def generate_span_id(self) -> int:
        fixed = _NEXT.get()
        return self._inner.generate_span_id() if fixed is None else fixed[1]

    def generate_trace_id(self) -> int:
        fixed = _NEXT.get()
        return self._inner.generate_trace_id() if fixed is None else fixed[0]

    def is_trace_id_random(self) -> bool:
        return _NEXT.get() is None and bool(self._inner.is_trace_id_random())


class Tracing:
    """The tracer of this process. None of its methods raises: what goes wrong with spans is logged once."""

    def __init__(self, tracer: Any, provider: Any) -> None:
        self._tracer = tracer
        self._provider = provider
        self._sampler = getattr(tracer, "sampler", None)
        self._fixes_ids = hasattr(tracer, "id_generator")
        self._warned = False
        if self._fixes_ids and not isinstance(tracer.id_generator, _Ids):
            tracer.id_generator = _Ids(tracer.id_generator)

    # ---- places

    def placed(self, trace: Trace) -> Trace:
        """The place of a run, sampled or not: a trace that begins here by the sampler, others as their parent was."""
        if trace.parent_id or self._sampler is None:
            return trace
        try:
            result = self._sampler.should_sample(Context(), int(trace.trace_id, 16), "run", SpanKind.CONSUMER, {})
            sampled = bool(result.decision.is_sampled())
        except Exception as error:  # noqa: BLE001 - a sampler of somebody's own
            self._warn(error)
            return trace
        return trace if sampled else Trace(trace.trace_id, trace.span_id, sampled=False, state=trace.state)

    def inside(self, trace: Trace) -> Context:
        """The context in which a run's span, which does not exist yet, is the current one."""
        return _context(trace, trace.span_id)

    def enter(self, trace: Trace) -> Token[Context] | None:
        """Let the code that follows, in this context of asyncio, run inside a run's span."""
        with suppress(Exception):
            return otel_context.attach(self.inside(trace))
        return None

    def current_span_id(self) -> str:
        """The current span, as 16 hexadecimal digits; "" outside of any."""
        span_id = api.get_current_span().get_span_context().span_id
        return f"{span_id:016x}" if span_id else ""

    # ---- spans

    def record(
        self, trace: Trace, name: str, times_ms: tuple[int, int], attributes: Mapping[str, Any],
        error: BaseException | None = None, kind: SpanKind = SpanKind.CONSUMER,
    ) -> None:  # fmt: skip
        """Record a run's span, under the id that its parts have named as their parent. `times_ms`: begin and end."""
        begun_ms, ended_ms = times_ms
        parent = _context(trace, trace.parent_id) if trace.parent_id else Context()
        links = () if self._fixes_ids else (Link(_span_context(trace, trace.span_id)),)
        token = _NEXT.set((int(trace.trace_id, 16), int(trace.span_id, 16)))
        try:
            span = self._tracer.start_span(
                name, parent, kind, attributes=dict(attributes), links=links, start_time=begun_ms * _MS
            )
        except Exception as failure:  # noqa: BLE001 - a processor of somebody's own
            self._warn(failure)
            return
        finally:
            _NEXT.reset(token)
        if error is not None:
            _failed(span, error)
        self.end(span, max(begun_ms, ended_ms) * _MS)

    def start(
        self, name: str, attributes: Mapping[str, Any], *, context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL, begun_ns: int | None = None, linked: Sequence[str] = (),
    ) -> Span:  # fmt: skip
        """Begin a span below the current one, or below that of `context`; `linked` are `traceparent` of others."""
        try:
            links = [Link(_span_context(at, at.parent_id)) for at in map(_place, linked) if at.parent_id]
            return self._tracer.start_span(  # type: ignore[no-any-return]
                name, context, kind, attributes=dict(attributes), links=links, start_time=begun_ns
            )
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(error)
            return api.INVALID_SPAN

    def end(self, span: Span, ended_ns: int | None = None) -> None:
        """End a span."""
        try:
            span.end(ended_ns)
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(error)

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, Any], *, context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Iterator[Span]:  # fmt: skip
        """A span around a block, current inside of it. What leaves the block is the span's error."""
        span = self.start(name, attributes, context=context, kind=kind)
        token = otel_context.attach(api.set_span_in_context(span, context))
        try:
            yield span
        except BaseException as error:
            _failed(span, error)
            raise
        finally:
            otel_context.detach(token)
            self.end(span)

    def begin_block(
        self, name: str, attributes: Mapping[str, Any], *, span_id: str = "", begun_ms: int | None = None
    ) -> Block:
        """Begin a span that is current from now on, in this context of asyncio. `span_id` is its id, where it has one
        before it exists.
        """
        token = _NEXT.set((0, int(span_id, 16))) if span_id else None
        try:
            span = self.start(name, attributes, begun_ns=None if begun_ms is None else begun_ms * _MS)
        finally:
            if token is not None:
                _NEXT.reset(token)
        return Block(self, span)

    # ---- the end of the process

    def flush(self) -> bool:
        """Hand over what is not sent yet; waits for at most `FLUSH_S`. False if some of it may be lost."""
        done = threading.Event()

        def flush() -> None:
            try:
                self._provider.force_flush()
            except Exception as error:  # noqa: BLE001 - as above
                self._warn(error)
            done.set()

        if not hasattr(self._provider, "force_flush"):
            return True
        # a thread that nobody joins: an exporter that waits for its collector must not hold the process up
        threading.Thread(target=flush, name="agnt5-spans", daemon=True).start()
        return done.wait(FLUSH_S)

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("a span was not recorded, and others may not be: %r", error)


class Block:
    """A span around a block of a handler's code."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self.span = span
        self._token = otel_context.attach(api.set_span_in_context(span))

    def leave(self, error: BaseException | None, *, recorded: bool) -> None:
        """The span is no longer current. With `recorded` it ends, with what left the block; else it is dropped."""
        with suppress(ValueError):  # left in another context: by a workflow that is put away
            self._token.var.reset(self._token)
        if recorded:
            if error is not None:
                _failed(self.span, error)
            self._tracing.end(self.span)


def _span_context(trace: Trace, span_id: str) -> SpanContext:
    state = TraceState.from_header([trace.state]) if trace.state else None
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags, trace_state=state)


def _place(traceparent: str) -> Trace:
    return trace_of("", {TRACEPARENT: traceparent}, 0)


def _context(trace: Trace, span_id: str) -> Context:
    return api.set_span_in_context(NonRecordingSpan(_span_context(trace, span_id)), Context())


def _failed(span: Span, error: BaseException) -> None:
    if not span.is_recording():
        return
    with suppress(Exception):  # the text of an error is its author's code
        if not isinstance(error, Exception):  # cancelled, or left: no fault of the code
            span.set_attribute("agnt5.interrupted", value=True)
            return
        if isinstance(error, RunFailedError):
            kind, message, trace = error.type, error.message, error.traceback
        else:
            kind, message = type(error).__qualname__, str(error)
            trace = "".join(traceback.format_exception(error))
        message, trace = masked(message)[:_LONGEST], masked(trace)[-_LONGEST:]
        about = {"exception.type": kind, "exception.message": message, "exception.stacktrace": trace}
        span.set_attribute("error.type", kind)
        span.add_event("exception", about)
        span.set_status(Status(StatusCode.ERROR, message))

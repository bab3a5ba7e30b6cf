"""Where runs stand in a trace: computed alike by everybody, by the rules of W3C trace context."""

from __future__ import annotations

import pytest

from agnt5.contracts.traces import Trace, below, trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{SPAN}-01"


def test_a_run_without_a_caller_begins_a_trace_which_everybody_computes_alike():
    trace = trace_of("order-17", {}, 1_790_000_000_000)
    assert trace == trace_of("order-17", {"x-other": "y"}, 1_790_000_000_000)
    assert (len(trace.trace_id), len(trace.span_id), trace.parent_id, trace.sampled) == (32, 16, "", True)
    assert trace != trace_of("order-18", {}, 1_790_000_000_000)
    assert trace.trace_id != trace_of("order-17", {}, 1_790_000_000_001).trace_id


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_a_run_with_a_caller_is_below_it(name):
    trace = trace_of("order-17", {name: CALLER, "TraceState": "shop=1"}, 1)
    assert (trace.trace_id, trace.parent_id, trace.sampled, trace.state) == (TRACE, SPAN, True, "shop=1")
    assert trace_of("order-17", {name: CALLER.replace("-01", "-00")}, 1).sampled is False
    assert trace.traceparent() == f"00-{TRACE}-{trace.span_id}-01"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "junk",
        CALLER.upper(),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"{CALLER}-more",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
    ],
)
def test_an_invalid_caller_is_as_none(value):
    assert trace_of("order-17", {"traceparent": value}, 1) == trace_of("order-17", {}, 1)


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known():
    assert trace_of("order-17", {"traceparent": f"01-{TRACE}-{SPAN}-03-more"}, 1).parent_id == SPAN


def test_children_are_below_their_run_whatever_its_headers_said():
    trace = trace_of("order-17", {"TraceParent": CALLER, "tracestate": "shop=1"}, 1)
    handed = below(trace, {"TraceParent": CALLER, "tracestate": "shop=0", "x-tenant": "acme"})
    assert handed == {"x-tenant": "acme", "traceparent": trace.traceparent(), "tracestate": "shop=1"}
    child = trace_of("order-17~1", handed, 2)
    assert (child.trace_id, child.parent_id, child.state) == (TRACE, trace.span_id, "shop=1")
    assert below(Trace("", ""), {"x-tenant": "acme"}) == {"x-tenant": "acme"}


def test_what_follows_a_re_opening_is_below_the_stretch_that_failed():
    trace = trace_of("order-17", {"traceparent": CALLER}, 1)
    assert trace.reopened(0) == trace
    first, second = trace.reopened(1), trace.reopened(2)
    assert {first.parent_id, second.parent_id} == {trace.span_id}
    assert len({trace.span_id, first.span_id, second.span_id}) == 3
    assert (first.trace_id, first.sampled) == (TRACE, True)

"""Spans of this process: what they hold, where they come from, and what happens where there are none."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys

import pytest
from contexts import T0, Flow, function_ctx
from opentelemetry import trace as api
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import StatusCode
from pydantic import SecretStr
from support.recorded import Recorded

from agnt5.contracts.errors import ConfigurationError, LLMError
from agnt5.contracts.masking import Masker
from agnt5.contracts.traces import trace_of
from agnt5.llm.messages import messages_of
from agnt5.llm.requests import Request
from agnt5.llm.responses import LLMResponse, ToolCall, Usage
from agnt5.replay.events import StepCompleted
from agnt5.replay.machine import Machine
from agnt5.runtime.model_spans import CAPTURE, model_span
from agnt5.sdk import spans as sdk_spans
from agnt5.sdk.port import ModelCall, RunInfo
from agnt5.telemetry import spans, spans_export, spans_tracer
from agnt5.telemetry.spans import NO_SPAN, current_span_id, outgoing, start_tracing, with_outgoing
from agnt5.telemetry.spans_tracer import Tracing

PLACE = trace_of("r-1", {}, 1_790_000_000_000)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def recorded(monkeypatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(spans, "_active", recorded.tracing)
    return recorded


def ids(span) -> tuple[str, str]:
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


# ---- ids


def test_a_runs_span_gets_the_id_that_its_parts_named_before_it_was_there(recorded):
    with recorded.tracing.span("part", {}, context=recorded.tracing.inside(PLACE)):
        pass
    recorded.tracing.record(PLACE, "run", (1_790_000_000_000, 1_790_000_000_500), {})
    part, run = recorded.spans["part"], recorded.spans["run"]
    assert ids(run) == (PLACE.trace_id, PLACE.span_id)
    assert (run.parent, run.start_time, run.end_time) == (None, 1_790_000_000_000_000_000, 1_790_000_000_500_000_000)
    assert f"{part.parent.span_id:016x}" == PLACE.span_id
    assert ids(part)[1] != PLACE.span_id


def test_spans_of_other_tracers_of_the_same_provider_are_left_alone(recorded):
    other = recorded.provider.get_tracer("other")
    assert type(other.id_generator).__module__.startswith("opentelemetry")
    Tracing(recorded.provider.get_tracer("agnt5"), recorded.provider)
    assert not hasattr(recorded.provider.get_tracer("agnt5").id_generator._inner, "_inner")


def test_a_provider_of_somebody_elses_gets_a_link_to_the_id(monkeypatch):
    inner = Recorded()

    class Foreign(api.Tracer):
        def start_span(self, *args, **kwargs):
            return inner.provider.get_tracer("x").start_span(*args, **kwargs)

        def start_as_current_span(self, *args, **kwargs):
            raise NotImplementedError

    Tracing(Foreign(), object()).record(PLACE, "run", (1, 2), {})
    (link,) = inner.spans["run"].links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (PLACE.trace_id, PLACE.span_id)
    assert Tracing(Foreign(), object()).flush()


def test_a_trace_that_begins_here_is_sampled_by_its_id_and_others_as_their_parent_was():
    half = Recorded(sampler=ParentBased(TraceIdRatioBased(0.5))).tracing
    places = [trace_of(f"r-{number}", {}, 1) for number in range(100)]
    chosen = [half.placed(place).sampled for place in places]
    assert 20 < sum(chosen) < 80
    assert chosen == [half.placed(place).sampled for place in places]
    never = Recorded(sampler=ALWAYS_OFF).tracing
    assert never.placed(PLACE).traceparent().endswith("-00")
    assert never.placed(trace_of("r", {"traceparent": CALLER}, 1)).sampled


def test_what_is_not_sampled_is_not_recorded():
    recorded = Recorded(sampler=ParentBased(TraceIdRatioBased(0.0)))
    place = recorded.tracing.placed(PLACE)
    with recorded.tracing.span("part", {}, context=recorded.tracing.inside(place)):
        pass
    recorded.tracing.record(place, "run", (1, 2), {})
    recorded.tracing.record(place.reopened(1), "again", (1, 2), {})
    assert recorded.spans == {}


# ---- what a handler makes


def test_a_block_is_the_current_span_and_takes_any_attribute(recorded):
    class Nameless:
        def __str__(self) -> str:
            raise RuntimeError

    ctx, _ = function_ctx(run_id="r-1")
    with ctx.trace_span().start(
        "outer", service="pay", n=1, none=None, odd=Nameless(), mixed=[1, "a"], on=[True]
    ) as span:
        assert api.get_current_span() is span
        assert current_span_id() == ids(span)[1]
        with ctx.trace_span().start("inner"):
            pass
    outer, inner = recorded.spans["outer"], recorded.spans["inner"]
    assert inner.parent.span_id == outer.context.span_id
    assert dict(outer.attributes) == {
        "agnt5.run_id": "r-1",
        "service": "pay",
        "n": 1,
        "odd": f"<{Nameless.__qualname__}>",
        "mixed": ("1", "a"),
        "on": (True,),
    }
    assert not api.get_current_span().get_span_context().is_valid


def test_what_leaves_a_block_is_its_error_and_cancelling_is_none(recorded):
    ctx, _ = function_ctx()
    with pytest.raises(ValueError, match="no"), ctx.trace_span().start("fails"):
        raise ValueError("no")
    with pytest.raises(asyncio.CancelledError), ctx.trace_span().start("cancelled"):
        raise asyncio.CancelledError
    failed, cancelled = recorded.spans["fails"], recorded.spans["cancelled"]
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "no")
    assert failed.attributes["error.type"] == "ValueError"
    assert (cancelled.status.status_code, cancelled.events) == (StatusCode.UNSET, ())
    assert cancelled.attributes["agnt5.interrupted"] is True


def test_errors_and_attributes_are_masked_whoever_exports_them(recorded, monkeypatch):
    masker = Masker()
    masker.learn("KEY", "very-secret-value")
    for module in (spans_tracer, sdk_spans):
        monkeypatch.setattr(module, "masked", masker.masked)
    ctx, _ = function_ctx()
    with pytest.raises(ValueError, match="very-secret"), ctx.trace_span().start("fails", key="very-secret-value"):
        raise ValueError("very-secret-value")
    assert recorded.spans["fails"].status.description == "[secret:KEY]"
    assert "very-secret-value" not in recorded.spans["fails"].to_json()


def test_a_workflows_block_is_recorded_once_and_keeps_its_id_in_a_replay(recorded):
    seen: list[str] = []

    async def body(ctx):
        with ctx.trace_span().start("first"):
            await ctx.step("one", lambda: 1)
        with ctx.trace_span().start("second") as span:
            seen.append(ids(span)[1])
            await ctx.step("two", lambda: 2)
            span.set_attribute("late", value=True)

    flow = Flow(body, trace=PLACE)
    flow.feed(StepCompleted(at=T0 + 1_000, seq=1, name="one", result=1))
    assert set(recorded.spans) == {"first"}
    taken_over = Machine("order-17", flow.program, processed=len(flow.journal))
    taken_over.activate(flow.journal)  # a replay: on another worker, that is
    flow.machine.close()
    assert set(recorded.spans) == {"first"}
    taken_over.activate([StepCompleted(at=T0 + 2_000, seq=2, name="two", result=2)])
    assert [span.name for span in recorded.exporter.get_finished_spans()] == ["first", "second"]
    second = recorded.spans["second"]
    assert seen == [ids(second)[1]] * 2
    assert second.start_time == (T0 + 1_000) * 1_000_000
    assert second.attributes["late"] is True


def test_where_no_spans_are_made_a_block_takes_the_same_calls(monkeypatch):
    monkeypatch.setattr(spans, "_active", None)
    ctx, _ = function_ctx()
    with ctx.trace_span().start("nothing", service="x") as span:
        span.set_attribute("a", 1)
        span.set_attributes({"a": 1})
        span.add_event("b", {"c": 1})
        span.record_exception(ValueError())
        span.set_status(None)
        span.update_name("other")
        assert not span.is_recording()
    assert span is NO_SPAN
    assert current_span_id() == ""


def test_processors_that_raise_stop_no_code(recorded, caplog):
    class Broken(SpanProcessor):
        def on_start(self, span, parent_context=None):
            raise RuntimeError("broken processor")

    recorded.provider.add_span_processor(Broken())
    ctx, _ = function_ctx()
    for _ in range(2):
        with ctx.trace_span().start("goes on") as span:
            span.set_attribute("a", 1)
    recorded.tracing.record(PLACE, "run", (1, 2), {})
    assert [record.message for record in caplog.records if "broken processor" in record.message] != []
    assert sum("broken processor" in record.message for record in caplog.records) == 1


# ---- propagation


def test_a_receiver_is_put_below_the_current_span_unless_headers_say_otherwise(recorded):
    assert outgoing() == {}
    with recorded.provider.get_tracer("shop").start_as_current_span("request") as span:
        trace_id, span_id = ids(span)
        assert with_outgoing({"a": "b"}) == {"a": "b", "traceparent": f"00-{trace_id}-{span_id}-01"}
        assert with_outgoing({"TraceParent": CALLER}) == {"TraceParent": CALLER}


# ---- set-up


@pytest.fixture
def environment(monkeypatch):
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(spans, "_active", None)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "pip install opentelemetry-exporter-otlp-proto-grpc"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier pigeon"}, "expected one of http/protobuf, grpc, found 'carrier"),
        ({"OTEL_TRACES_EXPORTER": "zipkinn"}, "the exporter 'zipkinn' is not installed; known are otlp, none, console"),
    ],
)
def test_what_the_environment_asks_for_in_vain_is_told_and_stops_nobody(environment, caplog, variables, told):
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(ConfigurationError, match="OTEL_"):
        spans_export.provider_of_environment("w1")
    assert start_tracing("w1") is None
    assert told in caplog.text


def test_a_missing_extra_is_told_by_its_name(environment, caplog):
    environment.setenv("OTEL_TRACES_EXPORTER", "otlp")
    environment.setitem(sys.modules, "agnt5.telemetry.spans_tracer", None)
    environment.delattr("agnt5.telemetry.spans_tracer", raising=False)
    assert start_tracing("w1") is None
    assert "pip install 'agnt5-celery[otel]'" in caplog.text


@pytest.mark.parametrize("variables", [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
def test_the_environment_turns_spans_off(environment, variables):
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    for name, value in variables.items():
        environment.setenv(name, value)
    assert start_tracing("w1") is None


def test_the_resource_says_who_makes_the_spans(environment):
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    made = spans_export.provider_of_environment("w1/17")
    assert made.resource.attributes["service.name"] == "agnt5"
    assert made.resource.attributes["service.instance.id"] == "w1/17"
    environment.setenv("OTEL_SERVICE_NAME", "shop")
    environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=a,team=b")
    own = spans_export.provider_of_environment("w1/17").resource.attributes
    assert (own["service.name"], own["service.instance.id"], own["team"]) == ("shop", "a", "b")


def test_a_worker_without_tracing_loads_nothing_of_it():
    code = (
        "import sys, agnt5, agnt5.app, agnt5.runtime.observer as o\n"
        "from agnt5.telemetry.spans import start_tracing\n"
        "assert start_tracing('w') is None and o.Observer()._spans is None\n"
        "print([name for name in sys.modules if name.startswith(('agnt5.telemetry.spans_', 'opentelemetry.exporter'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_exporter_masks_what_it_sends_and_tells_failures_once_until_it_works_again(monkeypatch, caplog):
    masker = Masker()
    masker.learn("KEY", "very-secret-value")
    monkeypatch.setattr(spans_export, "masked", masker.masked)
    results = [SpanExportResult.FAILURE, SpanExportResult.FAILURE, SpanExportResult.SUCCESS, SpanExportResult.FAILURE]
    sent = []

    class Moody(SpanExporter):
        def export(self, batch):
            sent.extend(batch)
            return results.pop(0)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans_export._Quiet(Moody())))
    caplog.set_level(logging.INFO)
    for _ in range(4):
        with provider.get_tracer("x").start_as_current_span(
            "a very-secret-value", attributes={"k": ["very-secret-value"]}
        ):
            api.get_current_span().add_event("e", {"v": "very-secret-value"})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]
    assert "very-secret-value" not in "".join(span.to_json() for span in sent)
    assert sent[0].name == "a [secret:KEY]"


# ---- models


def call(**more) -> ModelCall:
    request = Request(
        models=("gpt-4.1-nano",),
        messages=messages_of("what is it?", SecretStr("you are a vault"), "test"),
        params={"temperature": 0.5, "stop": "END", "api_key": "sk-unsaid-key", "api_base": "http://models.local:81/v1"},
    )
    run = RunInfo(run_id="r-1", handler="a.b", kind="function")
    return ModelCall(run=run, request=request, begun_s=10.0, **more)


ANSWER = LLMResponse(
    text="it is sk-unsaid-key",
    tool_calls=[ToolCall(id="c1", name="look", arguments={"at": "it"})],
    usage=Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=60),
    cost=0.25,
    model="gpt-4.1-nano",
    finish_reason="tool_calls",
)


def test_a_call_of_a_model_is_told_by_the_conventions_without_its_content(recorded, monkeypatch):
    monkeypatch.delenv(CAPTURE, raising=False)
    asked = call(streamed=True)
    with model_span(recorded.tracing, asked):
        asked.first_chunk_s, asked.response = 10.5, ANSWER
    span = recorded.spans["chat gpt-4.1-nano"]
    told = dict(span.attributes)
    assert told["gen_ai.response.time_to_first_chunk"] == 0.5
    assert told["gen_ai.request.stream"] is True
    assert told["gen_ai.request.stop_sequences"] == ("END",)
    assert (told["server.address"], told["server.port"]) == ("models.local", 81)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.cache_read.input_tokens"]) == (100, 60)
    assert told["agnt5.cost"] == 0.25
    for unsaid in ("what is it", "it is", "vault", "sk-unsaid-key"):
        assert unsaid not in span.to_json()


def test_content_is_told_where_it_is_asked_for_without_secrets(recorded, monkeypatch):
    monkeypatch.setenv(CAPTURE, "true")
    asked = call()
    with model_span(recorded.tracing, asked):
        asked.response = ANSWER
    span = recorded.spans["chat gpt-4.1-nano"]
    system, user = json.loads(span.attributes["gen_ai.input.messages"])
    assert system == {"role": "system", "parts": [{"type": "text", "content": "**********"}]}
    assert user == {"role": "user", "parts": [{"type": "text", "content": "what is it?"}]}
    (answer,) = json.loads(span.attributes["gen_ai.output.messages"])
    assert answer["finish_reason"] == "tool_calls"
    assert [part["type"] for part in answer["parts"]] == ["text", "tool_call"]
    assert "sk-unsaid-key" not in span.to_json()


def test_a_call_that_fails_has_its_error(recorded):
    with pytest.raises(LLMError), model_span(recorded.tracing, call()):
        raise LLMError("HTTP 500")
    span = recorded.spans["chat gpt-4.1-nano"]
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "LLMError")
    assert "gen_ai.response.model" not in span.attributes

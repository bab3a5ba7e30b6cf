"""Runs in a distributed trace: real workers send their spans to a real receiver of OTLP over HTTP."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from support.cluster import ROOT, Cluster
from support.llm_server import LLMServer, using
from support.otlp import Collector, Told
from support.waiting import until_sync
from traced import SECRET

from agnt5 import AsyncClient, RunTimeoutError, TaskFailedError
from agnt5.contracts.ids import shard_of
from agnt5.store import keys
from agnt5.web import create_api

HERE = Path(__file__).parent
CONSUMER, CLIENT, INTERNAL, ERROR = 5, 3, 1, 2
SHIPPING, STARTING = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tracing.md").read_text(), re.DOTALL)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def models() -> Iterator[LLMServer]:
    with LLMServer() as server:
        yield server


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def cluster(models, collector) -> Iterator[Cluster]:
    """Workers with other queues each, so that a workflow's children run apart; one of them forks.

    One has an application's own provider, and the collector of one takes what is sent and never answers.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as deaf,
        Cluster(["traced", "shipping"], paths=[HERE], needs=["litellm"]) as cluster,
    ):
        (cluster.folder / "shipping.py").write_text(SHIPPING)
        env = {**models.env, **collector.env, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}
        here = cluster.worker("here", "-Q", "agnt5.traced_here,agnt5.Tally,agnt5.shipping", **env)
        there = cluster.worker("there", "-Q", "agnt5.traced_there", pool="prefork", concurrency=1, **env)
        own = cluster.worker("own", "-Q", "agnt5.traced_own", TRACED_OWN=collector.url)
        away = cluster.worker(
            "away", "-Q", "agnt5.traced_away", OTEL_BSP_SCHEDULE_DELAY="50", OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{deaf.getsockname()[1]}",
        )  # fmt: skip
        yield cluster.start(here, there, own, away, cluster.beat(**collector.env))


def ids(traceparent: str) -> tuple[str, str]:
    _, trace_id, span_id, _ = traceparent.split("-")
    return trace_id, span_id


def names(spans: list[Told]) -> list[str]:
    return [span.name for span in spans]


# ---- one trace


def test_one_trace_from_the_client_to_children_on_two_workers_an_entity_and_a_model(cluster, collector, models):
    models.script("gpt-4.1-nano", using(100, 10, "it is four"))
    tracer = TracerProvider().get_tracer("shop")
    with tracer.start_as_current_span("POST /orders") as request:
        run = cluster.client.start("traced_here.order")
        result = run.result(timeout=120)  # LiteLLM is loaded meanwhile
    caller = request.get_span_context()
    assert result["first"]["pid"] != result["second"]["pid"]

    order = collector.run(run.id)
    assert (order.trace_id, order.parent_id) == (f"{caller.trace_id:032x}", f"{caller.span_id:016x}")
    assert (order.name, order.kind, order.status) == ("traced_here.order", CONSUMER, 0)
    assert order.attributes["agnt5.status"] == "completed"
    assert order.attributes["agnt5.handler"] == "traced_here.order"

    here, there, tally = (
        collector.one(name, order) for name in ("traced_here.here", "traced_there.there", "Tally.add")
    )
    assert ids(result["first"]["traceparent"]) == (order.trace_id, order.span_id)
    assert tally.attributes["agnt5.entity"] == "Tally/t"
    assert names(collector.below(here)) == ["attempt"]
    assert names(collector.below(collector.one("attempt", here))) == ["step square"]
    assert here.resource["service.name"] == "agnt5"
    assert here.resource["deployment.environment"] == "test"
    assert here.resource["service.instance.id"].startswith("here@")
    assert here.resource["service.instance.id"] != there.resource["service.instance.id"]

    both = collector.one("both", order)
    assert both.attributes["service"] == "shipping"
    assert names(collector.below(both)) == ["step sum"]
    assert all(order.begun_ns <= span.begun_ns + 5e6 for span in (here, there, tally, both))
    assert len({span.span_id for span in collector.trace(order.trace_id)}) == len(collector.trace(order.trace_id))

    step = collector.one("step llm:gpt-4.1-nano", collector.one("attempt", there))
    chat = collector.one("chat gpt-4.1-nano", step)
    assert chat.kind == CLIENT
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4.1-nano",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.response.model": "gpt-4.1-nano",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 10,
    }
    assert {name: chat.attributes.get(name) for name in wanted} == wanted
    assert "it is four" not in repr(collector.trace(order.trace_id))


def test_headers_of_the_caller_count_before_its_current_span(cluster, collector):
    with TracerProvider().get_tracer("shop").start_as_current_span("POST /orders"):
        run = cluster.client.start("traced_here.plain", headers={"TraceParent": CALLER, "tracestate": "shop=1"})
    assert run.result(timeout=20) == "plain"
    span = collector.run(run.id)
    assert (span.trace_id, span.parent_id) == ids(CALLER)
    assert names(collector.below(collector.one("attempt", span))) == ["in a thread"]


def test_an_entity_call_of_a_client_is_below_its_span(cluster, collector):
    with TracerProvider().get_tracer("shop").start_as_current_span("PUT /tally") as request:
        assert cluster.client.entity("Tally", "direct").add(5) == 5
    trace_id = f"{request.get_span_context().trace_id:032x}"
    (span,) = collector.wait(lambda: [one for one in collector.trace(trace_id) if one.kind == CONSUMER], "the call")
    assert (span.name, span.parent_id) == ("Tally.add", f"{request.get_span_context().span_id:016x}")


def test_a_plain_celery_message_brings_its_place_in_a_trace(cluster, collector):
    headers = {"traceparent": CALLER}
    send = cluster.celery.send_task
    send("traced_here.plain", task_id="from-a-stranger", queue="agnt5.traced_here", headers=headers)
    send("traced_there.there", (1,), task_id="forked-stranger", queue="agnt5.traced_there", headers=headers)
    for run_id in ("from-a-stranger", "forked-stranger"):
        span = collector.run(run_id)
        assert (span.trace_id, span.parent_id) == ids(CALLER)


def test_what_the_caller_does_not_sample_nobody_records(cluster, collector):
    unsampled = CALLER.replace("0af7", "0bad").removesuffix("01") + "00"
    run = cluster.client.start("traced_here.order", headers={"traceparent": unsampled})
    assert run.result(timeout=20)["first"]["traceparent"].endswith("-00")
    after = cluster.client.start("traced_here.plain")
    after.result(timeout=20)
    collector.run(after.id)
    assert collector.trace(ids(unsampled)[0]) == []


async def test_the_http_api_takes_a_requests_place_or_that_of_its_own_span(cluster, collector):
    async with AsyncClient(cluster.server.url) as client:
        transport = httpx.ASGITransport(create_api(client, pages=False), client=("127.0.0.1", 1))

        async def start(name: str) -> None:
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as caller:
                body = {"handler": "traced_here.plain", "id": name}
                answer = await caller.post("/api/v1/runs", json=body, headers={"traceparent": CALLER})
                assert answer.status_code == 201, answer.text

        await start("by-a-request")
        with TracerProvider().get_tracer("web").start_as_current_span("POST /runs") as request:
            await start("by-a-followed-request")
    assert collector.run("by-a-request").parent_id == ids(CALLER)[1]
    followed = collector.run("by-a-followed-request")
    assert followed.parent_id == f"{request.get_span_context().span_id:016x}"


def test_the_guides_spans_are_below_their_runs(cluster, collector):
    names: dict[str, Any] = {"client": cluster.client, "tracer": TracerProvider().get_tracer("shop")}
    exec(compile(STARTING, "docs/tracing.md", "exec"), names)
    assert names["run"].result(timeout=20) == "label of 17"
    ship = collector.run(names["run"].id)
    assert ship.parent_id != ""
    assert collector.one("packing", ship).attributes["warehouse"] == "north"
    printed = collector.one("print", collector.one("attempt", collector.one("shipping.label", ship)))
    assert (printed.attributes["printer"], printed.attributes["characters"]) == ("p-2", 11)


# ---- other set-ups


def test_an_applications_own_provider_is_used_with_the_same_ids(cluster, collector):
    run = cluster.client.start("traced_own.own", headers={"traceparent": CALLER})
    assert run.result(timeout=20) == "own"
    span = collector.run(run.id)
    assert (span.resource["service.name"], span.scope, span.parent_id) == ("its-own", "agnt5", ids(CALLER)[1])
    assert collector.one("step own", collector.one("attempt", span)).resource["service.name"] == "its-own"


def test_a_collector_that_never_answers_costs_one_line_and_no_run(cluster):
    runs = [cluster.client.start("traced_away.away", number) for number in range(50)]
    assert [run.result(timeout=20) for run in runs] == list(range(50))
    away = cluster.nodes[3]
    away.says("spans cannot be sent", timeout=20)
    assert cluster.client.start("traced_away.away", 51).result(timeout=20) == 51
    away.terminate()
    said = away.output()
    assert (away.exit_code, said.count("spans cannot be sent"), said.count("opentelemetry")) == (0, 1, 0)
    assert "Traceback" not in said


# ---- what happens to runs


def test_a_killed_workers_trace_hangs_together_and_a_replay_is_silent(cluster, collector):
    run = cluster.client.start("traced_here.survivor")
    (before,) = collector.wait(lambda: [one for one in collector.of(run.id) if one.name == "step before"], "the step")
    collector.wait(lambda: len(found := activations(collector, run.id)) == 3 and found, "its activations")
    worker, claims = cluster.nodes[0], cluster.field(run.id, "claims")
    worker.kill()
    worker.restart()
    until_sync(
        lambda: cluster.field(run.id, "claims") != claims, 20.0, "it is claimed, so that the signal comes behind"
    )
    with TracerProvider().get_tracer("shop").start_as_current_span("POST /go") as sender:
        run.signal("go")
    assert run.result(timeout=30) == "done"
    survivor = collector.run(run.id)
    assert survivor.parent_id == ""
    across = collector.one("across", survivor)
    assert names(collector.below(across)) == ["step before", "step after"]
    assert (before.trace_id, before.parent_id) == (survivor.trace_id, across.span_id)
    assert across.begun_ns <= before.begun_ns + 5e6
    assert across.attributes["leg"] == 2
    assert names(collector.below(survivor)).count("over") == 1
    assert len(activations(collector, run.id)) == 5  # after the signal, and after the last step
    at = sender.get_span_context()
    assert [one.links for one in activations(collector, run.id) if one.links] == [
        [(f"{at.trace_id:032x}", f"{at.span_id:016x}")]
    ]
    assert cluster.noted("before") == [""]
    assert before.resource["service.instance.id"] != across.resource["service.instance.id"]


def activations(collector: Collector, run_id: str) -> list[Told]:
    return [span for span in collector.of(run_id) if span.name == "activation"]


def test_attempts_are_spans_below_the_one_of_their_run_and_errors_are_masked(cluster, collector):
    run = cluster.client.start("traced_here.stubborn")
    assert run.result(timeout=20) == "at last"
    span = collector.run(run.id)
    first, second = collector.below(span)
    assert [one.attributes["agnt5.attempt"] for one in (first, second)] == [0, 1]
    assert (first.status, first.message, first.attributes["error.type"]) == (
        ERROR, "not with [secret:PAYMENTS]", "ValueError",
    )  # fmt: skip
    assert (second.status, span.status) == (0, 0)
    assert span.attributes["agnt5.attempt"] == 1


def test_errors_are_told_by_type_message_and_traceback_without_secrets(cluster, collector):
    run = cluster.client.start("traced_here.broken")
    with pytest.raises(TaskFailedError):
        run.result(timeout=20)
    span = collector.run(run.id)
    fragile = collector.one("fragile", collector.one("attempt", span))
    step = collector.one("step fails", fragile)
    for one in (span, fragile, step):
        (told,) = [about for name, about in one.events if name == "exception"]
        assert (one.status, told["exception.type"]) == (ERROR, "KeyError")
        assert "[secret:PAYMENTS]" in one.message
        assert "in fails" in told["exception.stacktrace"]
    assert fragile.attributes["plan"] == [1, 2]
    assert (fragile.attributes["mode"], fragile.attributes["key"]) == ("<class 'object'>", "[secret:PAYMENTS]")
    assert names_of_events(fragile) == ["tried", "exception"]
    assert SECRET not in repr(collector.of(run.id))


def names_of_events(span: Told) -> list[str]:
    return [name for name, _ in span.events]


def test_generations_are_spans_of_one_trace_below_the_first(cluster, collector):
    run = cluster.client.start("traced_here.renewing", 2)
    assert run.result(timeout=20) == 0
    spans = collector.wait(
        lambda: len(found := [one for one in collector.of(run.id) if "agnt5.status" in one.attributes]) == 3 and found,
        "generations",
    )
    by_number = {span.attributes["agnt5.generation"]: span for span in spans}
    assert [by_number[number].attributes["agnt5.status"] for number in range(3)] == [
        "continued",
        "continued",
        "completed",
    ]
    first = by_number[0]
    assert first.parent_id == ""
    assert {by_number[number].parent_id for number in (1, 2)} == {first.span_id}
    assert len({span.trace_id for span in spans}) == 1
    assert [collector.one(f"step turn {2 - number}", by_number[number]).status for number in range(3)] == [0, 0, 0]


def test_a_run_that_is_opened_again_goes_on_below_the_stretch_that_failed(cluster, collector):
    run = cluster.client.start("traced_here.reopened")
    with pytest.raises(TaskFailedError):
        run.result(timeout=20)
    failed = collector.run(run.id)
    (cluster.notes / "repaired").write_text("yes\n")
    run.retry()
    assert cluster.client.get(run.id).result(timeout=20) == "repaired"
    again = collector.one("traced_here.reopened", failed)
    assert (failed.status, again.status) == (ERROR, 0)
    assert again.begun_ns >= failed.ended_ns - 5e6
    assert names([span for span in collector.below(again) if span.name.startswith("step")]) == ["step repair"]


# ---- runs that no worker ends


def test_a_childs_end_in_its_queue_is_a_span_of_beats_below_its_parent(cluster, collector):
    run = cluster.client.start("traced_here.in_vain")
    until_sync(lambda: cluster.field(f"{run.id}~1", "status") == "queued", 20.0)
    run.cancel("no longer")
    parent = collector.run(run.id)
    child = collector.run(f"{run.id}~1")
    assert (child.trace_id, child.parent_id) == (parent.trace_id, parent.span_id)
    assert (child.name, child.kind, child.status) == ("traced_nowhere.nobodys", CONSUMER, 0)
    assert child.attributes["agnt5.status"] == parent.attributes["agnt5.status"] == "cancelled"
    assert parent.begun_ns <= child.begun_ns <= child.ended_ns
    assert parent.resource["service.instance.id"].startswith("here@")
    assert child.resource["service.instance.id"].startswith("beat@")


def test_a_run_timeout_in_a_queue_is_a_span_that_beat_hands_over_when_it_ends(cluster, collector):
    beat = cluster.nodes[4]
    beat.terminate()
    beat.env["OTEL_BSP_SCHEDULE_DELAY"] = "600000"
    beat.restart()
    run = cluster.client.start("traced_nowhere.nobodys", run_timeout=0.01, headers={"traceparent": CALLER})
    with pytest.raises(RunTimeoutError):
        run.result(timeout=20)
    until_sync(lambda: not cluster.admin.exists(keys.untold(shard_of(run.id, cluster.shards))), 20.0)
    assert collector.of(run.id) == []
    beat.terminate()
    span = collector.run(run.id)
    assert (span.trace_id, span.parent_id) == ids(CALLER)
    assert (span.status, span.attributes["error.type"]) == (ERROR, "RunTimeoutError")
    assert span.attributes["agnt5.status"] == "failed"

"""Every code block of the Context API runs verbatim, on a real `celery worker` and `celery beat`.

The blocks are taken from `context-api.md` when the tests run; only the names around them are supplied
(`surroundings.py`).
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.llm_server import LLMServer, json_reply, status, tool_calls
from support.otlp import Collector
from support.scraping import free_port, scrape
from support.secret_values import found_in, made
from support.waiting import until_sync

from agnt5 import ApprovalRefusedError, Context, LLMResponse, TaskFailedError
from agnt5.replay.events import StepCompleted

HERE = Path(__file__).parent
PORT = free_port()
"""Where the worker serves its metrics."""

API_KEY = made("documented key", prefix="sk-")
TEXT = (HERE / "context-api.md").read_text()


@dataclass(frozen=True)
class Block:
    """One Python block: `name` is the heading it stands under, with its tab where there are several."""

    name: str
    code: str


def blocks() -> dict[str, Block]:
    """All Python blocks of the text, in order."""
    found: dict[str, Block] = {}
    heading, tab = "", ""
    lines = iter(TEXT.splitlines())
    for line in lines:
        if match := re.match(r"#+ (.*)", line):
            heading, tab = match[1], ""
        elif match := re.search(r'<TabsContent value="(.*)">', line):
            tab = f": {match[1]}"
        elif line.strip() == "```python":
            indent = len(line) - len(line.lstrip())
            code = []
            for line in lines:  # noqa: PLW2901 - the block's lines are taken from the same iterator
                if line.strip() == "```":
                    break
                code.append(line[indent:])
            name = f"{heading}{tab}"
            assert name not in found, name
            found[name] = Block(name, "\n".join(code) + "\n")
    return found


BLOCKS = blocks()

AS_THEY_ARE = [
    "Task Execution",
    "Async Invocation",
    "Checkpointing",
    "Get, Set, Delete",
    "Entity Method Calls",
    "Signals: wait",
    "Signals: emit",
    "Timers & Sleep",
    "Human-in-the-Loop",
    "LLM Generation: simple",
    "LLM Generation: chat",
    "LLM Generation: structured",
    "Streaming",
    "Logging",
    "Metrics",
    "Distributed Tracing",
    "Configuration",
    "Secrets",
    "Request Headers",
    "Context Properties",
    "Parallel with Error Handling",
    "Conditional Signal Waiting",
    "Tool Registration",
]
"""Blocks that are whole handlers."""

IN_A_WORKFLOW = {"Parallel Execution: parallel": "in_parallel", "Parallel Execution: gather": "by_name"}
"""Blocks that are parts of a workflow's body: they are run as one, which returns all its names."""

ELLIPSIS_TAKEN_OUT = "LLM with Tool Execution"
"""A block that says `register("search", handler=search_web, ...)`, which is no Python: a positional argument after one
by name. It is run without the `, ...` of those two calls, and else as it is.
"""

HEAD = """\
from agnt5 import entity, function, workflow
from surroundings import *

"""


def documented() -> str:
    """The module of all blocks."""
    parts = [HEAD, *(BLOCKS[name].code for name in AS_THEY_ARE)]
    text = BLOCKS[ELLIPSIS_TAKEN_OUT].code
    assert text.count(", ...)") == 2
    parts.append(text.replace(", ...)", ")"))
    _, experiment = BLOCKS["Configuration"].code.split("    # A/B testing variant\n")
    parts.append(f"@function\nasync def experiment(ctx, data: dict):\n    config = ctx.config()\n{experiment}")
    for name, called in IN_A_WORKFLOW.items():
        body = textwrap.indent(BLOCKS[name].code, "    ")
        parts.append(
            f"@workflow\nasync def {called}(ctx):\n{body}\n"
            "    return {name: value for name, value in locals().items() if name != 'ctx'}\n"
        )
    return "\n\n".join(parts)


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
    with Cluster(["surroundings", "documented"], paths=[HERE], needs=["litellm"]) as cluster:
        (cluster.folder / "documented.py").write_text(documented())
        env = {
            **models.env,
            **collector.env,
            "AGNT5_METRICS_PORT": PORT,
            "AGNT5_SECRET_OPENAI_API_KEY": API_KEY,
            "AGNT5_SECRET_DATABASE_PASSWORD": made("documented password"),
        }
        yield cluster.start(cluster.worker(**env), cluster.beat())


# ---- nothing is forgotten


def test_each_block_of_the_text_is_run_here():
    assert set(BLOCKS) == {*AS_THEY_ARE, *IN_A_WORKFLOW, ELLIPSIS_TAKEN_OUT}


def test_each_api_of_the_reference_tables_exists():
    listed = set(re.findall(r"^\| `(?:await )?ctx\.(\w+)", TEXT, re.MULTILINE))
    assert [name for name in listed if not hasattr(Context, name)] == []


# ---- orchestration


def test_a_task_is_executed_and_its_result_waited_for(cluster):
    assert cluster.client.start("documented.process_workflow").result(timeout=20) == {"dataset": "users", "rows": 3}


def test_tasks_in_parallel_give_their_results_in_order(cluster):
    found = cluster.client.start("documented.in_parallel").result(timeout=20)
    assert found == {"results": [1, 2, 3], "result1": 1, "result2": 2}


def test_gathered_tasks_give_their_results_by_name(cluster):
    found = cluster.client.start("documented.by_name").result(timeout=20)
    assert found == {
        "results": {"db": "db is fine", "api": "api is fine", "cache": "cache is fine"},
        "db_result": "db is fine",
        "api_result": "api is fine",
    }


def test_children_are_spawned_without_waiting_and_awaited_later(cluster):
    items = [{"id": number} for number in range(3)]
    run = cluster.client.start("documented.batch_processor", {"items": items})
    assert run.result(timeout=20) == {"processed": 3}
    assert sorted(cluster.noted("items")) == ["item-0 0", "item-1 1", "item-2 2"]


def test_a_step_that_completed_is_not_run_again_by_the_next_attempt(cluster):
    run = cluster.client.start("documented.process_pipeline", {"data_id": "d1"})
    assert run.result(timeout=20) == {"sum": 6}
    assert run.state().attempt == 1
    assert cluster.noted("steps") == ["extract d1", "clean", "analyze", "analyze"]


# ---- entities


def test_a_method_gets_sets_and_deletes_state(cluster):
    person = cluster.client.entity("Documented", "ann")  # the type is named after the module
    assert person.update_profile(name="Ann", age=41) == {"status": "updated"}
    assert person.update_profile(name="Ann", age=42) == {"status": "updated"}
    state = cluster.client.entity_state("Documented", "ann").state
    assert state["profile"] == {"name": "Ann", "age": 42}
    assert abs(datetime.fromisoformat(state["last_updated"]) - datetime.now()) < timedelta(minutes=1)
    assert set(state) == {"profile", "last_updated"}


def test_a_function_calls_a_method_of_an_entity(cluster):
    for number, word in enumerate(["hi", "how are you?"], 1):
        run = cluster.client.start("documented.chat", {"conversation_id": "c-1", "message": word})
        assert run.result(timeout=20) == {"reply": f"you said {word}", "messages": number}
    assert cluster.client.entity_state("ChatAgent", "c-1").state == {"messages": ["hi", "how are you?"]}


# ---- coordination


def wait_for_review(cluster, document_id):
    """Start the approval workflow, and wait until it waits."""
    run = cluster.client.start("documented.approval_workflow", {"document_id": document_id})
    until_sync(lambda: document_id in cluster.noted("submitted") and run.status() == "waiting", 20.0)
    due_ms = cluster.one_timer(run.id)
    assert 0 <= cluster.now_ms() + 86_400_000 - due_ms < 20_000
    return run


def test_a_workflow_goes_on_when_the_signal_comes(cluster):
    run = wait_for_review(cluster, "doc-1")
    run.signal("manager_approved", {"approved": True})
    assert run.result(timeout=20) == {"status": "published"}
    assert "doc-1" in cluster.noted("published")
    assert cluster.timers(run.id) == {}


def test_a_workflow_goes_on_with_the_default_when_no_signal_comes_in_time(cluster):
    run = wait_for_review(cluster, "doc-2")
    cluster.hurry(run.id)
    assert run.result(timeout=20) == {"status": "rejected"}
    assert "doc-2" not in cluster.noted("published")


def test_a_function_emits_the_signal_that_a_workflow_waits_for(cluster):
    run = wait_for_review(cluster, "doc-3")
    emitter = cluster.client.start("documented.approve_document", {"workflow_id": run.id})
    assert emitter.result(timeout=20) == {"status": "signal_sent"}
    assert run.result(timeout=20) == {"status": "published"}


def test_timers_wait_for_a_delay_then_for_seconds_then_for_midnight(cluster):
    began_ms = cluster.now_ms()
    run = cluster.client.start("documented.scheduled_job")
    assert 0 <= cluster.one_timer(run.id) - began_ms - 5000 < 3000
    cluster.hurry(run.id)
    until_sync(lambda: _names(cluster, run) == {f"t|{run.id}|0.2"}, 20.0)
    assert 0 <= cluster.one_timer(run.id) - began_ms - 30_000 < 10_000
    cluster.hurry(run.id)
    until_sync(lambda: _names(cluster, run) == {f"t|{run.id}|0.3"}, 20.0)
    at = datetime.fromtimestamp(cluster.one_timer(run.id) / 1000, UTC)
    assert at in {_midnight_after(began_ms), _midnight_after(cluster.now_ms())}  # it may pass meanwhile
    cluster.hurry(run.id)
    assert run.result(timeout=20) == {"status": "completed"}


def _midnight_after(ms):
    today = datetime.fromtimestamp(ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)


@pytest.mark.parametrize("roles", [["admin"], ["devops"]])
def test_a_deployment_that_was_approved_goes_out(cluster, roles):
    run = wait_for_approval(cluster, f"1.0-{roles[0]}")
    with pytest.raises(ApprovalRefusedError, match="admin, devops is needed, eve has intern"):
        cluster.client.decide(run.id, "deploy_production", "approved", approver="eve", roles=["intern"])
    cluster.client.decide(run.id, "deploy_production", "approved", approver="ann", roles=roles)
    assert run.result(timeout=20) == {"status": "deployed"}
    assert f"1.0-{roles[0]}" in cluster.noted("deployed")
    assert cluster.timers(run.id) == {}


def test_a_deployment_that_was_rejected_does_not(cluster):
    run = wait_for_approval(cluster, "2.0")
    cluster.client.decide(run.id, "deploy_production", "rejected", approver="ann", roles=["admin"], comment="not today")
    assert run.result(timeout=20) == {"status": "cancelled"}
    assert "2.0" not in cluster.noted("deployed")


def test_a_deployment_that_nobody_approves_in_half_an_hour_does_not_go_out(cluster):
    run = wait_for_approval(cluster, "3.0")
    cluster.hurry(run.id)
    assert run.result(timeout=20) == {"status": "cancelled"}
    assert cluster.client.approval(run.id, "deploy_production").status == "timeout"
    assert "3.0" not in cluster.noted("deployed")


def test_a_version_whose_tests_fail_asks_nobody(cluster):
    run = cluster.client.start("documented.deployment_workflow", {"version": "broken"})
    assert run.result(timeout=20) == {"status": "cancelled"}
    assert cluster.client.approvals(run_id=run.id, status=None) == []


def wait_for_approval(cluster, version):
    """Start the deployment, and wait until it waits for people."""
    run = cluster.client.start("documented.deployment_workflow", {"version": version})
    until_sync(lambda: cluster.client.approvals(run_id=run.id), 20.0)
    (asked,) = cluster.client.approvals(run_id=run.id)
    assert asked.payload == {"version": version, "tests": {"passed": True, "count": 17}}
    assert asked.required_roles == ["admin", "devops"]
    assert 0 <= cluster.now_ms() + 1_800_000 - cluster.one_timer(run.id) < 20_000
    return run


def _names(cluster, run):
    return set(cluster.timers(run.id))


# ---- language models


def test_a_model_answers_a_prompt(cluster, models):
    models.script("gpt-4o-mini", "It is short.")
    run = cluster.client.start("documented.summarize", {"text": "It is a long text."})
    assert run.result(timeout=40) == {"summary": "It is short."}  # the first question loads LiteLLM
    prompt = "Summarize this text: It is a long text."
    assert models.requests[-1]["messages"] == [{"role": "user", "content": prompt}]


def test_a_model_answers_a_conversation(cluster, models):
    models.script("gpt-4", "I am fine.")
    said = [{"role": "user", "content": "how are you?"}]
    run = cluster.client.start("documented.chat_response", {"messages": said})
    assert run.result(timeout=40) == {"response": "I am fine."}
    assert models.requests[-1]["messages"] == [{"role": "system", "content": "You are a helpful assistant"}, *said]


def test_a_model_answers_with_data_that_fits_a_schema(cluster, models):
    models.script("gpt-4o-mini", json_reply({"age": "41"}), json_reply({"name": "Ann", "age": 41}))
    run = cluster.client.start("documented.extract_info", {"text": "Ann is 41"})
    assert run.result(timeout=40) == {"name": "Ann", "age": 41}
    assert models.requests[-1]["response_format"]["json_schema"]["schema"]["required"] == ["name"]


def test_a_streamed_story_is_the_list_of_its_chunks_in_the_end(cluster, models):
    models.script("gpt-4o", "Once upon a time")
    run = cluster.client.start("documented.stream_story", {"topic": "towers"})
    assert run.result(timeout=40) == ["Once", " upon", " a", " time"]
    assert models.requests[-1]["stream"] is True


# ---- tools of language models


def test_a_model_is_offered_a_tool_and_its_calls_are_in_the_response(cluster, models):
    models.script("gpt-4o", tool_calls(("web_search", {"query": "durable", "max_results": 3})))
    run = cluster.client.start("documented.agent_with_tools", {"query": "What is durable execution?"})
    response = LLMResponse.model_validate(run.result(timeout=60))
    (call,) = response.tool_calls
    assert (call.name, call.arguments) == ("web_search", {"query": "durable", "max_results": 3})
    (offered,) = models.requests[-1]["tools"]
    assert offered["function"]["description"] == "Search the web for information"
    assert offered["function"]["parameters"]["properties"]["max_results"] == {"type": "integer"}
    assert "searched durable" not in cluster.noted("tools")  # the block registers it, and calls nothing


def test_the_tools_that_a_model_asks_for_are_executed(cluster, models):
    asks = tool_calls(("search", {"query": "population of Rome"}), ("calculator", {"expression": "6 * 7"}))
    models.script("gpt-4o", asks)
    run = cluster.client.start("documented.agent_handler", {"query": "How many are 6 times 7?"})
    response = LLMResponse.model_validate(run.result(timeout=60))
    assert [call.name for call in response.tool_calls] == ["search", "calculator"]
    assert cluster.noted("tools") == ["searched the web for population of Rome", "calculated 6 * 7"]
    assert [tool["function"]["name"] for tool in models.requests[-1]["tools"]] == ["search", "calculator"]
    steps = [event.name for event in run.history() if isinstance(event, StepCompleted)]
    assert steps == ["llm:gpt-4o", "tool:search", "tool:calculator"]


# ---- secrets


def test_a_secret_reaches_the_request_and_nothing_that_is_kept(cluster, models):
    models.script("endpoint-1", f"your key is {API_KEY}")
    run = cluster.client.start("documented.api_call", {"endpoint": "endpoint-1"})
    assert run.result(timeout=20) == "your key is [secret:openai_api_key]"
    assert models.auth[-1] == f"Bearer {API_KEY}"
    (worker, _) = cluster.nodes
    worker.says("result of documented.api_call holds the secret openai_api_key, which was masked in it")
    assert not found_in(repr(run.history()))


def test_a_secret_in_an_error_is_masked(cluster, models):
    (worker, _) = cluster.nodes
    models.script("endpoint-2", status(401, message=f"no such key: {API_KEY}"))
    run = cluster.client.start("documented.api_call", {"endpoint": "endpoint-2"})
    with pytest.raises(TaskFailedError, match=r"no such key: \[secret:openai_api_key\]") as failed:
        run.result(timeout=20)
    assert not found_in(failed.value.message + failed.value.traceback)
    worker.says("no such key: [secret:openai_api_key]")


# ---- observability, headers, properties


def test_a_handler_logs_with_what_it_adds(cluster):
    (worker, _) = cluster.nodes
    run = cluster.client.start("documented.tracked_operation", {"data": {"a": 1, "b": 2}})
    assert run.result(timeout=20) == {"a": 2, "b": 4}
    started, completed = run.logs()
    for line, message, fields in (
        (started, "Processing started", {"data_size": 2}),
        (completed, "Processing completed", {"result_size": 2}),
    ):
        worker.says(f"agnt5.run.documented.tracked_operation: {message}  run={run.id} {_words(fields)}")
        assert (line.level, line.message, line.fields, line.attempt) == ("INFO", message, fields, 0)
        assert line.logger == "agnt5.run.documented.tracked_operation"


def _words(fields):
    return " ".join(f"{name}={value}" for name, value in fields.items())


def test_a_handler_logs_the_traceback_of_what_it_raises_on(cluster):
    (worker, _) = cluster.nodes
    run = cluster.client.start("documented.tracked_operation", {"data": {"bad": 1}})
    with pytest.raises(TaskFailedError, match="cannot process bad data") as failed:
        run.result(timeout=20)
    assert failed.value.type == "UnprocessableError"
    worker.says("agnt5.run.documented.tracked_operation: Processing failed")
    worker.says("surroundings.UnprocessableError: cannot process bad data")
    line = next(line for line in run.logs() if line.message == "Processing failed")
    assert (line.level, line.fields) == ("ERROR", {})
    assert line.exception.endswith("surroundings.UnprocessableError: cannot process bad data")


def test_what_a_handler_counts_and_measures_is_served_to_prometheus(cluster):
    for number in range(3):
        run = cluster.client.start("documented.monitored_function", {"request": {"id": number}})
        assert run.result(timeout=20) == {"answered": number}
    seen = scrape(PORT)
    assert seen.value("requests_count_total", service="api") == 3
    assert seen.value("latency_ms_count", endpoint="/api/process") == 3
    assert 3 * 5 <= seen.value("latency_ms_sum", endpoint="/api/process") < 3 * 5000
    assert seen.value("latency_ms_bucket", endpoint="/api/process", le="2.5") == 0


def test_calls_of_models_are_counted_with_their_tokens(cluster, models):
    models.script("gpt-4o-mini", "It is short.")
    before = scrape(PORT).sum("agnt5_llm_requests_total", outcome="completed")
    run = cluster.client.start("documented.summarize", {"text": "It is another long text."})
    assert run.result(timeout=40) == {"summary": "It is short."}
    seen = scrape(PORT)
    assert seen.sum("agnt5_llm_requests_total", outcome="completed") == before + 1
    assert {one["model"] for one in seen.of("agnt5_llm_requests_total")} >= {"gpt-4o-mini"}
    assert seen.value("agnt5_llm_tokens_total", model="gpt-4o-mini", direction="output") > 0
    assert seen.value("agnt5_llm_tokens_total", model="gpt-4o-mini", direction="input") > 0
    assert seen.value("agnt5_llm_cost_dollars_total", model="gpt-4o-mini") > 0
    assert seen.sum("agnt5_step_seconds_count", handler="documented.summarize", kind="llm") >= 1


def test_a_handlers_own_spans_reach_the_collector_below_its_run(cluster, collector):
    run = cluster.client.start("documented.traced_operation", {"data": {"cents": 5}})
    assert run.result(timeout=20) == {"paid": 5}
    attempt = collector.one("attempt", collector.run(run.id))
    payment, query = (collector.one(name, attempt) for name in ("external_api_call", "database_query"))
    assert (payment.attributes["service"], query.attributes["service"]) == ("payments", "postgres")
    assert payment.begun_ns < payment.ended_ns <= query.begun_ns
    assert cluster.noted("paid") == ["{'paid': 5}"]


def test_a_flag_chooses_the_path_of_a_handler(cluster):
    def gated(**options) -> str | None:
        return cluster.client.start("documented.feature_gated_handler", {"data": {"n": 1}}, **options).result(
            timeout=20
        )

    assert gated() == {"legacy": {"n": 1}}
    cluster.client.set_config("new_feature_enabled", True)
    until_sync(lambda: gated() == {"new": {"n": 1}})
    cluster.client.unset_config("new_feature_enabled")
    until_sync(lambda: gated() == {"legacy": {"n": 1}})


def test_a_variant_chooses_the_path_of_a_run_tree(cluster):
    """The block returns before it comes to its experiment, so that this part of it is run as a handler of its own."""

    def tried(run_id: str) -> dict | None:
        return cluster.client.start("documented.experiment", {"data": {"id": run_id}}, id=run_id).result(timeout=20)

    assert tried("before") is None
    cluster.client.set_config("experiment_group", "treatment")  # a text: that variant for all
    until_sync(lambda: any(tried(f"told-{n}") for n in range(2)))
    cluster.client.set_config("experiment_group", variants={"control": 50, "treatment": 50})
    until_sync(lambda: not all(tried(f"split-{time.monotonic_ns()}") for _ in range(8)))
    found = {f"run-{n}": tried(f"run-{n}") for n in range(12)}
    variants = {run_id: cluster.client.explain_config("experiment_group", unit=run_id).value for run_id in found}
    assert set(variants.values()) == {"control", "treatment"}
    assert found == {
        run_id: {"experimental": {"id": run_id}} if variant == "treatment" else None
        for run_id, variant in variants.items()
    }


def test_headers_of_the_start_are_read_in_any_case(cluster):
    (worker, _) = cluster.nodes
    headers = {"User-Agent": "probe/1", "X-Correlation-ID": "c-17"}
    run = cluster.client.start("documented.header_aware", {"data": {}}, headers=headers)
    assert run.result(timeout=20) == {"processed": True}
    worker.says("Request from probe/1")


def test_a_handler_knows_its_own_run(cluster):
    run = cluster.client.start("documented.introspective", {"data": {"n": 1}}, id="look-at-me")
    assert run.result(timeout=20) == {
        "run_id": "look-at-me",
        "step_id": None,
        "attempt": 0,
        "component_type": "function",
        "object_id": None,
        "method_name": None,
        "processed": {"n": 1},
    }


# ---- patterns


def test_all_tasks_done_is_a_success_and_an_empty_one_a_partial_failure(cluster):
    done = cluster.client.start("documented.robust_workflow").result(timeout=20)
    assert done == {"status": "success", "results": {"task1": "one", "task2": "two"}}
    (cluster.notes / "task2-is-empty").touch()
    assert cluster.client.start("documented.robust_workflow").result(timeout=20) == {"status": "partial_failure"}


def test_a_workflow_that_needs_no_approval_waits_for_none(cluster):
    run = cluster.client.start("documented.conditional_approval", {"needs_approval": False})
    assert run.result(timeout=20) == {"status": "completed", "result": "operated"}


@pytest.mark.parametrize(
    ("approved", "expected"),
    [(True, {"status": "completed", "result": "operated"}), (False, {"status": "rejected"})],
)
def test_a_workflow_that_needs_approval_does_what_the_signal_says(cluster, approved, expected):
    run = cluster.client.start("documented.conditional_approval", {"needs_approval": True})
    assert 0 <= cluster.now_ms() + 60_000 - cluster.one_timer(run.id) < 20_000
    run.signal("approval_signal", {"approved": approved})
    assert run.result(timeout=20) == expected

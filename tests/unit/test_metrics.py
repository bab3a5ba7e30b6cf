"""What `ctx.metrics()` takes and refuses, and what the runtime counts nothing for where nobody asked."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from support.attempts import Attempts

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.settings import Settings
from agnt5.sdk.metrics import Metrics
from agnt5.telemetry import metrics as module
from agnt5.telemetry.figures import Figures, Queue
from agnt5.telemetry.metrics import Recorder
from agnt5.telemetry.metrics_runtime import MODELS_LIMIT, PrometheusFigures


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry, monkeypatch) -> Metrics:
    monkeypatch.setattr(module, "_recorder", Recorder(registry))
    return Metrics(lambda: False)


def shown(registry: CollectorRegistry) -> dict[str, float]:
    """Lines of the text format -> values, without the times of creation."""
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs if "_created" not in name}


@pytest.mark.parametrize(
    ("given_", "made"),
    [
        ("requests.count", "requests_count_total"),
        ("jobs_total", "jobs_total"),
        ("a-b  c/d", "a_b_c_d_total"),
        ("9lives", "_9lives_total"),
        ("größe", "gr_e_total"),
        ("a:b", "a_b_total"),
    ],
)
def test_names_are_made_valid(metrics, registry, given_, made):
    metrics.increment(given_)
    assert shown(registry) == {made: 1.0}


def test_labels_count_by_name_not_by_order(metrics, registry):
    metrics.increment("x", a=1, b=2)
    metrics.increment("x", b=2, a=1)
    metrics.increment("x", value=3, a="1", b="2")
    assert shown(registry) == {'x_total{a="1",b="2"}': 5.0}


def test_labels_may_have_the_names_of_arguments(metrics, registry):
    metrics.increment("x", name="n")
    assert shown(registry) == {'x_total{name="n"}': 1.0}


@pytest.mark.parametrize(
    ("name", "milliseconds", "made"),
    [
        ("bank", 1500, {"bank_seconds_sum": 1.5}),
        ("bank.ms", 1500, {"bank_ms_sum": 1500}),
        ("bank_seconds", 1500, {"bank_seconds_sum": 1.5}),
        ("bank.seconds", 1500, {"bank_seconds_sum": 1.5}),
        ("bank_milliseconds", 20, {"bank_milliseconds_sum": 20}),
    ],
)
def test_times_are_kept_in_the_unit_that_the_name_says(metrics, registry, name, milliseconds, made):
    metrics.timing(name, milliseconds)
    assert made.items() <= shown(registry).items()


async def test_a_time_is_measured_around_a_block_and_around_calls(metrics, registry):
    @metrics.timing("plain")
    def plain(value):
        return value

    @metrics.timing("awaited")
    async def awaited(value):
        await asyncio.sleep(0)
        return value

    assert plain(1) == 1
    assert await asyncio.gather(*(awaited(number) for number in range(3))) == [0, 1, 2]
    with pytest.raises(RuntimeError, match="inside"), metrics.timing("block", way="with"):
        raise RuntimeError("inside")
    seen = shown(registry)
    assert seen["plain_seconds_count"] == 1
    assert seen["awaited_seconds_count"] == 3
    assert seen['block_seconds_count{way="with"}'] == 1


def test_a_time_that_began_in_a_replay_is_not_recorded(registry, monkeypatch):
    monkeypatch.setattr(module, "_recorder", Recorder(registry))
    replaying = True
    metrics = Metrics(lambda: replaying)
    with metrics.timing("stayed"):
        metrics.increment("came")
        replaying = False
        metrics.increment("left")
    assert shown(registry) == {"left_total": 1.0}


def test_the_context_gives_the_same_recorder_each_time(registry, monkeypatch):
    monkeypatch.setattr(module, "_recorder", Recorder(registry))
    ctx = Attempts().ctx()
    assert ctx.metrics() is ctx.metrics()
    ctx.metrics().increment("x")
    assert shown(registry) == {"x_total": 1.0}


def test_names_without_end_are_limited(metrics, registry, caplog):
    for number in range(module.METRICS_LIMIT + 50):
        metrics.increment(f"n.{number}")
    assert len(shown(registry)) == module.METRICS_LIMIT
    assert any("put what differs into a label's value" in record.message for record in caplog.records)


def test_the_log_is_not_flooded_by_mistakes_of_many_names(metrics, caplog):
    for number in range(3000):
        metrics.increment(f"agnt5_{number}")
    assert len(caplog.records) == 1000


class Hostile:
    """Has neither a text nor a number."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __float__ = __repr__


def test_what_has_no_text_is_told_all_the_same(metrics, caplog):
    metrics.increment(Hostile())
    metrics.increment("x", shop=Hostile())
    assert caplog.messages == [
        "metric <Hostile>: RuntimeError('no repr'); it is not counted",
        "metric x: RuntimeError('no repr'); it is not counted",
    ]


anything = st.one_of(
    st.builds(Hostile),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.decimals(),
)


@given(
    sort=st.sampled_from(["increment", "observe", "gauge", "timing"]), name=anything, value=anything,
    labels=st.dictionaries(st.text(), anything, max_size=3),
)  # fmt: skip
def test_nothing_raises_and_what_is_served_stays_readable(sort, name, value, labels):
    logging.getLogger("agnt5.metrics").setLevel(logging.CRITICAL)
    try:
        registry = CollectorRegistry()
        metrics = Metrics(lambda: False)
        metrics._recorder = Recorder(registry)
        for _ in range(2):
            if sort != "timing" or value is not None:
                getattr(metrics, sort)(name, value, **{key: one for key, one in labels.items() if key != "value"})
        generate_latest(registry)
        open_metrics(registry)
    finally:
        logging.getLogger("agnt5.metrics").setLevel(logging.NOTSET)


def test_threads_count_exactly(metrics, registry):
    def count():
        for number in range(2000):
            metrics.increment("x", thread=number % 7)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(shown(registry).values()) == 8000


# ---- the runtime's


def test_models_without_end_are_counted_together(registry):
    figures = PrometheusFigures(registry)
    figures.add("worker")
    for number in range(MODELS_LIMIT + 20):
        figures.asked(f"m{number}", 0.1, "completed")
    assert shown(registry)['agnt5_llm_requests_total{model="other",outcome="completed"}'] == 20


def test_a_queue_that_is_gone_is_empty(registry):
    figures = PrometheusFigures(registry)
    figures.add("beat")
    figures.looked({"q": Queue(3, 2.5)}, open_runs=1, refused_runs=0, live_hosts=2)
    assert shown(registry)['agnt5_queue_length{queue="q"}'] == 3
    figures.looked({}, open_runs=1, refused_runs=0, live_hosts=2)
    assert shown(registry)['agnt5_queue_length{queue="q"}'] == 0
    assert shown(registry)['agnt5_queue_oldest_age_seconds{queue="q"}'] == 0


def test_a_figure_that_cannot_be_counted_is_told_once_and_raises_nothing(registry, caplog):
    figures = PrometheusFigures(registry)
    for _ in range(3):
        figures.retried("a.b")  # no role was added: there is no such figure
    assert [record.message for record in caplog.records] == [
        "figure agnt5_retries was not counted: KeyError('agnt5_retries'); further such errors are not told"
    ]


def test_each_figure_that_counts_has_one_that_does_not():
    for name in dir(PrometheusFigures):
        if not name.startswith("_") and name != "add":
            assert hasattr(Figures, name), name


def test_where_no_port_is_set_prometheus_client_is_not_imported():
    code = (
        "import sys\n"
        "import agnt5, agnt5.runtime.host, agnt5.runtime.beat, agnt5.runtime.worker\n"
        "from agnt5.contracts.settings import Settings\n"
        "from agnt5.telemetry import metrics_endpoint\n"
        "metrics_endpoint.prepare(Settings(), 'worker', forks=True)\n"
        "metrics_endpoint.serve(Settings())\n"
        "print([name for name in sys.modules if name.startswith('prometheus')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"


# ---- settings


@pytest.mark.parametrize(
    ("text", "ports"),
    [("9808", range(9808, 9809)), ("9800-9809", range(9800, 9810)), ("0", range(0)), ("", range(0))],
)
def test_a_port_or_a_range_of_them(text, ports):
    assert Settings.from_env({"AGNT5_METRICS_PORT": text}).metrics_port == ports


@pytest.mark.parametrize("text", ["http", "-1", "70000", "9809-9800", "9800-", "0-5", "9800-70000"])
def test_a_wrong_port_is_told(text):
    with pytest.raises(ConfigurationError, match="AGNT5_METRICS_PORT: expected a port"):
        Settings.from_env({"AGNT5_METRICS_PORT": text})


def test_the_address_is_this_machines_unless_it_is_set():
    assert Settings().metrics_host == "127.0.0.1"
    assert Settings.from_env({"AGNT5_METRICS_HOST": "[::1]"}).metrics_host == "::1"
    with pytest.raises(ConfigurationError, match="AGNT5_METRICS_HOST"):
        Settings.from_env({"AGNT5_METRICS_HOST": "http://x"})

"""Metrics as Prometheus reads them: real workers and a real beat, on one process and on several, scraped over HTTP."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
from support.cluster import Cluster
from support.scraping import fetch, free_port, scrape
from support.waiting import until_sync

from agnt5 import Context, TaskFailedError, function
from agnt5.telemetry.metrics_shared import PREFIX
from agnt5.telemetry.metrics_table import BEAT, SHARED, WORKER

HERE = Path(__file__).parent
HANDLERS = "measured"
GUIDE = (HERE.parents[1] / "docs" / "metrics.md").read_text()


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("worker", "beat")}


@pytest.fixture(scope="module")
def cluster(ports) -> Iterator[Cluster]:
    modules = [HANDLERS, "checkout"]
    with Cluster(modules, paths=[HERE], AGNT5_LINGER="100ms", AGNT5_LIVENESS_TIMEOUT="2s") as cluster:
        (cluster.folder / "checkout.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)))
        worker = cluster.worker(AGNT5_METRICS_PORT=ports["worker"])
        yield cluster.start(worker, cluster.beat(AGNT5_METRICS_PORT=ports["beat"]))


@function(service="elsewhere")
async def unknown_to_workers(ctx: Context) -> None:
    """Only this process has it."""


def folder(*, in_use: bool) -> tuple[Path, IO[bytes]]:
    """A folder of metrics as a worker makes it, which still lives or was killed."""
    made = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = (made / "lock").open("wb")
    if in_use:
        fcntl.flock(lock, fcntl.LOCK_EX)
    return made, lock


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


@pytest.fixture(scope="module")
def forked() -> Iterator[Cluster]:
    """Two child processes, each replaced after a few tasks; the first port of the range is taken."""
    taken, (left, _), (living, lock) = socket.create_server(("127.0.0.1", 0)), folder(in_use=False), folder(in_use=True)
    first = taken.getsockname()[1]
    try:
        with Cluster([HANDLERS], paths=[HERE]) as cluster:
            range_ = f"{first}-{first + 20}"
            worker = cluster.worker(
                "w1", "--max-tasks-per-child=4", pool="prefork", concurrency=2, AGNT5_METRICS_PORT=range_
            )
            cluster.start(worker)
            assert not left.exists()  # what a killed worker left is removed by the next one
            assert living.exists()
            yield cluster
    finally:
        taken.close()
        lock.close()
        shutil.rmtree(living, ignore_errors=True)


@pytest.fixture
def forked_port(forked: Cluster) -> int:
    said = until_sync(lambda: re.search(r"metrics are served at http://127.0.0.1:(\d+)/", forked.nodes[0].output()), 10)
    return int(said[1])


def run(cluster: Cluster, handler: str, **given):
    return cluster.client.start(f"{HANDLERS}.{handler}", given).result(timeout=30)


# ---- what user code counts


def test_all_sorts_are_served_with_valid_names_and_units(cluster, ports):
    run(cluster, "count", name="requests.count", labels={"service": "api"})
    run(cluster, "count", name="requests.count", amount=2, labels={"service": "api"})
    run(cluster, "all_sorts")
    run(cluster, "in_a_thread")
    seen = scrape(ports["worker"])
    assert seen.value("requests_count_total", service="api") == 3
    assert seen.value("threads_used_total") == 1
    assert seen.value("stock_level", shelf="a") == 5
    assert seen.value("basket_bytes_bucket", le="4096.0") == 1
    assert seen.value("basket_bytes_bucket", le="1024.0") == 0
    assert seen.value("checkout_seconds_sum", till="1") == 1.5
    assert seen.value("parse_ms_count") == 1
    assert seen.value("parse_ms_bucket", le="300000.0") == 1
    assert seen.value("called_seconds_count", kind="async") == 2


def test_the_guide_counts_what_it_says(cluster, ports):
    assert cluster.client.start("checkout.charge", {"shop": "a", "cents": 250}).result(timeout=20) == "paid"
    seen = scrape(ports["worker"])
    assert seen.value("payments_total", shop="a") == 1
    assert seen.value("payment_cents_sum", shop="a") == 250
    assert seen.value("last_payment_cents") == 250
    assert seen.value("bank_seconds_count", shop="a") == 1
    assert seen.value("handling_ms_sum") == 12.5


def test_misuse_is_told_once_and_neither_breaks_the_handler_nor_what_was_counted(cluster, ports):
    assert run(cluster, "misuse") == "fine"
    assert run(cluster, "misuse") == "fine"
    seen = scrape(ports["worker"])
    assert [(one, seen.value("orders_total", **one)) for one in seen.of("orders_total")] == [({"shop": "a"}, 2.0)]
    assert not {name for name in seen.names if name.startswith(("spread", "xxx", "odd_time"))}
    assert seen.value("agnt5_runs_started_total", handler="forged") is None
    assert seen.value("_1st_gr_e_count_total") == 2
    (odd,) = seen.of("odd_labels_total")
    assert odd["shop"].startswith('? \n " \\ größe yyy')
    assert len(odd["shop"]) == 200
    assert seen.value("huge_sum") == 2e300
    said = [line.partition("agnt5.metrics: ")[2] for line in cluster.nodes[0].output().splitlines()]
    orders = [line for line in said if line.startswith("metric orders: ")]
    assert len(orders) == 3, orders
    told = (
        "metric orders: found the labels (region, shop), expected (shop) as at its first use; it is not counted. Give"
        " the same label names in every place that uses this metric, or use another name"
    )
    assert any(line.startswith(f"{told}  run=") for line in orders), orders
    assert any("was a counter before and is used as a histogram" in line for line in orders)
    assert any("a counter only grows, found -1" in line for line in orders)
    assert any("the label name 'bad-label' is not valid" in line for line in said)
    assert any(line.startswith("metric agnt5_runs_started: names that begin with agnt5_") for line in said)
    assert any(line.startswith("metric python_info: another metric uses this name") for line in said)


def test_label_values_without_end_are_counted_together_beyond_a_thousand(cluster, ports):
    run(cluster, "visits", first=0, last=1500)
    run(cluster, "visits", first=900, last=1100)
    seen = scrape(ports["worker"])
    assert seen.sum("visits_total") == 1700
    assert len(seen.of("visits_total")) == 1001
    assert seen.value("visits_total", visitor="other") == 600
    told = [line for line in cluster.nodes[0].output().splitlines() if "sets of values of the labels (visitor)" in line]
    assert len(told) == 1


def test_a_later_attempt_counts_again(cluster, ports):
    assert run(cluster, "at_the_second_try") == 1
    assert scrape(ports["worker"]).value("tries_total") == 2


def test_a_replay_counts_nothing_again(cluster, ports):
    waiting = cluster.client.start("measured.patient")
    parked = {"handler": "measured.patient"}
    until_sync(lambda: (scrape(ports["worker"]).value("agnt5_runs_parked_total", **parked) or 0) >= 1, 20.0)
    waiting.signal("go")
    assert waiting.result(timeout=20) == "left"
    seen = scrape(ports["worker"])
    assert seen.value("patients_came_total") == 1
    assert seen.value("patients_left_total") == 1
    assert seen.value("patients_greeted_seconds_count") == 1
    assert seen.value("patients_stayed_seconds_count") is None  # it began before the replay: nobody knows how long
    assert seen.value("agnt5_replay_events_count", **parked) == 2
    assert seen.value("agnt5_replay_events_sum", **parked) >= 3


# ---- what the runtime counts


def test_the_runtime_counts_what_happens_to_runs(cluster, ports):
    with pytest.raises(TaskFailedError):
        run(cluster, "fails")
    run(cluster, "sleeper")
    payments = [cluster.client.start("measured.patient") for _ in range(3)]
    till = cluster.client.entity("Till", "t-1")
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: till.pay(seconds=0.2), range(3)))
    until_sync(lambda: scrape(ports["worker"]).value("agnt5_hosted_runs", kind="workflow", state="waiting") == 0, 20.0)
    until_sync(lambda: (scrape(ports["beat"]).value("agnt5_open_runs") or 0) >= 3, 20.0)
    for one in payments:
        one.signal("go")
        one.result(timeout=20)
    seen = scrape(ports["worker"])
    assert seen.value("agnt5_runs_ended_total", handler="measured.fails", status="failed") == 1
    assert seen.value("agnt5_runs_ended_total", handler="measured.fails", status="completed") == 0
    assert seen.value("agnt5_runs_started_total", handler="measured.patient") == 4
    assert seen.value("agnt5_run_duration_seconds_count", handler="measured.sleeper", status="completed") == 1
    assert seen.value("agnt5_run_duration_seconds_sum", handler="measured.sleeper", status="completed") >= 0.05
    assert seen.value("agnt5_attempt_seconds_count", handler="measured.fails", outcome="failed") == 1
    assert seen.value("agnt5_retries_total", handler="measured.at_the_second_try") == 1
    assert seen.sum("agnt5_step_seconds_count", handler="measured.all_sorts", kind="step") == 1
    assert seen.sum("agnt5_activation_seconds_count", handler="measured.patient") >= 8
    assert seen.value("agnt5_entity_lock_wait_seconds_count", handler="Till.pay") == 3
    assert 0.3 < seen.value("agnt5_entity_lock_wait_seconds_sum", handler="Till.pay") < 5
    assert seen.value("agnt5_queue_delay_seconds_count", queue="agnt5.measured") > 10
    assert seen.value("agnt5_store_round_trip_seconds_count") > 5
    assert seen.value("agnt5_store_writes_total") > 10
    assert seen.value("agnt5_store_calls_total") > 10
    assert seen.value("agnt5_store_reconnects_total") == 0
    ids = [one.id for one in payments]
    assert not any(run_id in seen.text for run_id in ids)  # what has no end is no label


def test_beat_tells_of_timers_queues_and_hosts_that_died(cluster, ports):
    run(cluster, "sleeper")
    seen = scrape(ports["beat"])
    assert seen.value("agnt5_timers_fired_total") >= 1
    assert seen.value("agnt5_timer_lateness_seconds_sum") < 5
    assert abs(seen.value("agnt5_beat_last_turn_timestamp_seconds") - cluster.now_ms() / 1000) < 30
    assert seen.value("agnt5_refused_runs") == 0
    until_sync(lambda: scrape(ports["beat"]).value("agnt5_live_hosts") == 1, 20.0)
    assert scrape(ports["beat"]).value("agnt5_hosts_reaped_total", how="silent") == 0
    cluster.nodes[0].freeze()
    try:
        late = cluster.client.start("measured.quick", {"number": 1})
        queue = {"queue": "agnt5.measured"}
        until_sync(lambda: scrape(ports["beat"]).value("agnt5_queue_length", **queue) == 1, 20.0)
        until_sync(lambda: scrape(ports["beat"]).value("agnt5_queue_oldest_age_seconds", **queue) > 1, 20.0)
        until_sync(lambda: scrape(ports["beat"]).value("agnt5_hosts_reaped_total", how="silent") == 1, 20.0)
    finally:
        cluster.nodes[0].thaw()
    assert late.result(timeout=20) == 1
    until_sync(lambda: scrape(ports["beat"]).value("agnt5_queue_length", **queue) == 0, 20.0)


def test_beat_counts_ends_that_no_worker_had(cluster, ports):
    parked = cluster.client.start("measured.patient", run_timeout=3600)
    until_sync(lambda: cluster.field(parked.id, "seen") and cluster.field(parked.id, "host") == "", 20.0)
    cluster.hurry(parked.id)
    put_off = cluster.client.start("measured.much_later")
    until_sync(lambda: cluster.field(put_off.id, "retry"), 20.0)
    unannounced = cluster.client.start(unknown_to_workers)
    put_off.cancel("no longer")
    unannounced.cancel("no longer")

    def ended(handler: str, status: str) -> float | None:
        return scrape(ports["beat"]).value("agnt5_runs_ended_total", handler=handler, status=status)

    until_sync(lambda: ended("measured.patient", "timeout") == 1, 20.0)
    until_sync(lambda: ended("measured.much_later", "cancelled") == 1, 20.0)
    until_sync(lambda: ended("other", "cancelled") == 1, 20.0)
    assert (ended("measured.patient", "failed"), ended("checkout.charge", "timeout")) == (0, 0)
    seen = scrape(ports["beat"])
    took = seen.value("agnt5_run_duration_seconds_sum", handler="measured.patient", status="timeout")
    assert 0.1 < took < 100
    at_worker = scrape(ports["worker"])
    assert at_worker.value("agnt5_runs_ended_total", handler="measured.patient", status="timeout") == 0
    assert at_worker.value("agnt5_runs_started_total", handler="measured.patient") >= 1


def test_each_process_has_the_figures_of_its_role(cluster, ports):
    unlabelled = {figure.shown for figure in (*SHARED, *WORKER) if not figure.labels and figure.sort != "histogram"}
    assert unlabelled <= scrape(ports["worker"]).names
    seen = scrape(ports["beat"]).names
    assert {figure.shown for figure in BEAT if figure.sort != "histogram"} <= seen
    assert not {figure.shown for figure in WORKER} & seen


def test_open_metrics_are_given_to_who_asks_for_them(cluster, ports):
    kind, text = fetch(ports["worker"], "application/openmetrics-text;version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_scraping_under_load_loses_nothing(cluster, ports):
    before = scrape(ports["worker"]).value("quick_ones_total") or 0
    runs = [cluster.client.start("measured.quick", {"number": number}) for number in range(200)]
    with ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(lambda _: fetch(ports["worker"])[1], range(30)))
    assert [one.result(timeout=60) for one in runs] == list(range(200))
    assert all("agnt5_runs_started_total" in text for text in texts)
    assert scrape(ports["worker"]).value("quick_ones_total") == before + 200


def test_promtool_finds_nothing_wrong_with_what_is_served(cluster, ports, promtool):
    for port in (ports["worker"], ports["beat"]):
        text = scrape(port).text
        ours = "".join(line for line in text.splitlines(keepends=True) if "agnt5_" in line.partition("{")[0])
        checked = subprocess.run(
            [promtool, "check", "metrics"], check=False, input=ours, capture_output=True, text=True, timeout=30
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_port_that_is_taken_stops_nothing(cluster, ports):
    second = cluster.beat("second", AGNT5_METRICS_PORT=ports["worker"]).start()
    try:
        second.says(f"metrics are not served: 127.0.0.1, port {ports['worker']}: ")
        assert "All else goes on, and it is tried again." in second.output()
        assert "AGNT5_METRICS_PORT to a range" in second.output()
    finally:
        cluster.remove(second)


# ---- child processes


def test_what_children_count_is_summed_over_those_that_live_that_ended_and_that_were_killed(forked, forked_port):
    pids = {run(forked, "count") for _ in range(12)}
    assert len(pids) > 2
    assert scrape(forked_port).value("jobs_done_total") == 12
    ended, done, killed = {"handler": "measured.count", "status": "completed"}, 12, None
    while killed is None:  # a child that has just been replaced cannot be killed: then the next one is
        pid, done = run(forked, "count"), done + 1
        until_sync(lambda: scrape(forked_port).value("agnt5_runs_ended_total", **ended) == done, 10.0)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed = pid
    until_sync(lambda: not _lives(killed), 20.0)
    assert run(forked, "count") != killed
    until_sync(lambda: scrape(forked_port).value("agnt5_runs_ended_total", **ended) == done + 1, 10.0)
    seen = scrape(forked_port)
    assert seen.value("jobs_done_total") == done + 1
    assert seen.value("agnt5_hosted_runs", kind="function", state="waiting") == 0
    assert "pid=" not in seen.text
    assert seen.value("agnt5_store_calls_total") > 14


def test_gauges_of_children_show_what_was_set_last(forked, forked_port):
    for _ in range(3):
        run(forked, "all_sorts")
    seen = scrape(forked_port)
    assert seen.value("stock_level", shelf="a") == 5
    assert seen.value("checkout_seconds_sum", till="1") == 4.5


def test_misuse_in_a_child_breaks_neither_handler_nor_scrape(forked, forked_port):
    assert run(forked, "misuse") == "fine"
    assert scrape(forked_port).value("orders_total", shop="a") == 1


def test_a_worker_that_ends_leaves_no_folder(forked, forked_port):
    (made,) = {path for path in folders() if list(path.glob("counter_*.db"))}
    assert forked_port
    forked.nodes[0].terminate()
    assert not made.exists()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

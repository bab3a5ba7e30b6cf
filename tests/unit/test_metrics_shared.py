"""Metrics over forks: what children count, what becomes of it when they end, and who holds the port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from support.scraping import free_port

HEAD = """\
import os, signal, sys, tempfile, threading, time
from pathlib import Path

from agnt5.contracts.settings import Settings
from agnt5.telemetry import metrics_endpoint
from agnt5.telemetry.figures import current
from agnt5.telemetry.metrics import recorder

PORT = int(sys.argv[1])


def forked(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def ended(work):
    os.waitpid(forked(work), 0)


def sample(registry, name, labels=None):
    found = {}
    for family in registry.collect():
        for one in family.samples:
            if one.name == name and (labels is None or one.labels == labels):
                found[tuple(sorted(one.labels.items()))] = one.value
    return found


"""


def run(code: str, tmp_path, *, expect: int = 0, **env: str) -> str:
    """The output of a program of its own: metrics over forks are a matter of a whole process."""
    program = HEAD + textwrap.dedent(code)
    environment = {**os.environ, "TMPDIR": str(tmp_path), **env}
    done = subprocess.run(
        [sys.executable, "-c", program, str(free_port())], check=False, capture_output=True, text=True, timeout=60,
        env=environment,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_ended_children_counted_is_kept_in_one_set_of_files(tmp_path):
    said = run(
        """
        metrics_endpoint.prepare(Settings(metrics_port=range(PORT, PORT + 1)), "worker", forks=True)
        shared = metrics_endpoint._Process.shared
        registry = shared.registry()

        def work():
            current().claimed("a.b", first=True)
            current().hosted({("workflow", "waiting"): 4})
            recorder().record("counter", "jobs", 2, {"shop": "a"})
            recorder().record("histogram", "size_bytes", 1000, {})
            recorder().record("gauge", "level", os.getpid(), {})

        for round_ in range(3):
            for _ in range(3):
                ended(work)
            last = forked(work)
            os.waitpid(last, 0)
            before = sample(registry, "jobs_total")
            shared.tidy()
            shared.tidy()
            assert sample(registry, "jobs_total") == before == {(("shop", "a"),): 8.0 * (round_ + 1)}, before
            assert sample(registry, "agnt5_runs_started_total") == {(("handler", "a.b"),): 4.0 * (round_ + 1)}
            assert sample(registry, "size_bytes_count") == {(): 4.0 * (round_ + 1)}
            assert sample(registry, "size_bytes_bucket", {"le": "1024.0"}) == {(("le", "1024.0"),): 4.0 * (round_ + 1)}
            assert sample(registry, "level") == {(): float(last)}, sample(registry, "level")
            assert not sample(registry, "agnt5_hosted_runs")
        files = sorted(file.name for file in shared.path.glob("*.db"))
        mine = os.getpid()
        assert {name.replace(str(mine), "MINE") for name in files} == {
            "counter_0.db", "counter_MINE.db", "gauge_mostrecent_0.db", "histogram_0.db", "histogram_MINE.db",
        }, files
        """,
        tmp_path,
    )
    assert said == ""
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_is_killed_in_the_middle_of_counting_leaves_what_it_counted(tmp_path):
    run(
        """
        metrics_endpoint.prepare(Settings(metrics_port=range(PORT, PORT + 1)), "worker", forks=True)
        shared = metrics_endpoint._Process.shared
        registry = shared.registry()
        read, write = os.pipe()

        def work():
            number = 0
            while True:
                number += 1
                recorder().record("counter", "jobs", 1, {"shop": str(number % 700)})
                if number == 2000:
                    os.write(write, b"x")

        pids = [forked(work) for _ in range(3)]
        for _ in pids:
            os.read(read, 1)
        for pid in pids:
            sum(sample(registry, "jobs_total").values())  # while they write
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        before = sum(sample(registry, "jobs_total").values())
        assert before >= 6000
        shared.tidy()
        assert sum(sample(registry, "jobs_total").values()) == before
        """,
        tmp_path,
    )


def test_a_child_does_not_keep_the_port_of_its_dead_parent(tmp_path):
    said = run(
        """
        settings = Settings(metrics_port=range(PORT, PORT + 1))
        metrics_endpoint.prepare(settings, "worker", forks=True)
        metrics_endpoint.serve(settings)
        while metrics_endpoint._Process.endpoint._server is None:
            time.sleep(0.01)
        child = forked(lambda: (os.close(1), os.close(2), time.sleep(60)))
        print(PORT, child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
        expect=-signal.SIGKILL,
    )
    port, child = map(int, said.split())
    try:
        os.kill(child, 0)
        with socket.create_server(("127.0.0.1", port)):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_prometheus_client_may_be_imported_before(tmp_path):
    said = run(
        """
        import logging, prometheus_client
        logging.basicConfig()
        early = prometheus_client.Counter("early", "made at import")
        metrics_endpoint.prepare(Settings(metrics_port=range(PORT, PORT + 1)), "worker", forks=True)
        ended(lambda: current().claimed("a.b", first=True))
        assert sample(metrics_endpoint._Process.shared.registry(), "agnt5_runs_started_total")
        """,
        tmp_path,
    )
    assert "metrics early were made before the worker could share them between its processes" in said


def test_a_folder_that_was_given_is_used_and_left_alone(tmp_path):
    given = tmp_path / "given"
    run(
        """
        settings = Settings(metrics_port=range(PORT, PORT + 1))
        metrics_endpoint.prepare(settings, "worker", forks=True)
        shared = metrics_endpoint._Process.shared
        ended(lambda: current().claimed("a.b", first=True))
        shared.tidy()
        assert sample(shared.registry(), "agnt5_runs_started_total") == {(("handler", "a.b"),): 1.0}
        """,
        tmp_path,
        PROMETHEUS_MULTIPROC_DIR=str(given),
    )
    assert len(list(given.glob("counter_*.db"))) == 2


@pytest.mark.parametrize("taken", [True, False])
def test_a_folder_that_cannot_be_made_or_a_port_that_is_taken_is_told_and_stops_nothing(tmp_path, taken):
    said = run(
        """
        import logging, socket
        logging.basicConfig(level=logging.INFO)
        taken = socket.create_server(("127.0.0.1", PORT)) if os.environ["TAKEN"] else None
        settings = Settings(metrics_port=range(PORT, PORT + 1))
        metrics_endpoint.TURN_S = 0.05
        metrics_endpoint.prepare(settings, "worker", forks=not taken)
        metrics_endpoint.serve(settings)
        end = time.monotonic() + 20
        if taken:
            while not metrics_endpoint._Process.endpoint._told and time.monotonic() < end:
                time.sleep(0.01)
            taken.close()
        while metrics_endpoint._Process.endpoint._server is None and time.monotonic() < end:
            time.sleep(0.01)
        """,
        tmp_path,
        TAKEN="yes" if taken else "",
        **({} if taken else {"PROMETHEUS_MULTIPROC_DIR": "/proc/nowhere"}),
    )
    if taken:
        assert said.count("metrics are not served: 127.0.0.1, port") == 1
        assert "metrics are served at http://127.0.0.1:" in said
    else:
        assert "the runtime's figures are not counted; all else goes on" in said

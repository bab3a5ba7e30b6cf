"""Our durable workflows and raw Celery's chains on one server, in one run. Prints figures and ratios.

    python bench/durable.py [name ...]     some of: seq3 alone fanout steps sleep signal start replay
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cluster import client, cpu_s, pings, process, server  # noqa: E402

ROUNDS = 3


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


class Figures:
    """Rows of the table: what, ours, raw Celery, ratio, goal."""

    def __init__(self):
        self.rows = []

    def add(self, what, ours, raw=None, goal="", unit="", less_is_better=False):
        ratio = ""
        if raw:
            ratio = f"{(ours / raw):.2f}x"
        self.rows.append((what, f"{ours:,.4g} {unit}", f"{raw:,.4g} {unit}" if raw else "", ratio, goal))
        print(*self.rows[-1], sep=" | ", flush=True)

    def table(self):
        from rich.console import Console
        from rich.table import Table

        table = Table("what", "agnt5", "raw Celery", "ratio", "goal", title="medians of one run, AOF everysec")
        for row in self.rows:
            table.add_row(*row)
        Console().print(table)


# ---- raw Celery


def raw_seq3(n=1000):
    from celery import chain

    from bench.apps import raw

    flow = chain(raw.noop.s(), raw.noop.s(), raw.noop.s())
    flow().get(timeout=30)
    begun = time.perf_counter()
    results = [flow.apply_async() for _ in range(n)]
    for result in results:
        result.get(timeout=120)
    return n / (time.perf_counter() - begun)


def raw_alone(n=50):
    from celery import chain

    from bench.apps import raw

    took = []
    for _ in range(n):
        begun = time.perf_counter()
        chain(raw.noop.s(), raw.noop.s(), raw.noop.s())().get(timeout=30)
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)


def raw_fanout(width=1000):
    from celery import chord

    from bench.apps import raw

    begun = time.perf_counter()
    chord((raw.noop.s(i) for i in range(width)), raw.collect.s())().get(timeout=120)
    return width / (time.perf_counter() - begun)


def raw_late(n=1000):
    from bench.apps import raw

    results = [raw.due.apply_async((time.time() + 2,), countdown=2) for _ in range(n)]
    return [result.get(timeout=60)["late"] * 1000 for result in results]


# ---- ours


async def seq3(c, n=1000):
    begun = time.perf_counter()
    runs = await c.start_many("bench.seq3", [None] * n)
    await asyncio.gather(*[run.result(timeout=120) for run in runs])
    return n / (time.perf_counter() - begun)


async def alone(c, n=50):
    took = []
    for _ in range(n):
        begun = time.perf_counter()
        await (await c.start("bench.seq3")).result(timeout=30)
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)


async def fanout(c, width=1000):
    begun = time.perf_counter()
    await (await c.start("bench.fan", {"n": width})).result(timeout=120)
    return width / (time.perf_counter() - begun)


async def steps(c, handler, n=1000):
    """Time a step by the journal's own times: from the first record to the last."""
    server = client()
    before = server.info("stats")["total_reads_processed"]
    run = await c.start(handler, {"n": n})
    await run.result(timeout=60)
    trips = (server.info("stats")["total_reads_processed"] - before) / n
    events = [event for event in await run.history() if type(event).__name__ == "StepCompleted"]
    return (events[-1].at - events[0].at) / (n - 1), trips


async def late(c, n=1000):
    runs = await c.start_many("bench.sleeper", [{"seconds": 2.0}] * n)
    await asyncio.gather(*[run.result(timeout=60) for run in runs])
    lateness = []
    for run in runs:
        times = {type(event).__name__: event for event in await run.history()}
        lateness.append(times["TimerFired"].at - times["TimerStarted"].due_ms)
    return lateness


async def signals(c, n=500):
    runs = await c.start_many("bench.waiter", [None] * n)
    while sum(run.status == "waiting" for run in await c.runs(handler="bench.waiter", limit=n)) < n:
        await asyncio.sleep(0.05)
    begun = time.perf_counter()
    await asyncio.gather(*[run.signal("go", 1) for run in runs])
    await asyncio.gather(*[run.result(timeout=60) for run in runs])
    return n / (time.perf_counter() - begun)


async def start_many(c, n=5000):
    begun = time.perf_counter()
    runs = await c.start_many("bench.noop", [None] * n)
    rate = n / (time.perf_counter() - begun)
    await asyncio.gather(*[run.result(timeout=120) for run in runs])
    return rate


async def median_of(make, rounds=ROUNDS):
    return statistics.median([await make() for _ in range(rounds)])


async def ours(names):
    from agnt5 import AsyncClient

    found = {}
    async with AsyncClient() as c:
        await (await c.start("bench.fan", {"n": 20})).result(timeout=30)
        if "seq3" in names:
            found["seq3"] = await median_of(lambda: seq3(c))
        if "alone" in names:
            found["alone"] = await alone(c)
        if "fanout" in names:
            found["fanout"] = await median_of(lambda: fanout(c))
        if "steps" in names:
            for handler in ("steps", "workflow_steps"):
                rounds = [await steps(c, f"bench.{handler}") for _ in range(ROUNDS)]
                found[handler] = statistics.median(ms for ms, _ in rounds)
                found[f"{handler} trips"] = statistics.median(trips for _, trips in rounds)
        if "sleep" in names:
            found["late"] = await late(c)
        if "signal" in names:
            found["signal"] = await median_of(lambda: signals(c))
        if "start" in names:
            found["start"] = await median_of(lambda: start_many(c))
    return found


def measure_ours(names):
    from bench.apps.ours import app

    with (
        process("-A", "bench.apps.ours", "worker", "-l", "ERROR", "-n", "ours@%h", ready=pings(app)) as worker,
        process("-A", "bench.apps.ours", "beat", "-l", "ERROR"),
    ):
        begun = cpu_s(worker.pid)
        found = asyncio.run(ours(names))
        found["cpu"] = cpu_s(worker.pid) - begun
    return found


def measure_raw(names):
    from bench.apps.raw import app

    found = {}
    args = ("-A", "bench.apps.raw", "worker", "-P", "prefork", "-c", "2", "-l", "ERROR", "-E", "-n", "raw@%h")
    with process(*args, ready=pings(app)):
        if "seq3" in names:
            found["seq3"] = statistics.median(raw_seq3() for _ in range(ROUNDS))
        if "alone" in names:
            found["alone"] = raw_alone()
        if "fanout" in names:
            found["fanout"] = statistics.median(raw_fanout() for _ in range(2))
        if "sleep" in names:
            found["late"] = raw_late()
    return found


ALL = ("seq3", "alone", "fanout", "steps", "sleep", "signal", "start")


def main():
    names = sys.argv[1:] or ALL
    figures = Figures()
    with server():
        mine, raw = measure_ours(names), measure_raw(names)
    if "seq3" in names:
        figures.add("1,000 workflows of 3 tasks", mine["seq3"], raw["seq3"], ">= 1.5x", "/s")
    if "alone" in names:
        figures.add("one such workflow alone, p50", mine["alone"], raw["alone"], "<= 0.7x", "ms")
    if "fanout" in names:
        figures.add("fan-out of 1,000 tasks", mine["fanout"], raw["fanout"], ">= 2,000/s", "tasks/s")
    for handler, what in (("steps", "a recorded step in a function"), ("workflow_steps", "... in a workflow")):
        if handler in mine:
            figures.add(what, mine[handler], None, "<= 0.25 ms", "ms")
            figures.add(f"{what}: round trips", mine[f"{handler} trips"], None, "", "")
    if "sleep" in names:
        for share in (0.5, 0.99):
            what = f"1,000 timers of 2 s: lateness p{share * 100:.0f}"
            figures.add(what, percentile(mine["late"], share), percentile(raw["late"], share), "", "ms")
    if "signal" in names:
        figures.add("500 waiting workflows signalled", mine["signal"], None, "", "/s")
    if "start" in names:
        figures.add("client.start_many", mine["start"], None, ">= 5,000/s", "runs/s")
    figures.table()


if __name__ == "__main__":
    main()

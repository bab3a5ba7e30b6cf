"""Our durable workflows and raw Celery's chains on one server, in one run. Prints figures and ratios.

python bench/durable.py [name ...]     some of: seq3 alone fanout steps sleep signal entity start
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cluster import client, pings, process, server

ROUNDS = 3


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


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


def raw_entity_writes(n=1000):
    """What Celery's users write: a task that reads, changes and writes a key under redis-py's lock."""
    from bench.apps import raw

    begun = time.perf_counter()
    results = [raw.add.apply_async(("k0", 1)) for _ in range(n)]
    for result in results:
        result.get(timeout=120)
    return n / (time.perf_counter() - begun)


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


async def entity_writes(c, n=1000, keys=1):
    begun = time.perf_counter()
    starting = [c.start("Counter.add", {"amount": 1}, key=f"k{number % keys}") for number in range(n)]
    runs = await asyncio.gather(*starting)
    await asyncio.gather(*[run.result(timeout=120) for run in runs])
    return n / (time.perf_counter() - begun)


async def entity_alone(c, n=50):
    took = []
    for _ in range(n):
        begun = time.perf_counter()
        await c.entity("Counter", "alone", timeout=30).add(1)
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)


async def entity_calls(c, n=1000):
    begun = time.perf_counter()
    await (await c.start("bench.call_entities", {"n": n})).result(timeout=120)
    return n / (time.perf_counter() - begun)


async def start_many(c, n=5000):
    begun = time.perf_counter()
    runs = await c.start_many("bench.noop", [None] * n)
    rate = n / (time.perf_counter() - begun)
    await asyncio.gather(*[run.result(timeout=120) for run in runs])
    return rate


# ---- one run of both


class Pairs:
    """Rounds of both systems in turn, so that a drift of the machine meets both alike."""

    def __init__(self, portal):
        self._portal = portal
        self.rows = []

    def add(self, what, goal, unit, ours, raw=None, rounds=ROUNDS):
        """Measure in turn; show medians, and the median of the ratios of neighbouring rounds."""
        mine, theirs = [], []
        for _ in range(rounds):
            mine.append(self._portal.run(ours))
            if raw is not None:
                theirs.append(raw())
        ratio = statistics.median(one / other for one, other in zip(mine, theirs)) if theirs else None
        self.show(what, goal, unit, statistics.median(mine), statistics.median(theirs) if theirs else None, ratio)

    def show(self, what, goal, unit, ours, raw=None, ratio=None):
        """One row."""
        if ratio is None and raw:
            ratio = ours / raw
        row = (
            what,
            f"{ours:,.4g} {unit}",
            f"{raw:,.4g} {unit}" if raw is not None else "",
            f"{ratio:.2f}x" if ratio is not None else "",
            goal,
        )
        self.rows.append(row)
        print(" | ".join(row), flush=True)

    def table(self):
        """All rows, for people."""
        from rich.console import Console
        from rich.table import Table

        title = "medians; both on one embedded server, AOF everysec, in one run"
        table = Table("what", "agnt5", "raw Celery", "ratio", "goal", title=title)
        for row in self.rows:
            table.add_row(*row)
        Console().print(table)


class Portal:
    """Our async client on a loop of its own, for a script that takes turns with blocking code."""

    def __init__(self):
        from agnt5 import AsyncClient

        self._runner = asyncio.Runner()
        self._client = AsyncClient()

    def run(self, make):
        """`await make(client)`."""
        return self._runner.run(make(self._client))

    def close(self):
        """Disconnect."""
        self._runner.run(self._client.close())
        self._runner.close()


def floor():
    """A plain SET and its answer, in ms: what this machine takes for any round trip (0.18 on the reference machine)."""
    server = client()
    took = []
    for _ in range(2000):
        begun = time.perf_counter()
        server.set("bench:floor", b"x" * 100)
        took.append((time.perf_counter() - begun) * 1000)
    server.delete("bench:floor")
    return statistics.median(took)


def measure(names, pairs, portal):
    """All workloads that were asked for."""
    pairs.show("floor: one SET, as redis-py does it", "0.18 ms where the goals were set", "ms", floor())
    portal.run(lambda c: fanout(c, 20))
    raw_seq3(20)
    if "seq3" in names:
        pairs.add("1,000 workflows of 3 tasks", ">= 1.5x", "/s", seq3, raw_seq3)
    if "alone" in names:
        pairs.add("one such workflow alone, p50", "<= 0.7x", "ms", alone, raw_alone)
    if "fanout" in names:
        pairs.add("fan-out of 1,000 tasks", ">= 2,000/s", "tasks/s", fanout, raw_fanout, rounds=2)
    if "steps" in names:
        for handler, what in (("steps", "a recorded step in a function"), ("workflow_steps", "... in a workflow")):
            trips = []

            async def one(c, handler=handler, trips=trips):
                ms, round_trips = await steps(c, f"bench.{handler}")
                trips.append(round_trips)
                return ms

            pairs.add(what, "<= 0.25 ms", "ms", one)
            pairs.show(f"{what}: Redis round trips", "", "", statistics.median(trips))
    if "sleep" in names:
        mine, theirs = portal.run(late), raw_late()
        for share in (0.5, 0.99):
            what = f"1,000 timers of 2 s: lateness p{share * 100:.0f}"
            pairs.show(what, "", "ms", percentile(mine, share), percentile(theirs, share))
    if "signal" in names:
        pairs.add("500 waiting workflows signalled", "", "/s", signals)
    if "entity" in names:
        pairs.add("1,000 writes of one entity", ">= 1,000/s", "/s", entity_writes, raw_entity_writes)
        pairs.add("... of 50 entities", "", "/s", lambda c: entity_writes(c, keys=50))
        pairs.add("one write alone, p50", "", "ms", entity_alone)
        pairs.add("1,000 calls of entities by a workflow", "", "/s", entity_calls)
    if "start" in names:
        pairs.add("client.start_many", ">= 5,000/s", "runs/s", start_many)


ALL = ("seq3", "alone", "fanout", "steps", "sleep", "signal", "entity", "start")


def main():
    names = sys.argv[1:] or ALL
    if unknown := set(names) - set(ALL):
        sys.exit(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    with server():
        from bench.apps import ours, raw

        worker = ("worker", "-l", "ERROR")
        with (
            process("-A", "bench.apps.ours", *worker, "-n", "ours@%h", ready=pings(ours.app)),
            process("-A", "bench.apps.ours", "beat", "-l", "ERROR"),
            process(
                "-A", "bench.apps.raw", *worker, "-P", "prefork", "-c", "2", "-E", "-n", "raw@%h", ready=pings(raw.app)
            ),
        ):
            portal = Portal()
            pairs = Pairs(portal)
            measure(names, pairs, portal)
            portal.close()
    pairs.table()


if __name__ == "__main__":
    main()

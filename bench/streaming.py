"""From a handler's `yield` to the reader's loop, and how many chunks go through. One machine, one worker, one reader.

python bench/streaming.py
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cluster import pings, process, server
from bench.durable import percentile


def show(what, lags_ms, goal=""):
    p50, p99 = percentile(lags_ms, 0.5), percentile(lags_ms, 0.99)
    print(f"{what:58} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   {goal}")


async def read(run):
    """How long each chunk took, in ms."""
    lags = []
    async for said in run.stream():
        lags.append((time.time() - said) * 1000)
    return lags


async def first_of_new_runs(client, count=300):
    lags = []
    for _ in range(count):
        run = await client.start("bench.first_chunk")
        lags += await read(run)
    return lags


async def paced(client, runs, count, pause_ms):
    started = await client.start_many("bench.chunks", [{"n": count, "pause_ms": pause_ms}] * runs)
    return [lag for lags in await asyncio.gather(*map(read, started)) for lag in lags]


async def flood(client, runs, count):
    """Chunks a second, from the start of the runs to their readers' end."""
    begun = time.perf_counter()
    await paced(client, runs, count, 0)
    return runs * count / (time.perf_counter() - begun)


async def measure():
    from agnt5 import AsyncClient

    async with AsyncClient() as client:
        await first_of_new_runs(client, 20)
        show("first chunk of a new run, reader waits", await first_of_new_runs(client), "goal: p50 <= 50 ms")
        show("1 run, a chunk each 10 ms", await paced(client, 1, 300, 10))
        show("50 runs, a chunk each 50 ms (1,000/s)", await paced(client, 50, 60, 50))
        print(f"{'1 run, as fast as it goes':58} {await flood(client, 1, 9000):9,.0f} chunks/s")
        print(f"{'50 runs, as fast as they go':58} {await flood(client, 50, 1000):9,.0f} chunks/s")


def main():
    with server():
        from bench.apps import ours

        worker = ("-A", "bench.apps.ours", "worker", "-l", "ERROR", "-n", "ours@%h")
        with process(*worker, ready=pings(ours.app)), process("-A", "bench.apps.ours", "beat", "-l", "ERROR"):
            asyncio.run(measure())


if __name__ == "__main__":
    main()

"""500 calls of a language model at once, a second each: in one worker process, beside LiteLLM and aiohttp alone.

python bench/llm.py
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agnt5.cli.embedded import free_port
from bench.cluster import ROOT, pings, process, server

CALLS = 500
MODEL = "openai/gpt-4o-mini"


@contextmanager
def provider():
    """A provider on a free port; its address is in the environment of what is started after it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    running = subprocess.Popen([sys.executable, "-m", "bench.apps.provider", str(port)], cwd=ROOT)
    os.environ |= {"OPENAI_API_BASE": url, "OPENAI_API_KEY": "sk-bench", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    try:
        until_up(url)
        yield url
    finally:
        running.terminate()
        running.wait()


def until_up(url):
    for _ in range(200):
        try:
            urllib.request.urlopen(url)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the provider does not come up")


async def timed(ask, rounds=3):
    """Seconds of the best of some rounds, after one call to warm up."""
    await ask(0)
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await asyncio.gather(*(ask(n) for n in range(CALLS)))
        took.append(time.perf_counter() - begun)
    return min(took)


async def bare(url):
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(n):
            asked = {"model": MODEL, "messages": [{"role": "user", "content": f"hi {n}"}]}
            async with session.post(f"{url}/chat/completions", json=asked) as response:
                return await response.json()

        return await timed(ask)


async def litellm_alone():
    import litellm

    litellm.suppress_debug_info = True
    ask = lambda n: litellm.acompletion(MODEL, [{"role": "user", "content": f"hi {n}"}])  # noqa: E731
    return await timed(ask)


async def ours():
    from agnt5 import AsyncClient

    async with AsyncClient() as client:
        took = {}
        for handler in ("ask_many", "ask_once"):
            inputs = [{"n": CALLS}] if handler == "ask_many" else [{"n": n} for n in range(CALLS)]
            for run in await client.start_many(f"bench.{handler}", inputs[:1]):
                await run.result()
            rounds = []
            for _ in range(3):
                begun = time.perf_counter()
                runs = await client.start_many(f"bench.{handler}", inputs)
                await asyncio.gather(*(run.result() for run in runs))
                rounds.append(time.perf_counter() - begun)
            took[handler] = min(rounds)
        return took


def main():
    with provider() as url, server():
        floor, alone = asyncio.run(bare(url)), asyncio.run(litellm_alone())
        from bench.apps import ours as app

        worker = ("-A", "bench.apps.ours", "worker", "-l", "ERROR", "-n", "ours@%h", "-c", str(CALLS))
        with process(*worker, ready=pings(app.app)), process("-A", "bench.apps.ours", "beat", "-l", "ERROR"):
            took = asyncio.run(ours())
    print(f"{CALLS} calls of 1 s at once, seconds until the last answer (best of 3)")
    print(f"  {'one function, ctx.llm.generate':44} {took['ask_many']:6.2f}   goal: 2.5")
    print(f"  {f'{CALLS} functions, one call each':44} {took['ask_once']:6.2f}")
    print(f"  {'LiteLLM alone':44} {alone:6.2f}")
    print(f"  {'aiohttp alone':44} {floor:6.2f}")


if __name__ == "__main__":
    main()

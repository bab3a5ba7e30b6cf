"""The demo's handlers: a folder is analysed file by file, a timer passes, somebody says yes, a report is written."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from agnt5 import Context, RetryPolicy, function, workflow
from agnt5.demo.analysis import Facts, analyse, list_files
from agnt5.demo.report import render

AT_ONCE = 12
"""Files that are analysed at the same time, at most; of a small folder a quarter."""

SIGNAL = "publish"


@workflow(service="demo")
async def describe_folder(
    ctx: Context, folder: str, effects: str, report: str, limit: int, pace_s: float, rest_ms: int
) -> dict[str, Any]:
    """Analyse each text file in a task of its own, rest, wait for the signal `publish`, and write the report."""
    paths = await ctx.step("list files", list_files, folder, limit)
    places = asyncio.Semaphore(max(1, min(AT_ONCE, len(paths) // 4)))

    async def one(path: str) -> Facts:
        async with places:
            facts: Facts = await ctx.task(analyse_file, folder=folder, path=path, effects=effects, pace_s=pace_s)
            return facts

    facts = await ctx.parallel(*(one(path) for path in paths))
    await ctx.timer(delay_ms=rest_ms)
    word = await ctx.signal(SIGNAL)
    written = await ctx.task(write_report, folder=folder, facts=facts, report=report, approved_by=str(word["by"]))
    return {"files": len(paths), "report": written}


@function(service="demo", retries=RetryPolicy(max_attempts=3))
async def analyse_file(ctx: Context, folder: str, path: str, effects: str, pace_s: float) -> Facts:
    """Analyse one file. That it began is noted first in a file which agnt5 knows nothing of."""
    note(effects, {"file": path, "run": ctx.run_id, "attempt": ctx.attempt})
    await asyncio.sleep(pace_s * (0.5 + len(path) % 11 / 10))  # only so that people can watch; not in step
    return await asyncio.to_thread(analyse, folder, path)


@function(service="demo", retries=RetryPolicy(max_attempts=3))
def write_report(ctx: Context, folder: str, facts: list[Facts], report: str, approved_by: str) -> str:
    """Write the report in one piece: a reader sees all of it or none."""
    del ctx
    target = Path(report)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".draft")
    draft.write_text(render(folder, facts, approved_by=approved_by), "utf-8")
    draft.replace(target)
    return str(target)


def note(effects: str, fact: dict[str, Any]) -> None:
    """Append one line to the file of side effects; one write of an appending file is never torn."""
    line = json.dumps({**fact, "pid": os.getpid(), "began_ms": time.time_ns() // 1_000_000}) + "\n"
    handle = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)

"""Analytics: a batch of datasets in parallel, and a nightly report that beat starts."""

from __future__ import annotations

from typing import Any

from agnt5 import Context, RetryPolicy, function, workflow

DATASETS = ("users", "orders", "events")


@function(retries=RetryPolicy(max_attempts=5))
async def process_data(ctx: Context, dataset: str) -> dict[str, Any]:
    """Load, clean and count one dataset; each step is done once, however often the function is tried."""
    raw = await ctx.step("load", lambda: [f"{dataset}-{number}" for number in range(100)])
    clean = await ctx.step("clean", lambda: [row for row in raw if not row.endswith("7")])
    return {"dataset": dataset, "rows": len(clean)}


@workflow
async def process_all(ctx: Context, datasets: list[str]) -> dict[str, int]:
    """Process datasets side by side; the result has each one's rows."""
    results = await ctx.parallel(*(ctx.task(process_data, dataset=dataset) for dataset in datasets))
    return {result["dataset"]: result["rows"] for result in results}


@workflow(cron="0 2 * * *", timezone="UTC", overlap="skip", catch_up="latest")
async def nightly(ctx: Context) -> dict[str, Any]:
    """Every night at two: process everything. After an outage the latest missed night is made up for."""
    rows = await ctx.task(process_all, datasets=list(DATASETS))
    return {"day": ctx.now().date().isoformat(), "rows": sum(rows.values())}

"""Lesson 11. Code changes while runs are open. `ctx.patched` keeps old runs on their path; new ones take the new."""

from collections.abc import Iterator

import pytest
from support.cluster import Cluster
from support.waiting import until_sync

OLD = """
from agnt5 import function, workflow

@function
async def net(ctx, amount: int):
    return amount

@workflow
async def bill(ctx, amount: int):
    total = await ctx.task(net, amount=amount)
    await ctx.signal("send")
    return {"total": total}
"""

CARELESS = """
from agnt5 import function, workflow

@function
async def net(ctx, amount: int):
    return amount

@function
async def tax(ctx, amount: int):
    return amount // 5

@workflow
async def bill(ctx, amount: int):
    total = await ctx.task(tax, amount=amount) + await ctx.task(net, amount=amount)
    await ctx.signal("send")
    return {"total": total}
"""

CAREFUL = CARELESS.replace(
    "    total = await ctx.task(tax, amount=amount) + await ctx.task(net, amount=amount)\n",
    "    total = await ctx.task(tax, amount=amount) if ctx.patched('tax') else 0\n"
    "    total += await ctx.task(net, amount=amount)\n",
)


@pytest.fixture(scope="module")
def shop() -> Iterator[Cluster]:
    with Cluster(["billing"]) as cluster:
        (cluster.folder / "billing.py").write_text(OLD)
        yield cluster.start(cluster.worker(), cluster.beat())


def deploy(shop: Cluster, code: str) -> None:
    """End the worker as a deployment does, and start it with other code."""
    worker = shop.nodes[0]
    worker.terminate()
    (shop.folder / "billing.py").write_text(code)
    worker.restart()


def waiting_bill(shop: Cluster):
    run = shop.client.start("billing.bill", {"amount": 100})
    until_sync(lambda: len(run.history()) == 4, 20)
    return run


def test_a_patch_keeps_open_runs_on_their_path(shop: Cluster):
    old = waiting_bill(shop)
    deploy(shop, CAREFUL)
    new = shop.client.start("billing.bill", {"amount": 100})
    for run in (old, new):
        run.signal("send")
    assert old.result(timeout=20) == {"total": 100}
    assert new.result(timeout=20) == {"total": 120}
    deploy(shop, OLD)


def test_a_change_that_does_not_fit_an_open_run_is_noticed_and_harms_nothing(shop: Cluster):
    run = waiting_bill(shop)
    deploy(shop, CARELESS)
    run.signal("send")
    trouble = until_sync(lambda: run.state().trouble, 20)
    assert "billing.net" in trouble
    assert "billing.tax" in trouble
    assert "ctx.patched" in trouble
    assert run.status() == "waiting"
    deploy(shop, OLD)
    assert run.result(timeout=20) == {"total": 100}
    assert run.state().trouble is None

"""Lesson 13. A workflow on a schedule: beat starts a run at each time, once, however many beats there are."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster, note
from support.waiting import until_sync

from agnt5 import Context, workflow


@workflow(cron="* * * * * *", overlap="allow", input={"kind": "short"})
async def every_second(ctx: Context, kind: str) -> str:
    note("fires", ctx.run_id)
    return kind


@workflow(cron="* * * * * *", overlap="skip")
async def one_at_a_time(ctx: Context) -> None:
    note("single", ctx.run_id)
    await ctx.signal("go")


@pytest.fixture(scope="module")
def two_beats() -> Iterator[Cluster]:
    with Cluster([Path(__file__).stem], paths=[Path(__file__).parent]) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat("beat1"), cluster.beat("beat2"))


def test_each_time_starts_one_run_though_two_beats_see_it(two_beats: Cluster):
    fires = until_sync(lambda: len(found := two_beats.noted("fires")) >= 4 and found, 20)
    assert set(Counter(fires).values()) == {1}
    assert re.fullmatch(r"cron:test_13_cron\.every_second:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fires[0])
    assert two_beats.client.get(fires[0]).result(timeout=20) == "short"


def test_a_run_that_still_goes_on_can_hold_back_the_next(two_beats: Cluster):
    first = until_sync(lambda: two_beats.noted("single"), 20)
    until_sync(lambda: len(two_beats.noted("fires")) >= 6, 20)
    assert two_beats.noted("single") == first
    two_beats.client.signal(first[0], "go")
    until_sync(lambda: len(two_beats.noted("single")) == 2, 20)

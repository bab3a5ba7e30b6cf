"""Lesson 8. The same id is the same run: starting can be repeated without harm."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.cluster import Cluster, note

from agnt5 import Client, Context, DuplicateRunError, function


@function
async def ship(ctx: Context, order: str) -> str:
    note("shipments", order)
    return f"{order} is on its way"


def test_starting_twice_runs_once(client: Client, cluster: Cluster):
    first = client.start(ship, {"order": "21"}, id="ship-21")
    assert first.result(timeout=20) == "21 is on its way"
    again = client.start(ship, {"order": "21"}, id="ship-21")
    assert (again.id, again.result(timeout=20)) == ("ship-21", "21 is on its way")
    assert cluster.noted("shipments").count("21") == 1


def test_fifty_at_once_start_one_run(client: Client, cluster: Cluster):
    with ThreadPoolExecutor(50) as threads:
        runs = list(threads.map(lambda _: client.start(ship, {"order": "22"}, id="ship-22"), range(50)))
    assert {run.id for run in runs} == {"ship-22"}
    assert {run.result(timeout=20) for run in runs} == {"22 is on its way"}
    assert cluster.noted("shipments").count("22") == 1


def test_the_same_id_for_something_else_is_an_error(client: Client):
    client.start(ship, {"order": "23"}, id="ship-23")
    with pytest.raises(DuplicateRunError, match="ship-23"):
        client.start(ship, {"order": "99"}, id="ship-23")

"""Entities on a real worker and beat."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.waiting import until_sync

from agnt5 import (
    AsyncClient,
    EntityBusyError,
    EntityDeadlockError,
    EntityNotFoundError,
    InvalidInputError,
    RunCancelledError,
    RunNotFoundError,
    TaskFailedError,
)
from agnt5.contracts.ids import call_id
from agnt5.replay import journal
from agnt5.replay.events import RunStarted
from agnt5.store.replies import NewCall

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["entity_kit"], paths=[HERE]) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


def total(cluster: Cluster, key: str) -> int:
    return cluster.client.entity("Counter", key).total()


# ---- from a client


def test_a_client_calls_methods_and_reads_state(cluster):
    counter = cluster.client.entity("Counter", "one")
    assert counter.add(5) == 5
    assert counter.add(amount=2) == 7
    assert counter.total() == 7
    seen = cluster.client.entity_state("Counter", "one")
    assert (seen.state, seen.writes, seen.holder, seen.waiting) == ({"total": 7}, 2, None, [])
    assert len(seen.recent) == 2
    assert cluster.client.state(seen.recent[0]).result == 7


def test_a_method_knows_where_it_is(cluster):
    told = cluster.client.entity("Counter", "me").who()
    assert told == {"type": "entity", "object_id": "me", "method": "who", "step": told["step"]}


def test_a_call_finds_its_lock_also_where_the_server_had_to_be_told_the_script_first(cluster):
    cluster.admin.script_flush()  # the call is sent again then, behind the look at its entity
    assert cluster.client.start("entity_kit.transfer", {"source": "unscripted", "target": "b", "amount": 1}).result(
        timeout=20
    ) == [-1, 1]


def test_calls_at_the_same_time_lose_no_update(cluster):
    async def many() -> list[int]:
        async with AsyncClient(cluster.server.url) as client:
            counter = client.entity("Counter", "busy")
            return await asyncio.gather(*(counter.add(1) for _ in range(200)))

    results = asyncio.run(many())
    assert sorted(results) == list(range(1, 201))
    assert total(cluster, "busy") == 200


def test_writes_of_one_client_are_done_in_the_order_in_which_they_came(cluster):
    runs = [cluster.client.start("Counter.add", {"amount": 1}, key="ordered") for _ in range(50)]
    assert [run.result(timeout=20) for run in runs] == list(range(1, 51))


def test_a_held_entity_holds_up_no_other_and_no_reader(cluster):
    slow = cluster.client.start("Counter.add_slowly", {"amount": 1, "seconds": 3}, key="held")
    until_sync(lambda: "held 1 begins" in cluster.noted("slow"), 10.0)
    behind = [cluster.client.start("Counter.add", key="held") for _ in range(20)]
    assert cluster.client.entity("Counter", "free", timeout=2).add(1) == 1
    assert cluster.client.entity("Counter", "held", timeout=2).total() == 0
    seen = cluster.client.entity_state("Counter", "held")
    assert seen.holder == slow.id
    assert seen.waiting == [run.id for run in behind]
    with pytest.raises(EntityBusyError, match=slow.id):
        cluster.client.delete_entity("Counter", "held")
    assert [run.result(timeout=20) for run in behind] == list(range(2, 22))


def test_the_same_id_is_the_same_call(cluster):
    for _ in range(3):
        run = cluster.client.start("Counter.add", {"amount": 4}, key="idem", id="payment-1")
        assert run.result(timeout=20) == 4
    assert run.id == "Counter/idem~@payment-1"


def test_what_cannot_be_called_is_told_before_anything_happens(cluster):
    with pytest.raises(InvalidInputError, match="needs the key of its entity"):
        cluster.client.start("Counter.add", {"amount": 1})
    with pytest.raises(InvalidInputError, match="no method of an entity"):
        cluster.client.start("entity_kit.bump", {"key": "x"}, key="x")
    with pytest.raises(InvalidInputError, match="amuont"):
        cluster.client.entity("Counter", "x").add(amuont=1)
    with pytest.raises(EntityNotFoundError):
        cluster.client.entity_state("Counter", "never")


def test_entities_are_listed_and_deleted(cluster):
    for key in ("list-1", "list-2"):
        cluster.client.entity("Counter", key).add(1)
    assert [one.key for one in cluster.client.entities("Counter", limit=2)] == ["list-2", "list-1"]
    assert {one.type for one in cluster.client.entities(limit=500)} >= {"Counter"}
    cluster.client.delete_entity("Counter", "list-1")
    assert "list-1" not in [one.key for one in cluster.client.entities("Counter", limit=500)]
    assert total(cluster, "list-1") == 0


def test_a_plain_message_has_no_key_and_fails_with_a_word_about_it(cluster):
    cluster.celery.send_task("Counter.add", kwargs={"amount": 1}, task_id="no-key", queue="agnt5.Counter")
    until_sync(lambda: _ended(cluster, "no-key"), 20.0)
    assert "needs the key of its entity" in cluster.client.state("no-key").error["message"]


def _ended(cluster, run_id):
    try:
        return cluster.client.state(run_id).status.ended
    except RunNotFoundError:
        return False


def test_a_write_that_an_older_caller_takes_for_a_read_changes_nothing(cluster):
    """A deploy made it a write: what was called without the lock may not run."""
    call = call_id("Counter/turned", "old")
    started = RunStarted(handler="Counter.add", kind="entity", input={"amount": 5}, queue="agnt5.Counter")

    async def as_a_read(client: AsyncClient) -> None:
        store, _ = await client.opened()
        await store.call(NewCall(call, "Counter.add", "read", "agnt5.Counter", 0, journal.encode(started)))

    cluster.client.call(as_a_read)
    with pytest.raises(TaskFailedError, match="was called as a read"):
        cluster.client.wait(call, timeout=20)
    assert cluster.client.entity("Counter", "turned").add(1) == 1


# ---- failures


def test_a_failed_method_changes_nothing(cluster):
    cluster.client.entity("Counter", "f").add(1)
    with pytest.raises(TaskFailedError, match="changed its mind"):
        cluster.client.entity("Counter", "f").fail_after(1)
    assert total(cluster, "f") == 1
    assert cluster.client.entity("Counter", "f").add(1) == 2


def test_an_attempt_that_failed_changes_nothing_and_the_next_keeps_the_lock(cluster):
    cluster.client.entity("Counter", "again").add(1)
    first = cluster.client.start("Counter.fail_twice", key="again")
    second = cluster.client.start("Counter.add", key="again")
    assert first.result(timeout=20) == 2
    assert second.result(timeout=20) == 3


def test_a_read_may_not_write(cluster):
    with pytest.raises(TaskFailedError, match="read method may not write") as failed:
        cluster.client.entity("Counter", "r").write_in_a_read()
    assert failed.value.type == "WrongContextError"


def test_a_state_model_is_filled_checked_and_written(cluster):
    basket = cluster.client.entity("ShopBasket", "b")
    assert [basket.put("tea"), basket.put("cup")] == [1, 2]
    assert basket.look()["items"] == ["tea", "cup"]
    with pytest.raises(TaskFailedError, match="items"):
        basket.spoil()
    assert cluster.client.entity_state("ShopBasket", "b").state == {"items": ["tea", "cup"]}


def test_a_call_that_waits_in_line_can_be_cancelled(cluster):
    slow = cluster.client.start("Counter.add_slowly", {"amount": 1, "seconds": 1}, key="cancel")
    until_sync(lambda: "cancel 1 begins" in cluster.noted("slow"), 10.0)
    second = cluster.client.start("Counter.add", key="cancel")
    third = cluster.client.start("Counter.add", key="cancel")
    second.cancel()
    with pytest.raises(RunCancelledError):
        second.result(timeout=5)
    assert [slow.result(timeout=20), third.result(timeout=20)] == [1, 2]


def test_a_held_lock_is_given_up_when_its_call_is_cancelled(cluster):
    holder = cluster.client.start("Counter.hold_until", {"seconds": 3600}, key="stuck")
    until_sync(lambda: holder.status() == "waiting", 10.0)
    behind = cluster.client.start("Counter.add", key="stuck")
    holder.cancel()
    assert behind.result(timeout=20) == 1
    assert "held" not in cluster.client.entity_state("Counter", "stuck").state


# ---- from handlers


def test_functions_and_workflows_call_entities(cluster):
    assert cluster.client.start("entity_kit.bump", {"key": "h", "amount": 4}).result(timeout=20) == 4
    moved = cluster.client.start("entity_kit.transfer", {"source": "h", "target": "g", "amount": 3})
    assert moved.result(timeout=20) == [1, 3]
    assert [total(cluster, "h"), total(cluster, "g")] == [1, 3]


def test_the_first_call_on_a_server_that_does_not_know_the_scripts_sees_its_lock(cluster):
    cluster.admin.script_flush()
    moved = cluster.client.start("entity_kit.transfer", {"source": "flushed", "target": "also-flushed", "amount": 3})
    assert moved.result(timeout=20) == [-3, 3]


def test_a_later_attempt_calls_nobody_again(cluster):
    run = cluster.client.start("entity_kit.bump_once", {"key": "once"})
    assert run.result(timeout=20) == 12
    assert run.state().attempt == 1
    assert total(cluster, "once") == 11


def test_a_workflow_calls_many_entities_at_once(cluster):
    keys = [f"fan-{number}" for number in range(10)]
    assert cluster.client.start("entity_kit.fan", {"keys": keys, "each": 20}).result(timeout=30) == 200
    assert [total(cluster, key) for key in keys] == [20] * 10


@pytest.mark.parametrize(("handler", "amount"), [("fire_and_forget", 3), ("bump_and_leave", 5)])
def test_a_call_that_nobody_waits_for_is_made_all_the_same(cluster, handler, amount):
    cluster.client.start(f"entity_kit.{handler}", {"key": handler}).result(timeout=20)
    until_sync(lambda: total(cluster, handler) == amount, 10.0)


def test_the_failure_of_a_method_reaches_its_caller(cluster):
    told = cluster.client.start("entity_kit.meets_a_failure", {"key": "mf"}).result(timeout=20)
    assert told == "NonRetryableError: changed its mind"


def test_who_stops_waiting_takes_the_call_back(cluster):
    slow = cluster.client.start("Counter.add_slowly", {"amount": 1, "seconds": 2}, key="impatient")
    until_sync(lambda: "impatient 1 begins" in cluster.noted("slow"), 10.0)
    assert cluster.client.start("entity_kit.impatient", {"key": "impatient"}).result(timeout=20) == "gave up"
    assert slow.result(timeout=20) == 1
    assert total(cluster, "impatient") == 1


def test_the_calls_of_a_cancelled_workflow_end(cluster):
    holder = cluster.client.start("Counter.hold_until", {"seconds": 3600}, key="cw")
    until_sync(lambda: holder.status() == "waiting", 10.0)
    run = cluster.client.start("entity_kit.transfer", {"source": "cw", "target": "x", "amount": 3})
    until_sync(lambda: cluster.client.entity_state("Counter", "cw").waiting, 10.0)
    (call,) = cluster.client.entity_state("Counter", "cw").waiting
    run.cancel()
    until_sync(lambda: cluster.client.state(call).status == "cancelled", 10.0)
    until_sync(lambda: run.status().ended, 10.0)  # its calls end first
    assert run.status() == "cancelled"
    holder.cancel()


# ---- deadlocks


def test_a_method_that_calls_its_own_entity_is_told_at_once(cluster):
    told = cluster.client.entity("Counter", "self", timeout=10).call_myself()
    assert "holds its lock" in told
    assert "Counter/self" in told


def test_a_chain_through_a_function_is_told_too(cluster):
    with pytest.raises(EntityDeadlockError, match="holds its lock"):
        cluster.client.entity("Counter", "chain", timeout=20).call_myself_through()


def test_a_chain_over_two_entities_comes_back(cluster):
    with pytest.raises(EntityDeadlockError, match="holds its lock"):
        cluster.client.entity("Counter", "a1", timeout=20).move(to="a1", amount=1)
    assert cluster.client.entity("Counter", "a1", timeout=20).move(to="a2", amount=1) == 1
    assert [total(cluster, "a1"), total(cluster, "a2")] == [-1, 1]


def test_a_read_of_an_entity_that_the_caller_holds_sees_what_was_committed(cluster):
    assert cluster.client.entity("Counter", "look", timeout=10).look_at_myself() == 0
    assert total(cluster, "look") == 77


# ---- workers that have not all code


def test_a_worker_calls_entities_whose_code_another_worker_has():
    with Cluster(["one_of_two"], paths=[HERE]) as cluster:
        cluster.start(
            cluster.worker("w1", TEST_SERVICE="left"), cluster.worker("w2", TEST_SERVICE="right"), cluster.beat()
        )
        assert cluster.client.start("left.visit", {"name": "ann"}).result(timeout=10) == 1
        assert cluster.client.start("left.tour", {"name": "bob"}).result(timeout=10) == [2, ["ann", "bob"]]

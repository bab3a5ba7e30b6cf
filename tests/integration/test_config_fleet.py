"""Config and headers on real workers: changes reach the fleet, crashes change nothing that was read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from configured import flags
from support.cluster import Cluster
from support.proxy import Proxy
from support.waiting import until_sync

from agnt5 import InvalidInputError
from agnt5.replay.events import ConfigRead
from agnt5.store import keys

HERE = Path(__file__).parent
QUICK = {"AGNT5_LIVENESS_TIMEOUT": "1s", "AGNT5_HEARTBEAT": "200ms"}
ENVIRONMENT = {f"AGNT5_FLAG_{key}": "from the environment" for key in ("OURS", "SHARED")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["configured"], paths=[HERE], **QUICK) as cluster, Proxy(cluster.server.port) as proxy:
        cluster.proxy = proxy
        app = cluster.folder / "cluster_app.py"
        app.write_text(app.read_text().replace("'configured']", "'configured'], flags=__import__('configured').flags"))
        cluster.env |= ENVIRONMENT
        yield cluster.start(cluster.worker("w1", AGNT5_REDIS_URL=proxy.url), cluster.beat())


@pytest.fixture(scope="module")
def two(cluster: Cluster) -> Cluster:
    """With a second worker beside the first one."""
    return cluster.start(cluster.worker("w2"))


def events(cluster: Cluster, run_id: str) -> list[tuple[str, object]]:
    return [(one.key, one.value) for one in cluster.client.history(run_id) if isinstance(one, ConfigRead)]


def test_what_was_read_stands_through_kill_9_and_changes(cluster: Cluster):
    """One kill for two: a workflow that waits, and one whose read the crash forgets together with its step."""
    client, (worker, _) = cluster.client, cluster.nodes
    waits = client.start("configured.rounds", id="rounds")
    until_sync(lambda: events(cluster, "rounds") == [("rounds.tax", False)])
    pays = client.start("configured.gated", id="gated")
    until_sync(lambda: cluster.noted("gated"))
    cluster.proxy.mute()  # what the worker writes from here on gets lost
    (cluster.notes / "gate").write_text("go\n")
    until_sync(lambda: cluster.noted("asked") == ["False"])
    with pytest.raises(AssertionError):
        until_sync(lambda: cluster.noted("paid"), 0.3)
    worker.kill()
    client.set_config("rounds.tax", True, by="ann")
    client.set_config("gated.tax", True, by="ann")
    worker.restart()
    assert pays.result(timeout=20) is True
    assert cluster.noted("paid") == ["True"]
    assert events(cluster, "gated") == [("gated.tax", True)]
    waits.signal("go", 1)
    until_sync(lambda: any(line.startswith("1 ") for line in cluster.noted("rounds")), 20)
    waits.signal("go", 2)
    assert waits.result(timeout=20) == [1, 2, True, True]  # the second generation reads anew
    (first,) = [line for line in cluster.noted("rounds") if line.startswith("0 ")][:1]
    assert [line for line in cluster.noted("rounds") if line.startswith("0 ")][1:] != [first]  # replayed elsewhere


def test_the_fleet_hears_of_a_change(two: Cluster):
    client = two.client

    def seen() -> set[tuple[object, int]]:
        runs = client.start_many("configured.read_in_a_thread", [{"key": "fleet"}] * 8)
        return {tuple(run.result(timeout=20)) for run in runs}

    def everywhere(value: object) -> bool:
        found = seen()
        workers.update(pid for _, pid in found)
        return {one for one, _ in found} == {value}

    workers: set[int] = set()
    until_sync(lambda: everywhere(0) and len(workers) == 2, 20)
    for value in (1, 2, 5, 6):
        client.set_config("fleet", value)
        until_sync(lambda value=value: everywhere(value), 2)
    # a change that nobody was told of
    two.admin.hset(keys.config(), "fleet", '{"value":3}')
    two.admin.hincrby(keys.config(), "~version", 1)
    until_sync(lambda: everywhere(3), 8)
    two.proxy.cut()  # and one during an outage
    client.unset_config("fleet")
    until_sync(lambda: everywhere(0), 8)
    assert len(workers) == 2


def test_a_run_tree_has_one_variant(two: Cluster):
    client = two.client
    client.set_config("family", variants={"a": 1, "b": 1, "c": 1})
    client.set_config("sentinel", 1)
    until_sync(lambda: client.start("configured.read", {"key": "family"}).result(timeout=20) in {"a", "b", "c"})
    runs = [client.start("configured.family", id=f"family-{n}") for n in range(12)]
    found = [run.result(timeout=20) for run in runs]
    assert all(len(set(one)) == 1 and len(one) == 4 for one in found)
    assert {one[0] for one in found} == {"a", "b", "c"}
    assert [client.explain_config("family", unit=run.id).value for run in runs] == [one[0] for one in found]


def test_a_provider_of_flags_is_asked_after_redis_and_before_the_environment(two: Cluster):
    client = two.client
    run = client.start("configured.several", id="asks", headers={"Tenant": "acme"})
    who = "asks configured.several acme"
    ours = "from the environment"
    assert run.result(timeout=20) == [True, who, False, False, 5, "theirs", ours, who]
    client.set_config("theirs", False)
    client.set_config("shared", "from Redis")
    until_sync(lambda: client.start("configured.several").result(timeout=20)[::5] == [False, "from Redis"])
    said = two.nodes[0].output() + two.nodes[2].output()
    assert 1 <= said.count("config 'broken': the provider of flags failed") <= 2  # once for each worker
    assert "the vendor is down" in said
    assert "config 'number': the provider of flags failed" in said


def test_values_that_do_not_fit_or_cannot_be_read_break_nothing(two: Cluster):
    client = two.client
    two.admin.hset(keys.config(), "by.hand", "{no json")
    client.set_config("limit", "many")
    ask = {"key": "limit", "default": 5}
    until_sync(lambda: client.start("configured.read", {"key": "limit"}).result(timeout=20) == "many")
    assert [run.result(timeout=20) for run in client.start_many("configured.read", [ask] * 20)] == [5] * 20
    assert client.start("configured.read", {"key": "by.hand", "default": 7}).result(timeout=20) == 7
    said = two.nodes[0].output() + two.nodes[2].output()
    assert 1 <= said.count("config 'limit' from Redis: found 'many', expected a whole number") <= 2


def test_headers_are_inherited_by_all_that_a_run_begins(two: Cluster):
    headers = {"Tenant": "acme", "X-Correlation-ID": "c-17"}
    run = two.client.start("configured.heirs", headers=headers)
    mine = ["acme", "c-17"]
    own, *others = run.result(timeout=20)
    assert own.pop("traceparent").startswith("00-")  # the place of its second generation in the trace of the first
    assert [own, *others] == [
        {"tenant": "acme", "x-correlation-id": "c-17"}, mine, [*mine, *mine], mine, "It is acme's.",
    ]  # fmt: skip


def test_a_cron_run_has_no_headers(two: Cluster):
    until_sync(lambda: two.noted("cron"), 10)
    assert set(two.noted("cron")) == {"[]"}


def test_strangers_set_no_headers(two: Cluster):
    sent = two.celery.send_task("configured.tenant", headers={"tenant": "evil", "X-Correlation-ID": "c"})
    until_sync(lambda: two.client.states([sent.id]), 10)
    assert two.client.wait(sent.id, timeout=20) == [None, None]


def test_bad_headers_are_refused_before_anything_is_started(two: Cluster):
    with pytest.raises(InvalidInputError, match="header 'tenant': its value is text, found 7"):
        two.client.start("configured.tenant", id="bad", headers={"tenant": 7})
    with pytest.raises(InvalidInputError, match="header 'x': its value has the control character"):
        two.client.start_many("configured.tenant", [{}], headers={"x": "a\r\nadmin: 1"})
    assert two.client.states(["bad"]) == []


def test_the_provider_is_made_in_each_process():
    assert flags() is not flags()

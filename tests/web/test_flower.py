"""Flower's own pages, in a browser: they show runs as they show tasks, and what they change is durable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import Visit
from flower_shop import CARD
from playwright.sync_api import expect
from support.cluster import Cluster, Node
from support.flower import PASSWORD, USER, Flower
from support.waiting import until_sync

HERE = Path(__file__).parent
FILES = ("one.py", "two.md", "three.txt", "four.toml")


@pytest.fixture(scope="module")
def stand() -> Iterator[tuple[Cluster, Flower, Node]]:
    """Flower, and only then a worker and a beat."""
    with Cluster(["flower_shop", "agnt5.demo.folder"], paths=[HERE], AGNT5_LINGER="200ms") as cluster:
        worker = cluster.worker("w1").spawn()
        beat = cluster.beat().spawn()
        with Flower(cluster) as flower:
            worker.wait_ready()
            beat.wait_ready()
            yield cluster, flower, worker
            assert "Traceback" not in flower.output()


@pytest.fixture(scope="module")
def cluster(stand) -> Cluster:
    return stand[0]


@pytest.fixture(scope="module")
def flower(stand) -> Flower:
    return stand[1]


@pytest.fixture(scope="module")
def worker(stand) -> Node:
    return stand[2]


@pytest.fixture(scope="module")
def name(flower) -> str:
    """The worker's, once Flower has asked it all."""
    told = until_sync(lambda: json.loads(flower.ask("/api/workers?refresh=1")[1]), 20, "Flower knows the worker")
    return next(iter(told))


@pytest.fixture
def visit(browser, flower) -> Iterator[Visit]:
    with Visit(browser, flower.url, http_credentials={"username": USER, "password": PASSWORD}) as visit:
        visit.page.goto("/")  # log in here: the browser sends what it knows to all that is below
        yield visit
        visit.sound()


def row(visit: Visit, run_id: str):
    """A run's row in the list of tasks."""
    return visit.page.locator("tbody tr").filter(has=visit.page.get_by_role("link", name=run_id, exact=True))


def fact(visit: Visit, name: str):
    """One line of a task's page."""
    term = visit.page.locator("dt", has_text=re.compile(f"^{name}$"))
    return visit.page.locator(".detail-row").filter(has=term).locator("dd")


def test_the_demo_is_seen_from_its_start_to_its_end(cluster, flower, visit, tmp_path):
    for number, name in enumerate(FILES):
        (tmp_path / name).write_text(f"words of file {number}\n")
    report = tmp_path / "report.md"
    given = {"folder": str(tmp_path), "effects": str(tmp_path.parent / "effects"), "report": str(report)}
    run = cluster.client.start("demo.describe_folder", {**given, "limit": 9, "pace_s": 0, "rest_ms": 300}, id="demo")
    until_sync(lambda: run.status() == "waiting" and len(flower.tasks()) >= 1 + len(FILES), 20)
    page = visit.page
    page.goto("/tasks")
    expect(row(visit, "demo")).to_contain_text("STARTED")
    expect(row(visit, "demo")).to_contain_text("'rest_ms': 300")
    children = [run_id for run_id in flower.tasks() if run_id.startswith("demo~")]
    for child in children:
        expect(row(visit, child)).to_contain_text("SUCCESS")
        expect(row(visit, child)).to_contain_text("demo.analyse_file")
    run.signal("publish", {"by": "ann"})
    assert run.result(20)["files"] == len(FILES)
    flower.task("demo", "SUCCESS")
    page.goto("/tasks?name=demo.describe_folder")
    expect(page.locator("tbody tr")).to_have_count(1)  # parked and taken up again, it is one row
    expect(row(visit, "demo")).to_contain_text(f"'files': {len(FILES)}")
    row(visit, "demo").get_by_role("link", name="demo", exact=True).click()
    expect(fact(visit, "Status")).to_have_text("SUCCESS")
    expect(fact(visit, "Children").get_by_role("link")).to_have_count(1 + len(FILES))
    fact(visit, "Children").get_by_role("link", name=children[0]).click()
    expect(fact(visit, "Name")).to_have_text("demo.analyse_file")
    expect(fact(visit, "Keyword arguments")).to_contain_text(f"'folder': '{tmp_path}'")
    expect(fact(visit, "Parent id")).to_contain_text("demo")
    expect(fact(visit, "Root id")).to_contain_text("demo")


def test_each_way_to_start_and_to_end_has_its_state_and_says_what_was_asked(cluster, flower, name, visit):
    client = cluster.client
    client.start("counter.price", {"article": "pen", "pieces": 3}, id="price-1").result(20)
    client.start("counter.charge", {"card": "17"}, id="charge-1").result(20)
    with pytest.raises(Exception, match="no money"):
        client.start("counter.refuse", {"reason": "no money"}, id="refuse-1").result(20)
    client.start("counter.echo", ["a", "b"], id="echo-1").result(20)
    plain = [
        cluster.celery.send_task("counter.price", args=["ink"], queue="agnt5.counter").id,
        cluster.celery.send_task("counter.price", kwargs={"article": "ink"}).id,
    ]
    price = flower.task("price-1", "SUCCESS")
    assert (price["name"], price["args"], price["kwargs"]) == ("counter.price", "()", "{'article': 'pen', 'pieces': 3}")
    assert price["result"] == "{'article': 'pen', 'cents': 750}"
    assert 0 < price["runtime"] < 5
    assert (price["root_id"], price["parent_id"], price["worker"]) == ("price-1", None, name)
    charge = flower.task("charge-1", "SUCCESS")
    assert (charge["retries"], charge["result"]) == (1, "'charged 17'")
    assert charge["exception"] == "ConnectionError('the bank does not know 17')"
    refused = flower.task("refuse-1", "FAILURE")
    assert refused["exception"] == "ValueError('no money')"
    assert refused["traceback"].rstrip().endswith("ValueError: no money")
    assert flower.task("echo-1", "SUCCESS")["kwargs"] in {"{'words': ['a', 'b']}", "{}"}
    for run_id in plain:
        assert "'ink'" in flower.task(run_id, "SUCCESS")["kwargs"]
    visit.page.goto("/task/refuse-1")
    expect(fact(visit, "Traceback")).to_contain_text("raise ValueError(reason)")


def test_a_call_of_an_entity_names_who_asked_and_a_parked_workflow_keeps_its_row(cluster, flower, visit):
    run = cluster.client.start("counter.order", {"articles": ["pen", "ink"]}, id="order-1")
    until_sync(lambda: run.status() == "waiting", 20)
    until_sync(lambda: not in_memory(cluster, "order-1"), 20, "the run is parked")
    call = next(one for one in flower.tasks() if one.startswith("Till/main~@"))
    told = flower.task(call, "SUCCESS")
    assert (told["name"], told["parent_id"], told["root_id"]) == ("Till.put", "order-1", "order-1")
    assert told["kwargs"] == "{'cents': 500}"
    before_s = flower.task("order-1", "STARTED")["started"]
    run.signal("paid")
    assert run.result(20) == 500
    ended = flower.task("order-1", "SUCCESS")
    assert ended["runtime"] > ended["succeeded"] - before_s - 0.1  # not the last stretch alone
    visit.page.goto("/task/order-1")
    expect(fact(visit, "Children").get_by_role("link")).to_have_count(3)
    fact(visit, "Children").get_by_role("link", name=call).click()
    expect(fact(visit, "Name")).to_have_text("Till.put")


def test_secrets_are_masked_before_a_long_input_is_cut(cluster, flower):
    client = cluster.client
    client.start("counter.charge", {"card": CARD}, id="masked-1").result(20)
    for padding in range(260, 300, 8):
        client.start("counter.echo", {"words": ["x" * padding, CARD * 3]}, id=f"masked-{padding}").result(20)
    flower.task("masked-292", "SUCCESS")
    shown = json.dumps({run_id: task for run_id, task in flower.tasks().items() if run_id.startswith("masked-")})
    assert "[secret:CARD]" in shown
    assert not any(CARD[:length] in shown for length in range(6, 1 + len(CARD)))
    assert len(flower.task("masked-292", "SUCCESS")["kwargs"]) < 400


def test_terminate_cancels_a_run_durably_also_one_that_no_worker_holds(cluster, flower, visit):
    held = cluster.client.start("counter.hold", {"seconds": 600}, id="hold-1")
    parked = cluster.client.start("counter.order", {"articles": []}, id="order-2")
    until_sync(lambda: held.status() == "running" and parked.status() == "waiting", 20)
    until_sync(lambda: not in_memory(cluster, "order-2"), 20, "the run is parked")
    for run in (held, parked):
        flower.task(run.id, "STARTED")
        visit.page.goto(f"/task/{run.id}")
        visit.page.get_by_role("button", name="Terminate").click()
        expect(visit.page.get_by_text(f"Revoked '{run.id}'")).to_be_visible()
    until_sync(lambda: held.status() == parked.status() == "cancelled", 20)
    for run in (held, parked):
        assert flower.task(run.id, "REVOKED")["exception"] == "cancelled: revoked"


def test_the_worker_page_tells_of_our_pool_and_its_buttons_do_or_say_why_not(cluster, flower, name, visit):
    page = visit.page
    page.goto("/workers")
    expect(page.locator("tbody tr")).to_contain_text("Online")
    page.get_by_role("link", name=name).click()
    expect(page.locator("#tab-pool")).to_contain_text("runtime.pool:TaskPool")
    for tab, text in {
        "Broker": "redis", "Queues": "agnt5.counter", "Tasks": "Active tasks", "Limits": "counter.price",
        "Config": "worker_pool", "System": "Maxrss",
    }.items():  # fmt: skip
        page.get_by_role("tab", name=tab).click()
        expect(page.locator(f"#tab-{tab.lower()}")).to_contain_text(re.compile(text, re.IGNORECASE))
    page.get_by_role("tab", name="Pool").click()
    size = pool_size(flower, name)
    page.get_by_label("Pool size", exact=True).fill("3")
    page.get_by_role("button", name="Grow").click()
    expect(page.get_by_text("Growing", exact=False)).to_be_visible()
    page.get_by_role("button", name="Shrink").click()
    expect(page.get_by_text("Shrinking", exact=False)).to_be_visible()
    assert flower.ask(f"/api/worker/pool/grow/{name}", {"n": 2})[0] == 200
    assert pool_size(flower, name) == size + 2
    assert cluster.client.start("counter.price", {"article": "after"}).result(20)["cents"] == 250
    for path, given, why in (
        ("restart", {}, "Pool restarts not enabled"), ("autoscale", {"min": 1, "max": 2}, "Autoscale not enabled"),
    ):  # fmt: skip
        status, text = flower.ask(f"/api/worker/pool/{path}/{name}", given)
        assert (status, why in text) == (403, True), text


def test_the_broker_page_counts_what_waits_in_each_priority(cluster, flower, worker, visit):
    worker.freeze()
    runs = [cluster.client.start("counter.price", {"article": "late"}, priority=level) for level in (0, 3, 9)]
    visit.page.goto("/broker")
    expect(visit.page.locator("tr", has_text="agnt5.counter").locator("td").nth(1)).to_have_text("3")
    visit.page.screenshot(path=cluster.folder / "broker.png")
    worker.thaw()
    assert [run.result(20)["cents"] for run in runs] == [250] * 3
    visit.page.goto("/broker")
    expect(visit.page.locator("tr", has_text="agnt5.counter").locator("td").nth(1)).to_have_text("0")


def test_a_worker_that_comes_back_is_seen_again_and_the_figures_add_up(cluster, flower, worker, visit):
    worker.terminate()
    for path in ("/workers", "/tasks", "/broker"):
        visit.page.goto(path)
        expect(visit.page.locator("tbody").first).to_be_visible()
    worker.restart()
    cluster.client.start("counter.price", {"article": "again"}, id="again-1").result(20)
    flower.task("again-1", "SUCCESS")
    visit.page.goto("/workers")
    expect(visit.page.locator("tbody tr")).to_contain_text("Online")
    figures = flower.ask("/metrics")[1]
    told = dict(re.findall(r'flower_events_total\{task="counter.price",type="([\w-]+)".*?\} (\S+)', figures))
    assert told["task-received"] == told["task-started"] == told["task-succeeded"]
    assert set(re.findall(r"flower_worker_prefetched_tasks\{.*?\} (\S+)", figures)) == {"0.0"}


def pool_size(flower: Flower, name: str) -> int:
    """How many coroutines the worker runs at once, as it says now."""
    told = json.loads(flower.ask(f"/api/workers?refresh=1&workername={name}")[1])
    return told[name]["stats"]["pool"]["max-concurrency"]


def in_memory(cluster: Cluster, run_id: str) -> bool:
    return cluster.field(run_id, "host") not in {None, ""}

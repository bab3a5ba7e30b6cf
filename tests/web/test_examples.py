"""The examples of web frameworks, as real server processes with a real worker behind them."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator

import httpx
import pytest
from support.cluster import ROOT, Cluster, cluster_of
from support.waiting import until_sync
from web_kit import Api

from agnt5.cli.embedded import free_port

ITEMS = [{"sku": "book", "quantity": 2}]
EXAMPLES = ROOT / "examples"


def command(name: str, port: int) -> list[str]:
    match name:
        case "fastapi":
            words = ["-m", "uvicorn", "examples.fastapi_app:app", "--port", str(port)]
        case "flask":
            words = ["-m", "flask", "--app", str(EXAMPLES / "flask_app.py"), "run", "-p", str(port)]
        case _:
            words = [str(EXAMPLES / "django_app.py"), "runserver", "--noreload", f"127.0.0.1:{port}"]
    return [sys.executable, *words]


@pytest.fixture(scope="module")
def shop() -> Iterator[Cluster]:
    with cluster_of("workers.orders") as shop:
        yield shop


@pytest.fixture(scope="module", params=["fastapi", "flask", "django"])
def site(request, shop: Cluster) -> Iterator[httpx.Client]:
    env = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT,)))}
    with (
        Api(shop.server.url, command=command(request.param, free_port()), env=env) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        client.name = request.param
        yield client


def test_an_order_is_placed_once_paid_and_shipped(site: httpx.Client, shop: Cluster):
    number = uuid.uuid4().hex
    for _ in range(2):
        placed = site.put(f"/orders/{number}", json={"items": ITEMS})
        assert placed.status_code == 202, placed.text
        assert placed.json()["run"] == f"order-{number}"
    until_sync(lambda: site.get(f"/orders/{number}").json()["status"] == "waiting", 15)
    payment = {"id": uuid.uuid4().hex, "amount": 20}
    if site.name == "flask":
        for _ in range(2):
            assert site.post(f"/orders/{number}/paid", json=payment).status_code == 204
    elif site.name == "fastapi":
        url, key = f"/api/v1/runs/order-{number}/signals/paid", {"X-Support-Key": "change me"}
        assert site.post(url, json={"payload": payment}).status_code == 401
        assert site.post(url, json={"payload": payment}, headers=key).status_code == 202
        assert site.post(f"/api/v1/runs/order-{number}/cancel", headers=key).status_code == 403
    else:
        shop.client.signal(f"order-{number}", "paid", payment)
    shown = until_sync(lambda: (one := site.get(f"/orders/{number}").json())["status"] == "completed" and one, 15)
    assert shown["result"]["status"] == "shipped"
    assert shown["result"]["payment"] == payment


def test_an_order_that_is_not_there_is_told(site: httpx.Client):
    assert site.get("/orders/none").status_code == 404


def test_web_examples_are_short():
    for path in EXAMPLES.glob("*_app.py"):
        assert len(path.read_text().splitlines()) < 65, path

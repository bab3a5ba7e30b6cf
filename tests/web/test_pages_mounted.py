"""The pages below a path of another application."""

from __future__ import annotations

import sys

import pytest
from browser_kit import Visit
from page_kit import LINK_SECRET, Reader, harmless
from playwright.sync_api import expect
from support.cluster import ROOT
from support.waiting import until_sync
from web_kit import Api, people

BASE = "/ops/agnt5"


@pytest.fixture(scope="module")
def mounted(page_cluster, tmp_path_factory):
    path, secrets = people(tmp_path_factory.mktemp("tokens"))
    command = [sys.executable, "-m", "uvicorn", "page_mounted:app", "--port", "0"]
    env = {"AGNT5_API_TOKENS": str(path), "AGNT5_LINK_SECRET": LINK_SECRET}
    with Api(page_cluster.server.url, command=command, env=env, secrets=secrets) as mounted:
        yield mounted


def test_all_addresses_are_below_the_path(mounted, page_cluster):
    page_cluster.client.start("page_shop.trip", {"to": "Pisa"}, id="below-1")
    reader = Reader(mounted.url)
    answer = reader.send(f"{BASE}/login", {"token": mounted.secrets["ann"]})
    assert answer.headers["location"] == f"{BASE}/"
    assert all(f"Path={BASE}/" in value for value in answer.headers.get_list("set-cookie"))
    for path in ("/", "/approvals", "/entities", "/workers", "/runs/below-1"):
        page = harmless(reader.get(BASE + path))
        addresses = [one.get(name) for _, one in page.tags for name in ("href", "action", "src", "data-events")]
        strange = [one for one in addresses if one and not one.startswith((f"{BASE}/", "data:", "#"))]
        assert strange == []
    assert "Not Found" in harmless(reader.get(f"{BASE}/nowhere", 404)).text
    assert reader.http.get("/hello").json() == "hello"


def test_below_a_path_pages_are_live_too(mounted, browser, page_cluster):
    client = page_cluster.client
    client.start("page_shop.trip", {"to": "Siena"}, id="below-2")
    until_sync(lambda: any(type(event).__name__ == "SignalAwaited" for event in client.history("below-2")), 20)
    with Visit(browser, mounted.url) as visit:
        page = visit.page
        page.goto(f"{BASE}/runs/below-2")
        page.get_by_label("Token").fill(mounted.secrets["ann"])
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("html")).to_have_attribute("data-stream", "open")
        page.get_by_label("Signal name").fill("go")
        page.get_by_role("button", name="Send signal").click()
        expect(page.locator("#status .pill")).to_have_text("completed")
        visit.sound()


def test_the_sheet_and_the_script_load_nothing_from_elsewhere():
    for path in (ROOT / "agnt5" / "web").glob("*/*.*"):
        if path.suffix in {".html", ".css", ".js"}:
            text = path.read_text("utf-8")
            assert "https://" not in text, path
            assert "style=" not in text, path

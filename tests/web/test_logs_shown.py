"""A run's log lines by HTTP and on its page: live, cut, and nothing of them is markup."""

from __future__ import annotations

import json

from browser_kit import Visit
from page_kit import HOSTILE, harmless
from playwright.sync_api import expect
from support.waiting import until_sync
from web_kit import ended, problem, start


def test_lines_are_read_by_level_and_number(ann):
    run_id = start(ann, "web_shop.logs", {"lines": 4}).json()["id"]
    ended(ann, run_id)
    lines = ann.get(f"/runs/{run_id}/logs").json()["lines"]
    assert [(line["message"], line["level"], line["fields"]) for line in lines] == [
        ("line 0", "INFO", {"number": 0}), ("line 1", "WARNING", {"number": 1}), ("line 2", "INFO", {"number": 2}),
        ("line 3", "WARNING", {"number": 3}),
    ]  # fmt: skip
    assert {**lines[0], "at": "", "place": ""} == {
        "place": "", "at": "", "level": "INFO", "logger": "agnt5.run.web_shop.logs", "message": "line 0", "attempt": 0,
        "step_id": None, "fields": {"number": 0}, "exception": "",
    }  # fmt: skip
    few = ann.get(f"/runs/{run_id}/logs", params={"level": "WARNING", "limit": 1}).json()["lines"]
    assert [line["message"] for line in few] == ["line 3"]
    problem(ann.get(f"/runs/{run_id}/logs", params={"level": "LOUD"}), 422)
    problem(ann.get("/runs/never/logs"), 404, "run-not-found")


def test_the_page_shows_the_latest_lines_and_none_of_them_is_markup(site, page_cluster):
    page_cluster.client.start("page_shop.logs", {"lines": 150}, id="logs-1").result(20)
    with site.reader("ann") as ann:
        page = harmless(ann.get("/runs/logs-1"))
        assert "The latest 100 lines; 52 older ones are kept." in page.text
        assert "line 51" not in page.text
        assert "line 149" in page.text
        assert page.text.count(HOSTILE) >= 3
        assert "x" * 300 not in page.text
        raw = json.loads(ann.get("/runs/logs-1/raw/logs"))
        assert [line["message"] for line in raw[:2]] == ["line 0", "line 1"]
        assert len(raw) == 152
        assert raw[-1]["exception"].endswith(f"ValueError: {HOSTILE}")
        assert raw[150]["fields"]["file"] == r"f\udc80"


def test_a_run_that_logged_nothing_says_so(site, page_cluster):
    page_cluster.client.start("page_shop.echo", {"value": 1}, id="logs-none").result(20)
    with site.reader("ann") as ann:
        assert "No lines are kept" in harmless(ann.get("/runs/logs-none")).text


def test_lines_come_to_the_page_while_the_run_goes_on(browser, local_site, page_cluster):
    client = page_cluster.client
    client.start("page_shop.logs_on", id="logs-live")
    until_sync(lambda: client.logs("logs-live"), 20)
    with Visit(browser, local_site.url) as visit:
        page = visit.page
        page.goto("/runs/logs-live")
        expect(page.locator("#logs")).to_contain_text("before the signal")
        expect(page.locator("html")).to_have_attribute("data-stream", "open")
        client.signal("logs-live", "go")
        expect(page.locator("#logs")).to_contain_text("behind the signal", timeout=10_000)
        visit.sound()

"""The pages in a real Chromium: live, clickable, readable, and within their content security policy."""

from __future__ import annotations

import re

import pytest
from browser_kit import CONTRASTS, NAMELESS, Visit
from page_kit import HOSTILE, run_path
from playwright.sync_api import expect
from support.waiting import until_sync

PAGES = ["/", "/?q=nothing-at-all", "/approvals", "/entities", "/entities/Counter/seen", "/workers", "/runs/seen-trip",
         "/runs/seen-fails", "/runs/seen-ask", "/runs/seen-many", "/runs/seen-answers"]  # fmt: skip


@pytest.fixture(scope="session")
def client(page_cluster):
    return page_cluster.client


@pytest.fixture(scope="session")
def seen(client):
    """Runs of every sort, as they are looked at."""
    client.start("page_shop.trip", {"to": "Rome"}, id="seen-trip")
    client.start("page_shop.fails", {"text": HOSTILE}, id="seen-fails")
    client.start("page_shop.asks", {"form": True, "payload": {"version": 1}}, id="seen-ask")
    client.start("page_shop.many", {"count": 80}, id="seen-many").result(30)
    client.start("page_shop.answers", {"documents": 21}, id="seen-answers").result(30)
    client.entity("Counter", "seen").add(note="hello")
    until_sync(lambda: client.get("seen-fails").status().ended and client.approvals(run_id="seen-ask"), 20)
    waits(client, "seen-trip")


def waits(client, run_id):
    until_sync(lambda: any(type(event).__name__ == "SignalAwaited" for event in client.history(run_id)), 20)


@pytest.fixture
def visit(browser, local_site):
    with Visit(browser, local_site.url) as visit:
        yield visit


def test_a_page_is_live_a_signal_ends_the_run_without_a_reload(visit, client):
    client.start("page_shop.trip", {"to": "Oslo"}, id="live-1")
    waits(client, "live-1")
    page = visit.page
    page.goto("/runs/live-1")
    page.evaluate("window.sameDocument = true")
    expect(page.locator("#status .pill")).to_have_text("waiting")
    expect(page.locator("html")).to_have_attribute("data-stream", "open")
    client.signal("live-1", "go", {"by": "test"})
    expect(page.locator("#status .pill")).to_have_text("completed", timeout=4000)  # sooner than a poll
    expect(page.locator("#journal")).to_contain_text("RunCompleted")
    expect(page.locator("#timeline .lanes")).to_contain_text("wait for signal go")
    expect(page.locator("#values")).to_contain_text('"by": "test"')
    assert page.evaluate("window.sameDocument") is True
    expect(page.locator("html")).to_have_attribute("data-stream", "ended")
    visit.sound()


def test_the_progress_of_a_map_is_live(visit, client):
    client.start("page_shop.answers", {"documents": 1, "hold": True}, id="live-map")
    waits(client, "live-map")
    page = visit.page
    page.goto("/runs/live-map")
    expect(page.locator("#timeline .lanes")).to_contain_text("map lambda: 11 of 12 done")
    expect(page.locator("html")).to_have_attribute("data-stream", "open")
    client.signal("live-map", "go")
    expect(page.locator("#timeline .lanes")).to_contain_text("map lambda: 12 of 12 done", timeout=4000)
    visit.sound()


def test_what_is_typed_stays_while_the_page_renews_itself(visit, client):
    client.start("page_shop.asks", {"form": True}, id="typed-1")
    until_sync(lambda: client.approvals(run_id="typed-1"), 20)
    page = visit.page
    page.goto("/runs/typed-1")
    page.locator("#approvals").get_by_label("Comment").fill("half a sentence")
    page.get_by_role("heading", name="Timeline").click()
    with page.expect_response(re.compile("/runs/typed-1$"), timeout=10_000):
        pass  # it has asked for a fresh copy
    client.signal("typed-1", "whatever")
    expect(page.locator("#journal")).to_contain_text("SignalReceived")
    expect(page.locator("#approvals").get_by_label("Comment")).to_have_value("half a sentence")
    visit.sound()


def test_a_list_renews_itself(visit, client):
    page = visit.page
    page.goto("/?q=renews-")
    expect(page.locator("#runs")).to_contain_text("No run fits")
    client.start("page_shop.echo", id="renews-1").result(20)
    expect(page.locator("#runs")).to_contain_text("renews-1", timeout=10_000)
    visit.sound()


def test_somebody_logs_in_approves_by_the_inbox_and_the_run_goes_on(browser, site, client):
    client.start("page_shop.asks", {"name": "deploy_production", "roles": ["ops"], "form": True}, id="inbox-browser")
    until_sync(lambda: client.approvals(run_id="inbox-browser"), 20)
    with Visit(browser, site.url) as visit:
        visit.log_in(site.secrets["ann"])
        page = visit.page
        page.get_by_role("link", name="Approvals").click()
        card = page.get_by_role("article").filter(has_text="inbox-browser")
        card.get_by_label("Count").fill("3")
        card.get_by_label("Tell").check()
        card.get_by_label("Comment").fill("all green")
        card.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("status").first).to_contain_text("Approved.")
        expect(page.locator("#status .pill")).to_have_text("completed")
        expect(page.locator("#decided")).to_contain_text("approved by ann")
        visit.sound()
    assert client.get("inbox-browser").result(20)["data"] == {"count": 3, "tell": True}


def test_a_signal_is_sent_by_keyboard_alone(visit, client):
    client.start("page_shop.trip", {"to": "Bern"}, id="keys-1")
    waits(client, "keys-1")
    page = visit.page
    page.goto("/runs/keys-1")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.get_by_label("Signal name").focus()
    page.keyboard.type("go")
    page.keyboard.press("Tab")
    page.keyboard.type('{"by": "keys"}')
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Send signal")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("The signal was sent.")
    assert outline == "solid"
    assert client.get("keys-1").result(20)["word"] == {"by": "keys"}
    visit.sound()


def test_a_bar_leads_to_its_child(visit, seen):
    page = visit.page
    page.goto("/runs/seen-trip")
    page.locator("#timeline svg a").first.click()
    expect(page.locator("h1")).to_have_text("seen-trip~1")
    visit.sound()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_readable_named_and_sound(browser, local_site, seen, path, scheme):
    with Visit(browser, local_site.url, color_scheme=scheme) as visit:
        visit.page.goto(path)
        visit.page.get_by_role("heading", level=1).wait_for()
        assert visit.page.evaluate(CONTRASTS) == []
        assert visit.page.evaluate(NAMELESS) == []
        visit.sound()


def test_dark_is_dark(browser, local_site):
    def ground(scheme):
        with Visit(browser, local_site.url, color_scheme=scheme) as visit:
            visit.page.goto("/")
            return visit.page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert [sum(map(int, re.findall(r"\d+", ground(scheme)))) > 380 for scheme in ("light", "dark")] == [True, False]


@pytest.mark.parametrize("width", [380, 720, 1280, 2200])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_the_screen(browser, local_site, seen, path, width):
    with Visit(browser, local_site.url, viewport={"width": width, "height": 900}) as visit:
        visit.page.goto(path)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_a_run_is_signalled_all_the_same(browser, local_site, client):
    client.start("page_shop.trip", {"to": "Nice"}, id="plain-1")
    waits(client, "plain-1")
    with Visit(browser, local_site.url, java_script_enabled=False) as visit:
        visit.page.goto("/runs/plain-1")
        visit.page.get_by_label("Signal name").fill("go")
        visit.page.get_by_role("button", name="Send signal").click()
        expect(visit.page.get_by_role("status").first).to_contain_text("The signal was sent.")
        assert visit.page.locator("#timeline svg rect").count() > 2
    client.get("plain-1").result(20)


def test_the_policy_refuses_what_is_not_ours(visit, seen):
    """Proof that the guard stands: what would run if escaping failed once does not run."""
    page = visit.page
    page.goto(run_path("seen-fails"))
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.broken = true";
      document.body.append(script);
      document.body.insertAdjacentHTML("beforeend", '<p style="color: red" id="styled">x</p>');
    }""")
    assert page.evaluate("window.broken") is None
    assert page.evaluate("document.getElementById('styled').style.color") == "" or visit.faults
    assert any("Content Security Policy" in fault for fault in visit.faults)

"""A real headless Chromium, watched for errors and for what the content security policy refuses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
ADVICE = "no Chromium was found: `make browser` installs one on Debian and Ubuntu; or set AGNT5_CHROMIUM to its path"


def chromium() -> str:
    """Where the browser is; fails with advice if there is none."""
    given = os.environ.get("AGNT5_CHROMIUM", "")
    found = given or next((path for name in NAMES if (path := shutil.which(name))), "")
    assert found, ADVICE
    assert os.access(found, os.X_OK), f"AGNT5_CHROMIUM is {found}, which cannot be run; {ADVICE}"
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """One browser."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield launched
        launched.close()


class Visit:
    """A window of somebody's own. `faults` are errors in the console, in scripts, of the policy, and failed loads."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(base_url=url, **options)
        self.faults: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", lambda said: said.type in {"error", "warning"} and self.faults.append(said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("response", lambda got: got.status >= 400 and self.faults.append(f"{got.status} {got.url}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def log_in(self, token: str) -> None:
        """Paste a token."""
        self.page.goto("/login")
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Log in").click()
        self.page.get_by_role("heading", name="Runs").wait_for()

    def sound(self) -> None:
        """Nothing went wrong in this window."""
        assert not self.faults, self.faults


CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgba(getComputedStyle(node).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba(matchMedia("(prefers-color-scheme: dark)").matches ? "#000" : "#fff");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("svg, option")) continue;
    const style = getComputedStyle(node);
    const [one, two] = [light(rgba(style.color)), light(ground(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) {
      const text = walker.currentNode.data.trim().slice(0, 30);
      found.push(`${node.tagName}.${node.className}: ${text} ${ratio.toFixed(2)}`);
    }
  }
  return found;
}
"""
"""Texts whose contrast is below WCAG AA."""

NAMELESS = """
() => {
  const found = [];
  const text = (ids) => (ids || "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join("");
  for (const node of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    const label = [...(node.labels ?? [])].map((one) => one.textContent.trim()).join("");
    if (!(label || node.getAttribute("aria-label") || text(node.getAttribute("aria-labelledby")))) {
      found.push(node.outerHTML.slice(0, 90));
    }
  }
  for (const node of document.querySelectorAll("button, a[href]")) {
    if (!(node.textContent.trim() || node.getAttribute("aria-label"))) found.push(node.outerHTML.slice(0, 90));
  }
  for (const node of document.querySelectorAll("[aria-labelledby]")) {
    if (!text(node.getAttribute("aria-labelledby")).trim()) found.push(node.outerHTML.slice(0, 90));
  }
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of new Set(ids.filter((one, at) => ids.indexOf(one) !== at))) found.push(`two of #${id}`);
  if (!document.documentElement.lang) found.push("no language");
  if (!document.title) found.push("no title");
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) found.push("not one main");
  return found;
}
"""
"""What a screen reader could not name, and ids that are there twice."""

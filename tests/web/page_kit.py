"""The pages as a process of their own, and a reader of them that has no JavaScript."""

from __future__ import annotations

import html
import re
import sys
from html.parser import HTMLParser
from typing import Any, Self
from urllib.parse import quote

import httpx
from support.secret_values import made
from web_kit import Api

LINK_SECRET = made("page links")

HOSTILE = """<script>alert('x')</script>"><img src=x onerror="alert(1)">{{ 7*7 }}"""
"""Text that would be seen to work wherever it is not escaped."""


class Site(Api):
    """`agnt5 web` with its pages."""

    def __init__(self, redis_url: str, *, env: dict[str, str] | None = None, **more: Any) -> None:
        command = [sys.executable, "-m", "agnt5.cli", "web", "--port", "0"]
        super().__init__(redis_url, command=command, env={"AGNT5_LINK_SECRET": LINK_SECRET, **(env or {})}, **more)

    def reader(self, name: str | None = None) -> Reader:
        """Somebody with a browser without JavaScript, logged in as one of the people."""
        reader = Reader(self.url)
        if name is not None:
            answer = reader.send("/login", {"token": self.secrets[name]}, page="/login")
            assert answer.status_code == 303, answer.text
        return reader


class Reader:
    """Reads pages, follows nothing by itself, sends the forms that pages have."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=20, headers={"Accept": "text/html"})
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, path: str, status: int = 200, **options: Any) -> str:
        """A page's markup."""
        answer = self.http.get(path, **options)
        assert answer.status_code == status, (answer.status_code, answer.text[:2000])
        return answer.text

    def send(self, path: str, fields: dict[str, str], *, page: str | None = None, **options: Any) -> httpx.Response:
        """Send a form as the page (default: the one that it is sent to) has it, with these fields filled in."""
        found = self.http.get(page or path).text
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', found)
        assert token, found[:2000]
        return self.http.post(path, data={"csrf": token[1], **fields}, **options)


def run_path(run_id: str) -> str:
    """Where a run's page is."""
    return f"/runs/{quote(run_id, safe='')}"


class Markup(HTMLParser):
    """What a page is made of: its tags, its attributes, the text that people read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All that people read, on one line."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """The attributes of all such tags."""
        return [
            found for name, found in self.tags
            if name == tag and all(found.get(key.rstrip("_")) == value for key, value in attributes.items())
        ]  # fmt: skip


def harmless(text: str) -> Markup:
    """A page, proved to have no markup but its own."""
    page = Markup(text)
    assert [one.get("src", "").partition("?")[0].rpartition("/")[2] for one in page.all("script")] == ["pages.js"]
    assert page.all("img") == []
    assert page.all("style") == []
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
    return page


def shown(text: str) -> str:
    """A text as markup shows it."""
    return html.escape(text)

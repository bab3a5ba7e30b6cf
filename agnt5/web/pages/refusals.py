"""Errors as pages: what went wrong, and what to do. Nobody in particular is sent to the login."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse

from agnt5.web.access import identity
from agnt5.web.identity import Identity
from agnt5.web.pages.pages import HEADERS, Pages
from agnt5.web.problems import MEDIA_TYPE, Problem, respond
from agnt5.web.routing import route_class
from agnt5.web.wiring import Web

ADVICE = {
    401: "Log in with a token.",
    403: "Ask whoever gives out tokens for the scope, or log in with another token.",
    404: "Check the address. Ended runs are kept for the retention time (AGNT5_RETENTION), then they are gone.",
    409: "The state has changed since the page was made. Go back, reload it and look again.",
    413: "Send less.",
    422: "Go back and mend the input.",
    503: "Redis does not answer now. Nothing is lost; try again in a moment.",
}
RELOAD = (
    '<!doctype html><html lang="en"><head><title>agnt5</title><meta http-equiv="refresh" content="0"></head></html>'
)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def page_route_class(web: Web) -> type[APIRoute]:
    """The API's route class, with problems as pages."""

    class PageRoute(route_class(web)):  # type: ignore[misc]
        def get_route_handler(self) -> Handler:
            inner: Handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                response = await inner(request)
                for name, value in HEADERS.items():
                    response.headers.setdefault(name, value)
                return await as_page(request, response) if _is_problem(response) else response

            return handle

    return PageRoute


async def unknown_page(request: Request, error: Exception) -> Response:
    """An address without a route: a page for a browser, a problem for a program."""
    response = await respond(request, error)
    pages = request.app.state.agnt5_pages
    path = request.scope["path"]
    if path.startswith(f"{pages.base(request)}/api/") or "text/html" not in request.headers.get("accept", ""):
        return response
    return await as_page(request, response)


async def as_page(request: Request, response: Response) -> Response:
    """A problem for people."""
    pages: Pages = request.app.state.agnt5_pages
    problem = json.loads(bytes(response.body))
    status = response.status_code
    if status == 401 and not pages.web.open and pages.web.tokens:  # noqa: PLR2004
        if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
            # a link on another site: the browser keeps a strict cookie back, and sends it when we ask ourselves
            return HTMLResponse(RELOAD, headers=HEADERS)
        return pages.go(request, "login", next=_address(request) if request.method == "GET" else "")
    advice = ADVICE.get(status, "The server's log tells more.")
    if status == 401:  # noqa: PLR2004 - an app that knows its people itself
        advice = "Log in to the application that these pages belong to."
    if problem["type"].endswith((":no-tokens", ":form-token", ":cross-site")):
        advice = ""
    page = pages.show(
        request, "problem.html", who=await _who(request), status=status, title=problem["title"],
        detail=problem["detail"], advice=advice, number=status,
    )  # fmt: skip
    for name in ("retry-after", "x-request-id"):
        if value := response.headers.get(name):
            page.headers[name] = value
    return page


async def _who(request: Request) -> Identity | None:
    """Who sees the page, for its frame; nobody where that itself is what failed."""
    try:
        return await identity(request, None)
    except Problem:
        return None


def _is_problem(response: Response) -> bool:
    return response.media_type == MEDIA_TYPE


def _address(request: Request) -> str:
    """The page that was asked for, to come back to after the login."""
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")

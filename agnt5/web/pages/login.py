"""Log in by pasting a token, and out again."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response

from agnt5.web.pages.pages import Fault, InPages, Pages, text_of

_OWN = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")
"""An address of this very site: no scheme, no host, nothing that a browser would read as one."""


def add_routes(router: APIRouter) -> None:
    """Add the routes."""
    router.add_api_route("/login", login_page, methods=["GET"])
    router.add_api_route("/login", log_in, methods=["POST"])
    router.add_api_route("/logout", log_out, methods=["POST"])


async def login_page(request: Request, pages: InPages) -> Response:
    """The form; whoever is logged in goes on to the page that was asked for."""
    aim = _aim(pages, request, request.query_params.get("next", ""))
    if pages.web.open or await pages.sessions.identity(request) is not None:
        return _to(pages, request, aim)
    return pages.show(request, "login.html", who=None, aim=aim)


async def log_in(request: Request, pages: InPages) -> Response:
    """Take a token."""
    form = await pages.form(request, anonymous=True)
    aim = _aim(pages, request, text_of(form, "next"))
    response = _to(pages, request, aim)
    if pages.sessions.log_in(request, response, text_of(form, "token")):
        return response
    fault = Fault(401, "That is no valid token", "Paste the whole token, as `agnt5 tokens new` printed it.")
    return pages.show(request, "login.html", who=None, problem=fault, aim=aim)


async def log_out(request: Request, pages: InPages) -> Response:
    """Forget the session."""
    await pages.form(request)
    response = pages.go(request, "login", said="logged-out")
    pages.sessions.log_out(request, response)
    return response


def _aim(pages: Pages, request: Request, given: str) -> str:
    home = pages.link(request)
    return given if _OWN.fullmatch(given) and given.startswith(home) else home


def _to(pages: Pages, request: Request, aim: str) -> Response:
    response = pages.go(request)
    response.headers["location"] = aim
    return response

"""The web pages: server-rendered, usable without JavaScript, live with it."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException

from agnt5.web.pages import approvals, assets, decide, entities, login, runs, workers
from agnt5.web.pages.pages import Pages
from agnt5.web.pages.refusals import page_route_class, unknown_page
from agnt5.web.wiring import Web

__all__ = ["add_pages"]


def add_pages(app: FastAPI, web: Web) -> None:
    """Add the pages to an app that `create_api` made, and let their session cookie name who makes a request."""
    pages = Pages(web)
    web.session = pages.sessions.identity
    app.state.agnt5_pages = pages
    router = APIRouter(prefix=web.prefix, route_class=page_route_class(web), include_in_schema=False)
    for part in (assets, login, decide, runs, approvals, entities, workers):
        part.add_routes(router)
    app.include_router(router)
    app.add_exception_handler(HTTPException, unknown_page)

"""`create_api` and `api_router`: the HTTP API as an app of its own, or as a part of another FastAPI app."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agnt5.client import AsyncClient
from agnt5.contracts.errors import ConfigurationError
from agnt5.web import tokens as tokens_of
from agnt5.web.accesslog import mask_access_log
from agnt5.web.api import add_routes
from agnt5.web.problems import respond
from agnt5.web.routing import route_class
from agnt5.web.wiring import ALLOWED_HEADERS, Authenticate, Web, checked_headers

API = "/api/v1"

PAGES = "agnt5.web.pages"
"""The pages; the module has `add_pages(app: FastAPI, web: Web) -> None`."""


def create_api(
    client: AsyncClient | None = None,
    *,
    tokens: tokens_of.Tokens | None = None,
    authenticate: Authenticate | None = None,
    headers: Iterable[str] = ALLOWED_HEADERS,
    pages: bool = True,
    prefix: str = "",
    **settings: Any,
) -> FastAPI:
    """An ASGI app with the HTTP API under `<prefix>/api/v1` and, with `pages`, the pages under `<prefix>/`.

    Who may use it: bearers of `tokens` (default: those of the file that AGNT5_API_TOKENS names), and whoever
    `authenticate(request)` gives an `Identity` for. Without both only requests of this machine itself are served.
    `headers` are those that reach `ctx.headers()` of started runs. `client` is used if it is given, and not closed;
    else one is opened on first use, with `settings` (those of `Settings`), and closed when the app shuts down. A
    server does not shut down mounted apps: there call `await app.state.agnt5.close()`.

    Opens no connection. Raises `ConfigurationError`.
    """
    web = _wire(client, tokens, authenticate, headers, prefix, settings)
    app = FastAPI(
        title="agnt5",
        description="Durable workflows: start runs, read them, signal them, decide what they ask for.",
        version="1",
        openapi_url=f"{prefix}{API}/openapi.json",
        docs_url=None,  # FastAPI's pages for it load scripts from elsewhere
        redoc_url=None,
        lifespan=_closing(web),
    )
    app.state.agnt5 = web
    for kind in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, respond)
    app.include_router(_router(web), prefix=prefix)
    if pages and find_spec(PAGES) is not None:
        importlib.import_module(PAGES).add_pages(app, web)
    return app


def api_router(
    client: AsyncClient | None = None,
    *,
    tokens: tokens_of.Tokens | None = None,
    authenticate: Authenticate | None = None,
    headers: Iterable[str] = ALLOWED_HEADERS,
    **settings: Any,
) -> APIRouter:
    """The HTTP API to include in another FastAPI app: its routes are `/api/v1/...`. Arguments as `create_api`.

    Its client is closed when that app shuts down. `authenticate` decides alone whom it lets in: where it goes by
    cookies, the app's own protection against forged requests of other sites must cover these routes too.
    """
    web = _wire(client, tokens, authenticate, headers, "", settings)
    router = APIRouter(lifespan=_closing(web))
    router.include_router(_router(web))
    return router


def _wire(
    client: AsyncClient | None, tokens: tokens_of.Tokens | None, authenticate: Authenticate | None,
    headers: Iterable[str], prefix: str, settings: dict[str, Any],
) -> Web:  # fmt: skip
    if client is not None and settings:
        raise ConfigurationError(f"create_api: a client has settings of its own; leave out {', '.join(settings)}")
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ConfigurationError(f"create_api: a prefix like '/agnt5' is needed, found {prefix!r}")
    mask_access_log()
    make = partial(AsyncClient, **settings)
    return Web(
        settings=(client or make()).settings,
        make=make,
        # an app that knows its users does not open a second door unless it is told to
        tokens=() if tokens is None and authenticate is not None else tokens_of.load(tokens),
        authenticate=authenticate,
        headers=checked_headers(headers),
        prefix=prefix,
        given=client,
    )


def _router(web: Web) -> APIRouter:
    router = APIRouter(prefix=API, route_class=route_class(web))
    add_routes(router)
    return router


def _closing(web: Web) -> Any:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await web.close()

    return lifespan

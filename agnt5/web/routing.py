"""The API's routes: ids in paths as they were sent, bodies within their limit, errors as problems."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote, unquote

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Message, Receive, Scope

from agnt5.contracts.settings import Settings
from agnt5.web.problems import RETRY_AFTER_S, Problem, problem_of, request_id_of
from agnt5.web.stopping import server_stops
from agnt5.web.wiring import Web

ROOM = 65_536
"""Bytes that a body may have beyond the payload limit, for what stands around the payload."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def route_class(web: Web) -> type[APIRoute]:
    """The route class of one API."""

    class Route(APIRoute):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            match, child = super().matches(_encoded(scope))
            if match is not Match.NONE:
                params = child["path_params"]
                child["path_params"] = {
                    key: unquote(value) if isinstance(value, str) else value for key, value in params.items()
                }
            return match, child

        def get_route_handler(self) -> Handler:
            return _guarded(super().get_route_handler(), web)

    return Route


def _guarded(inner: Handler, web: Web) -> Handler:
    async def handle(request: Request) -> Response:
        request.state.agnt5 = web
        request_id = request_id_of(request)
        try:
            response = await inner(Request(request.scope, _limited(request, web.settings)))
        except Exception as error:  # noqa: BLE001 - all errors leave as problems
            cause = error.__cause__  # FastAPI wraps what is raised while it reads the body
            told = cause if isinstance(error, HTTPException) and isinstance(cause, Problem) else error
            return problem_of(told, request_id).response(request_id)
        except asyncio.CancelledError:
            if not server_stops():
                raise
            return _broken_off().response(request_id)
        response.headers["X-Request-Id"] = request_id
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return handle


def _encoded(scope: Scope) -> Scope:
    """A scope whose path is still percent-encoded: in a run id `%2F` is a part of the id, `/` divides the path."""
    if scope["type"] != "http":
        return scope
    root: str = scope.get("root_path", "")
    raw = scope.get("raw_path")
    path: str = raw.partition(b"?")[0].decode("latin-1") if raw else ""
    if unquote(path) != scope["path"]:  # none came, or somebody has rewritten the path since
        return {**scope, "path": quote(scope["path"], safe="/"), "root_path": quote(root, safe="/")}
    parts = path.split("/")
    depth = root.count("/")
    return {**scope, "path": path, "root_path": "/".join(parts[: depth + 1])} if root else {**scope, "path": path}


def _limited(request: Request, settings: Settings) -> Receive:
    """Reads a body up to its limit, and no further."""
    limit = settings.payload_limit + ROOM
    read = 0

    async def receive() -> Message:
        nonlocal read
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        message = await request.receive()
        read += len(message.get("body", b""))
        if read > limit:
            raise _too_large(limit)
        return message

    return receive


def _broken_off() -> Problem:
    return Problem(
        503, "server-stops", "The server stops",
        "The server stops, and this was not done in time. It may have taken effect: repeating the request with the same"
        " id or Idempotency-Key is safe.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )  # fmt: skip


def _too_large(limit: int) -> Problem:
    return Problem(
        413, "payload-too-large", "The payload is too large",
        f"The body has more than {limit:,} bytes (AGNT5_PAYLOAD_LIMIT and room for what stands around a payload).",
    )  # fmt: skip

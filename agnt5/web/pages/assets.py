"""Style sheet and script: read once, served with a name that changes with their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from agnt5.web.problems import Problem

TYPES = {"pages.css": "text/css", "pages.js": "text/javascript"}
FAVICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 22 22'%3E%3Cpath fill='%236663f0'"
    " d='M3 5.500A2.500 2.500 0 0 1 5.500 3h6a2.500 2.500 0 0 1 0 5h-6A2.500 2.500 0 0 1 3 5.500Zm5 5.500a2.500 2.500"
    " 0 0 1 2.500-2.500h6a2.500 2.500 0 0 1 0 5h-6A2.500 2.500 0 0 1 8 11Zm-3 5.500A2.500 2.500 0 0 1 7.500 14h4a2.500"
    " 2.500 0 0 1 0 5h-4A2.500 2.500 0 0 1 5 16.500Z'/%3E%3C/svg%3E"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    content: bytes
    version: str


@cache
def asset(name: str) -> Asset:
    """One of `TYPES`."""
    content = files("agnt5.web").joinpath("static", name).read_bytes()
    return Asset(content, hashlib.sha256(content).hexdigest()[:12])


def add_routes(router: APIRouter) -> None:
    """Add the route of static files."""
    router.add_api_route("/static/{name}", static)


async def static(name: str, v: str = "") -> Response:
    """A static file; one that was asked for by its version never changes."""
    if name not in TYPES:
        raise Problem(404, "not-found", "Not found", "There is no such file.")
    found = asset(name)
    age = "public, max-age=31536000, immutable" if v == found.version else "no-cache"
    return Response(found.content, media_type=TYPES[name], headers={"Cache-Control": age})

"""What the routes have in common: parameters, documented problems, the addresses of runs."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Header, Path, Query
from starlette.requests import Request

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import ID_LIMIT, check_id
from agnt5.contracts.traces import TRACE_HEADERS
from agnt5.telemetry.spans import outgoing
from agnt5.web.identity import Identity
from agnt5.web.problems import MEDIA_TYPE
from agnt5.web.wiring import Web, web

IDEMPOTENT = "idem:"
"""Ids of runs that were started with an Idempotency-Key begin so; nobody else may choose such an id."""

HEADER_LIMIT = 1024
"""Characters of a header's value that are kept with a run."""

_BASE = re.compile(r"^.*?/api/v1(?=/)")

TheWeb = Annotated[Web, Depends(web)]
RunId = Annotated[
    str,
    Path(
        description="A run's id. Percent-encode it: `~`, `:`, `@` and `/` are common in ids.",
        examples=["order-17"],
        max_length=2000,
        min_length=1,
    ),
]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Wait = Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the end.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Makes a repetition safe: with the same key and the same body it has no further effect. Each"
        " identity has keys of its own.",
        examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        max_length=ID_LIMIT,
    ),
]

_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:agnt5:problem:run-not-found"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "examples": ["urn:agnt5:request:4f1c"]},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {"type": "string", "description": "JSON pointer into the body."},
                    "parameter": {"type": "string"},
                    "in": {"type": "string", "enum": ["query", "path", "header", "cookie"]},
                },
            },
        },
    },
}
_WHEN = {
    400: "The body cannot be read.",
    401: "No token, or a wrong one.",
    403: "The identity may not do this. Nothing was changed.",
    404: "There is no such thing.",
    409: "It is in a state that does not allow this. Nothing was changed.",
    413: "The body is too large. Nothing was changed.",
    422: "The request is not valid; `errors` says where. Nothing was changed.",
    503: "The store does not answer, or is full. Repeating is safe.",
}


def problems(*statuses: int, guarded: bool = True) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for its OpenAPI description; those of every guarded route are added."""
    always = {401, 403, 422, 503} if guarded else {503}
    return {
        status: {"description": _WHEN[status], "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
        for status in sorted({*statuses, *always})
    }


def key_of(who: Identity, given: str | None) -> str | None:
    """An Idempotency-Key as an id of its own for each identity. Quotes around it, as the draft has them, are allowed.

    Raises `InvalidInputError`.
    """
    if given is None:
        return None
    key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    owner = hashlib.sha256(who.name.encode()).hexdigest()[:12]
    return check_id(f"{IDEMPOTENT}{owner}:{check_id(key, 'Idempotency-Key')}", "Idempotency-Key with its prefix")


def free_id(value: str | None) -> str | None:
    """An id that a client chose. Raises `InvalidInputError` for those that stand for an Idempotency-Key."""
    if value is not None and value.startswith(IDEMPOTENT):
        raise InvalidInputError(
            f"id: {value[:40]!r} begins with {IDEMPOTENT!r}, which Idempotency-Keys keep to themselves"
        )
    return value


def kept_headers(request: Request, allowed: Web) -> dict[str, str]:
    """The headers of a request that its run is started with.

    Where OpenTelemetry follows the request in this process, its own span is the run's parent, not that of the caller.
    """
    names = allowed.headers - TRACE_HEADERS if outgoing() else allowed.headers
    return {name: request.headers[name][:HEADER_LIMIT] for name in sorted(names) if name in request.headers}


def run_url(request: Request, run_id: str) -> str:
    """Where a run is found, below the same API that the request came to."""
    found = _BASE.match(request.url.path)
    return f"{found.group() if found else ''}/runs/{quote(run_id, safe='')}"

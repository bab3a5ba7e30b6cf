"""Errors as `application/problem+json` (RFC 9457): which error is which status, and what it tells a stranger."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from agnt5.contracts import errors as err
from agnt5.contracts.masking import masked_value

logger = logging.getLogger("agnt5.web")

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
"""How long a client is asked to wait while Redis does not answer."""

_REQUEST_ID = re.compile(r"[\w.:+/=-]{1,128}", re.ASCII)
_TITLES: dict[type[err.Agnt5Error], tuple[int, str]] = {
    err.PayloadTooLargeError: (413, "The payload is too large"),
    err.HandlerNotFoundError: (404, "There is no such handler"),
    err.DuplicateRunError: (409, "Another run has this id"),
    err.SerializationError: (422, "The value has no JSON form"),
    err.InvalidInputError: (422, "The input is not valid"),
    err.RunNotFoundError: (404, "There is no such run"),
    err.EntityNotFoundError: (404, "There is no such entity"),
    err.ApprovalNotFoundError: (404, "There is no such approval"),
    err.RunEndedError: (409, "The run has ended"),
    err.ApprovalDecidedError: (409, "The approval is decided"),
    err.ApprovalRefusedError: (403, "The decision is refused"),
    err.EntityBusyError: (409, "The entity is busy"),
    err.JournalLimitError: (409, "The run's journal is full"),
    err.StoreFullError: (503, "The store is full"),
    err.StoreUnavailableError: (503, "The store does not answer"),
    err.SealedPayloadError: (503, "A value is sealed and cannot be opened here"),
}
"""Errors that a client can do something about. The name of the class, as `run-not-found`, is the problem's type."""

_HIDDEN: dict[type[err.Agnt5Error], str] = {
    err.StoreFullError: "Redis is at its memory limit. Nothing was changed; try again later.",
    err.SealedPayloadError: "The server does not have the key of a value, or it was changed. Its log tells more.",
    err.StoreUnavailableError: "Redis did not answer in time. Repeating the request with the same id or"
    " Idempotency-Key is safe.",
}
"""Errors whose own text names places inside: it goes to the log."""


class Problem(Exception):  # noqa: N818 - it is one, and bears the name of its media type
    """An error response. Raise it from a route or a dependency.

    `kind` is the last part of its type, `urn:agnt5:problem:<kind>`; `more` are members of its own.
    """

    def __init__(
        self, status: int, kind: str, title: str, detail: str, *, headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (), **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors)
        self.more = more

    def body(self, request_id: str) -> dict[str, Any]:
        """Its members."""
        members: dict[str, Any] = {
            "type": f"urn:agnt5:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:agnt5:request:{request_id}",
            **self.more,
        }
        return {**members, "errors": self.errors} if self.errors else members

    def response(self, request_id: str) -> Response:
        """As a response."""
        return Response(
            json.dumps(masked_value(self.body(request_id))),  # ASCII only: a detail may quote what is no valid text
            self.status,
            {**self.headers, "X-Request-Id": request_id, "Cache-Control": "no-store"},
            MEDIA_TYPE,
        )


def request_id_of(request: Request) -> str:
    """The request's id: its `X-Request-Id` if that is a plain one, else one that is made here, once."""
    found: str | None = getattr(request.state, "agnt5_request_id", None)
    if found is None:
        given = request.headers.get("x-request-id", "")
        found = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.state.agnt5_request_id = found
    return found


def problem_of(error: Exception, request_id: str) -> Problem:
    """The problem that an error is. What is not a client's fault is logged, and told without its internals."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return _of_http(error)
        case err.Agnt5Error() if (found := _of_ours(error, request_id)) is not None:
            return found
        case _:
            logger.error("request %s failed", request_id, exc_info=error)
            detail = f"The server failed. Its log tells more under the request id {request_id}."
            return Problem(500, "internal-error", "Internal server error", detail)


async def respond(request: Request, error: Exception) -> Response:
    """An exception handler for FastAPI and Starlette apps."""
    request_id = request_id_of(request)
    return problem_of(error, request_id).response(request_id)


def kind_of(error: type[err.Agnt5Error]) -> str:
    """`RunNotFoundError` as `run-not-found`."""
    return re.sub(r"(?<=.)([A-Z])", r"-\1", error.__name__.removesuffix("Error")).lower()


def _of_ours(error: err.Agnt5Error, request_id: str) -> Problem | None:
    cls = next((one for one in type(error).__mro__ if one in _TITLES), None)
    if cls is None:
        return None
    status, title = _TITLES[cls]
    detail = str(error)
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if hidden := _HIDDEN.get(cls):
        logger.warning("request %s: %s", request_id, error)
        detail, headers = hidden, {"Retry-After": str(RETRY_AFTER_S)}
    if isinstance(error, err.ApprovalRefusedError):
        more["reason"] = error.reason
        status = 422 if error.reason == "form" else status
    if isinstance(error, err.ApprovalDecidedError):
        more["decision"] = error.decision
    return Problem(status, kind_of(cls), title, detail, headers=headers, **more)


def _of_http(error: HTTPException) -> Problem:
    status = HTTPStatus(error.status_code)
    kind = status.phrase.lower().replace(" ", "-")
    return Problem(error.status_code, kind, status.phrase, str(error.detail), headers=error.headers)


def _invalid(error: RequestValidationError) -> Problem:
    """Where each fault is, without the value: it may be a secret in the wrong place."""
    faults = [_fault(one["loc"], one["msg"], one.get("ctx", {})) for one in error.errors()]
    first = faults[0]
    place = first.get("pointer") or first.get("parameter", "")
    return Problem(422, "invalid-input", "The request is not valid", f"{place}: {first['detail']}", errors=faults)


def _fault(loc: Sequence[Any], text: str, ctx: Mapping[str, Any]) -> dict[str, str]:
    if loc[0] == "body":
        if "error" in ctx and text == "JSON decode error":
            return {"detail": f"no JSON: {ctx['error']} at character {loc[-1]}", "pointer": "#"}
        path = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in loc[1:])
        return {"detail": text, "pointer": f"#{path}"}
    return {"detail": text, "parameter": ".".join(str(part) for part in loc[1:]), "in": str(loc[0])}

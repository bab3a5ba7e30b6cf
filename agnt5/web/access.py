"""Who makes a request, and whether that one may: FastAPI dependencies for the API's routes and the pages'."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from agnt5.web.identity import Identity, local_identity
from agnt5.web.problems import Problem
from agnt5.web.tokens import VARIABLE, find
from agnt5.web.wiring import web as web_of

CHALLENGE = 'Bearer realm="agnt5"'
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_PROXIED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers that say that somebody else speaks through a proxy on this machine."""

_bearer = HTTPBearer(
    auto_error=False, scheme_name="token", description="A token of `agnt5 tokens new`, as `Authorization: Bearer ...`."
)


async def identity(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Identity:
    """Who makes this request: by `authenticate`, a bearer token, the pages' session, or by being local.

    Raises a 401 problem for nobody and for a wrong token, a 403 problem for a stranger where no tokens are set and
    for a request that another site made a browser send.
    """
    web = web_of(request)
    if web.authenticate is not None and (found := await web.authenticate(request)) is not None:
        return found
    if "authorization" in request.headers and not web.open:
        token = find(web.tokens, credentials.credentials) if credentials else None
        if token is None:
            raise Problem(
                401, "unauthorized", "Unauthorized", "The token is not valid.",
                headers={"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'},
            )  # fmt: skip
        return token.identity
    if web.session is not None and (found := await web.session(request)) is not None:
        _refuse_other_sites(request)
        return found
    if web.open:
        _refuse_strangers(request)
        _refuse_other_sites(request)
        return local_identity()
    raise Problem(
        401, "unauthorized", "Unauthorized", "A token is needed: Authorization: Bearer ...",
        headers={"WWW-Authenticate": CHALLENGE},
    )  # fmt: skip


def needs(*scopes: str) -> Callable[..., Awaitable[Identity]]:
    """A dependency that gives the identity if it has one of these scopes, and raises a 403 problem if not."""

    async def allowed(who: Annotated[Identity, Depends(identity)]) -> Identity:
        if not any(who.may(scope) for scope in scopes):
            wanted = " or ".join(repr(scope) for scope in scopes)
            raise Problem(403, "forbidden", "Forbidden", f"{who.name} has not the scope {wanted}.", scopes=list(scopes))
        return who

    return allowed


Reader = Annotated[Identity, Depends(needs("read"))]
Starter = Annotated[Identity, Depends(needs("start"))]
Signaller = Annotated[Identity, Depends(needs("signal"))]
Decider = Annotated[Identity, Depends(needs("decide"))]
Onlooker = Annotated[Identity, Depends(needs("read", "decide"))]
Admin = Annotated[Identity, Depends(needs("admin"))]


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, for this machine, and not through a proxy.

    The Host header is looked at because a web page can bind its own name to 127.0.0.1 (DNS rebinding).
    """
    client = request.client.host if request.client else ""
    host = request.headers.get("host", "")
    return _is_loopback(client) and _is_loopback(_name(host)) and not any(name in request.headers for name in _PROXIED)


def _refuse_strangers(request: Request) -> None:
    if not is_local(request):
        raise Problem(
            403, "no-tokens", "Only this machine may use it",
            f"No tokens are set, so that only requests from and to this machine itself are served. Set {VARIABLE},"
            " or create_api(tokens=...); `agnt5 tokens new` makes them.",
        )  # fmt: skip


def _refuse_other_sites(request: Request) -> None:
    """What a browser sends on its own, another site can make it send."""
    if request.method in SAFE:
        return
    if has_other_origin(request) or request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        raise Problem(403, "cross-site", "Refused", "Another site made the browser send this request.")


def has_other_origin(request: Request) -> bool:
    """Whether a browser says that a page of another site made it send this."""
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host", "")


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """The name of a Host header, without the port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host

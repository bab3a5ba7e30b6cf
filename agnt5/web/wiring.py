"""What all routes of one API share, and how they get it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from starlette.requests import Request

from agnt5.client import AsyncClient
from agnt5.contracts.budgets import BUDGET_HEADER
from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.settings import Settings
from agnt5.web.identity import Identity
from agnt5.web.stopping import Stopping
from agnt5.web.tokens import Token

ALLOWED_HEADERS = frozenset(
    {"accept-language", "traceparent", "tracestate", "user-agent", "x-correlation-id", "x-request-id"}
)
"""Headers of a request that reach `ctx.headers()` of the run that it starts."""

_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"})

Authenticate = Callable[[Request], Awaitable[Identity | None]]
"""Tells who makes a request; None: nobody that it knows."""


@dataclass(eq=False)
class Web:
    """One API: its settings, who may use it, its client. On `app.state.agnt5`; routes get it by `web(request)`.

    `session` is set by the pages: who a browser's session cookie stands for. `given` is a client that the caller owns
    and closes; without it `make` gives each event loop a client of its own.
    """

    settings: Settings
    make: Callable[[], AsyncClient] = field(repr=False)  # holds a URL with its password
    tokens: tuple[Token, ...] = ()
    authenticate: Authenticate | None = None
    headers: frozenset[str] = ALLOWED_HEADERS
    prefix: str = ""
    given: AsyncClient | None = None
    session: Authenticate | None = None
    _own: AsyncClient | None = field(default=None, repr=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, repr=False)
    _stopping: Stopping | None = field(default=None, repr=False)

    @property
    def client(self) -> AsyncClient:
        """The client of the running loop. It connects on first use."""
        if self.given is not None:
            return self.given
        loop = asyncio.get_running_loop()
        if self._own is None or self._loop is not loop:  # a test client has a loop for each request
            self._own, self._loop = self.make(), loop
        return self._own

    @property
    def stopping(self) -> Stopping:
        """By which requests of the running loop wait, so that a server that stops need not wait for them."""
        if self._stopping is None or self._stopping.loop is not asyncio.get_running_loop():
            self._stopping = Stopping()
        return self._stopping

    @property
    def open(self) -> bool:
        """Whether nobody can log in, so that only this machine may use it."""
        return not self.tokens and self.authenticate is None

    async def close(self) -> None:
        """Close the client that was opened here. Apps and routers do it when they shut down; a mounted app's parent
        calls it.
        """
        if self._own is not None and self._loop is asyncio.get_running_loop():
            await self._own.close()
        self._own = self._loop = None


def web(request: Request) -> Web:
    """The `Web` of the API that a request came to. A dependency: `Annotated[Web, Depends(web)]`."""
    found = getattr(request.state, "agnt5", None) or getattr(request.app.state, "agnt5", None)
    assert isinstance(found, Web), "the route belongs to no agnt5 API"
    return found


def checked_headers(names: Iterable[str]) -> frozenset[str]:
    """An allow list of headers. Raises `ConfigurationError` for credentials, and for what no stranger may set."""
    found = frozenset(name.lower() for name in names)
    if bad := sorted(found & _CREDENTIALS):
        raise ConfigurationError(f"headers: {bad[0]!r} is a credential and would be stored with the run; leave it out")
    if BUDGET_HEADER in found:
        raise ConfigurationError(f"headers: {BUDGET_HEADER!r} is set by client.start(budget=...) only; leave it out")
    return found

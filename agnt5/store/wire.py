"""One connection to Redis as an asyncio protocol over hiredis: bytes out, parsed replies in.

redis-py spends 100 to 170 us of CPU on an awaited call and 30 or more on a pipelined one; this path spends 7
when the calls of one loop tick share a write. The worker's rate is bound by exactly that, hence our own.
URLs are parsed by redis-py, so that every form which it takes is taken here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import hiredis

from agnt5.contracts.errors import ConfigurationError, StoreUnavailableError

CONNECT_TIMEOUT_S = 5.0


def pack(args: tuple[str | bytes | float, ...]) -> bytes:
    """A command in the protocol's bytes."""
    data: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]  # its stub says a tuple of one
    return data


class Wire(asyncio.Protocol):
    """A connected socket. `on_reply` gets every parsed reply, `on_lost` is called once when it is gone.

    After `drop` no reply is given any more, not even one that the same packet brought: whoever drops a wire has
    taken its calls back, and a late reply would answer the wrong one.
    """

    def __init__(self, on_reply: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._reader = hiredis.Reader()
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._dropped = False

    @property
    def open(self) -> bool:
        """False once it was dropped or lost."""
        return self._transport is not None and not self._dropped

    def listen(self, on_reply: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        """Give what comes from now on to somebody else."""
        self._on_reply, self._on_lost = on_reply, on_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        while not self._dropped and (reply := reader.gets()) is not False:
            self._on_reply(reply)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._transport = None
        self._on_lost()

    def write(self, data: bytes) -> None:
        """Send bytes; silently nothing after the connection was lost (its owner sends again)."""
        if self._transport is not None:
            self._transport.write(data)

    def drop(self) -> None:
        """Cut the connection at once."""
        self._dropped = True
        if self._transport is not None:
            self._transport.abort()


class Address:
    """Where a Redis is, from a `redis://`, `rediss://` or `unix://` URL."""

    def __init__(self, url: str, name: str) -> None:
        from redis.asyncio.connection import parse_url  # noqa: PLC0415 - a heavy import, first needed here

        try:
            parts: dict[str, Any] = dict(parse_url(url))
        except ValueError as error:
            raise ConfigurationError(f"redis_url {url.partition('@')[2] or url!r}: {error}") from None
        self.path: str | None = parts.get("path")
        self.host: str = parts.get("host", "localhost")
        self.port = int(parts.get("port", 6379))
        self.tls = _tls(parts) if url.startswith("rediss") else None
        self._database = int(parts.get("db") or 0)
        self._greeting = _greeting(parts, name)

    @property
    def place(self) -> tuple[str, int]:
        """Server and database: equal for two URLs that lead to the same keys."""
        return str(self), self._database

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    async def connect(self, on_reply: Callable[[Any], None], on_lost: Callable[[], None]) -> Wire:
        """Open and greet. Raises `OSError` when nobody answers, `ConfigurationError` when we are refused.

        `on_lost` is called only for a wire that was returned: a half-made one says nothing to anybody.
        """
        loop = asyncio.get_running_loop()
        greeted: asyncio.Future[None] = loop.create_future()
        answers: list[Any] = []

        def answer(reply: Any) -> None:
            answers.append(reply)
            if len(answers) == len(self._greeting) and not greeted.done():
                greeted.set_result(None)

        def lost() -> None:
            if not greeted.done():
                greeted.set_exception(ConnectionResetError(f"{self} closed the connection"))

        wire = Wire(answer, lost)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._open(wire)
                wire.write(b"".join(pack(command) for command in self._greeting))
                await greeted
            self._check(wire, answers)
        except BaseException:
            wire.drop()
            raise
        wire.listen(on_reply, on_lost)
        return wire

    def _check(self, wire: Wire, answers: list[Any]) -> None:
        for answer in answers:
            if isinstance(answer, Exception):
                raise _refusal(answer, self)
        if not wire.open:  # lost since the last answer
            raise ConnectionResetError(f"{self} closed the connection")

    async def _open(self, wire: Wire) -> None:
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(lambda: wire, self.path)
        else:
            await loop.create_connection(lambda: wire, self.host, self.port, ssl=self.tls)


def _greeting(parts: dict[str, Any], name: str) -> list[tuple[str, ...]]:
    greeting: list[tuple[str, ...]] = []
    if password := parts.get("password"):
        user = parts.get("username")
        greeting.append(("AUTH", user, password) if user else ("AUTH", password))
    if db := parts.get("db"):
        greeting.append(("SELECT", str(db)))
    greeting.append(("CLIENT", "SETNAME", name))
    return greeting


def _tls(parts: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=parts.get("ssl_ca_certs"))
    if parts.get("ssl_certfile"):
        context.load_cert_chain(parts["ssl_certfile"], parts.get("ssl_keyfile"))
    if parts.get("ssl_cert_reqs") in {"none", "CERT_NONE"}:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _refusal(error: Exception, address: Address) -> Exception:
    text = str(error)
    if text.startswith(("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR DB", "ERR invalid")):
        return ConfigurationError(
            f"Redis at {address} refused us: {text}; check the user, password and database of redis_url"
        )
    if text.startswith(("LOADING", "MASTERDOWN", "BUSY")):
        return ConnectionResetError(text)  # it will serve soon: worth another try
    return StoreUnavailableError(f"Redis at {address}: {text}")

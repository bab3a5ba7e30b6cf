"""`agnt5 web` and `agnt5 tokens`: the HTTP API as a process, and who may use it."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from agnt5.cli.output import as_json, err, line, styled
from agnt5.cli.place import chosen_url
from agnt5.contracts.errors import ConfigurationError
from agnt5.telemetry import metrics_endpoint
from agnt5.telemetry.logs_format import set_up

GRACE_S = 5
"""How long open requests may take to end at shutdown."""

BACKLOG = 512


def serve(
    url: str | None, *, host: str, port: int, tokens: Path | None, pages: bool, level: str = "INFO"
) -> None:  # fmt: skip
    """Serve the API (and the pages) until Ctrl-C or SIGTERM; a Ctrl-C while it stops ends the process at once."""
    try:
        import uvicorn  # noqa: PLC0415

        from agnt5.web import create_api  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(f"{error.name} is not installed; pip install 'agnt5-celery[web]'") from None
    chosen = chosen_url(url)
    given: dict[str, Any] = {} if chosen is None else {"redis_url": chosen}
    api = create_api(tokens=tokens, pages=pages, **given)
    if api.state.agnt5.open and not _is_loopback(host):
        raise ConfigurationError(
            f"--host {host} can be reached from other machines and no tokens are set: anybody could start runs;"
            " make tokens with `agnt5 tokens new` and name their file by --tokens or AGNT5_API_TOKENS"
        )
    listener = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    line(f"agnt5 web: http://{shown}:{listener.getsockname()[1]}")
    sys.stdout.flush()
    set_up(api.state.agnt5.settings.log_format, level)
    metrics_endpoint.prepare(api.state.agnt5.settings, "web")
    metrics_endpoint.serve(api.state.agnt5.settings)
    config = uvicorn.Config(
        api,
        log_config=None,
        proxy_headers=False,  # who speaks through a proxy is not of this machine
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.should_exit and sig == signal.SIGINT:
                _end_at_once()
            super().handle_exit(sig, frame)

    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
        Server(config).run(sockets=[listener])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an impatient Ctrl-C finds nothing left to interrupt


def _end_at_once() -> None:
    """End as a process does that handles no signals. All that lasts is in Redis, so nothing needs to be put away."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


def new_token(name: str, *, roles: Sequence[str], scopes: Sequence[str]) -> None:
    """Print a fresh token, once, and its entry for the file of tokens."""
    try:
        from agnt5.web import tokens  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(f"{error.name} is not installed; pip install 'agnt5-celery[web]'") from None
    secret, token = tokens.new_token(name, roles, scopes)
    err().print(styled("The token, shown this once:", "note"))
    line(secret)
    err().print(styled("Its entry for the list in the file that AGNT5_API_TOKENS names:", "note"))
    line(as_json(tokens.entry_of(token), indent=None))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # with the protocol named: else asyncio does not set TCP_NODELAY, and each answer waits 40 ms for an ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --port"
        ) from None
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

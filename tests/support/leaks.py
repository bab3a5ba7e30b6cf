"""Looks for the tests' secrets in all that is left behind: data of servers, Celery's events, what processes write.

Servers and processes of the kits are watched while they live. After each test what is new is searched, and the test
fails that left a secret there. Data of a server is read from its append-only file: everything that was ever written,
also what was deleted meanwhile. A test that plants a leak on purpose says so: `@pytest.mark.leaks`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from support.secret_values import FORMS

_OVERLAP = max(map(len, FORMS)) - 1
_CHUNK = 4 << 20
_AROUND = 120
_SYNC_S = 0.5


def leaks_in(data: bytes, where: str) -> list[str]:
    """A sentence for each form of a secret that is in the data."""
    found = []
    for form in FORMS:
        at = data.find(form)
        if at >= 0:
            shown = data[max(0, at - _AROUND) : at + _AROUND].decode(errors="replace")
            found.append(f"{where} holds a secret of the tests: ...{shown}...")
    return found


class Files:
    """Files that grow: each byte is searched once, and those at the seams twice."""

    def __init__(self, where: str, folder: Path, pattern: str) -> None:
        self._where = where
        self._folder = folder
        self._pattern = pattern
        self._read: dict[tuple[str, int], int] = {}

    def look(self) -> list[str]:
        """The leaks in what was written since the last look."""
        found: list[str] = []
        for path in self._folder.glob(self._pattern):
            try:
                with path.open("rb") as file:
                    found += self._search(path, file)
            except FileNotFoundError:  # the server has rewritten it meanwhile
                continue
        return found

    def close(self) -> None:
        """Nothing is open."""

    def _search(self, path: Path, file) -> Iterator[str]:
        stat = path.stat()
        place = (path.name, stat.st_ino)
        at = self._read.get(place, 0)
        if stat.st_size <= at:
            return
        file.seek(max(0, at - _OVERLAP))
        tail = b""
        while data := file.read(_CHUNK):
            yield from leaks_in(tail + data, f"{self._where}, {path.name},")
            tail = data[-_OVERLAP:]
        self._read[place] = file.tell()


class Data(Files):
    """What was ever written to a server: its append-only file."""

    def __init__(self, folder: Path, port: int, policy: str = "everysec") -> None:
        super().__init__(f"the data of the server on port {port}", folder / "appendonlydir", "*.aof")
        self._port = port
        self._policy = policy

    def look(self) -> list[str]:
        """With `everysec` a server may hold writes back while its disk is busy: it is made to write them."""
        if self._policy != "everysec":
            return super().look()
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=_SYNC_S) as server:
                server.sendall(b"CONFIG SET appendfsync no\r\n")
                server.recv(100)  # by now it has written
                server.sendall(b"CONFIG SET appendfsync everysec\r\n")
                server.recv(100)
        except OSError:  # killed or paused: what it has written is there
            pass
        return super().look()


class Events:
    """The event stream of Celery on one server, as its watchers get it: bodies are in base64, which is searched too."""

    def __init__(self, where: str, port: int) -> None:
        self._where = where
        self._port = port
        self._found: list[str] = []
        self._synced = threading.Event()
        self._socket: socket.socket | None = None

    def connect(self) -> Events:
        """Listen; after a restart of the server again."""
        self.close()
        try:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_SYNC_S)
            self._socket.settimeout(None)
            self._socket.sendall(b"CLIENT SETNAME leaks\r\nPSUBSCRIBE *celeryev*\r\n")
        except OSError:  # it was killed; who starts it again calls this again
            self._socket = None
            return self
        threading.Thread(target=self._listen, args=[self._socket], name="leaks", daemon=True).start()
        return self

    def look(self) -> list[str]:
        """The leaks in all events that were sent before."""
        if self._socket is not None:
            self._synced.clear()
            try:
                self._socket.sendall(b"PING leaks-so-far\r\n")
                self._synced.wait(_SYNC_S)
            except OSError:
                self._socket = None
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _listen(self, ours: socket.socket) -> None:
        tail = b""
        try:
            while data := ours.recv(65_536):
                both = tail + data
                self._found += leaks_in(both, f"{self._where}, an event of Celery,")
                if b"leaks-so-far" in both:
                    both = b""
                    self._synced.set()
                tail = both[-_OVERLAP:]
        except OSError:
            pass
        self._synced.set()


class Leaks:
    """All that is watched, and what was found and not told yet."""

    def __init__(self) -> None:
        self._watched: list[Files | Events] = []
        self._found: list[str] = []

    def watch(self, *sources: Files | Events) -> Callable[[], None]:
        """Search these after each test. Call what this returns before they are gone: it takes a last look."""
        self._watched += sources

        def end() -> None:
            for source in sources:
                if source in self._watched:
                    self._found += source.look()
                    source.close()
                    self._watched.remove(source)

        return end

    def search(self, where: str, text: str) -> None:
        """Search what a process said."""
        self._found += leaks_in(text.encode("utf-8", "replace"), where)

    def look(self) -> list[str]:
        """All leaks since the last look."""
        found = [*self._found, *(one for source in self._watched for one in source.look())]
        self._found = []
        return found


LEAKS = Leaks()
"""Of this process."""

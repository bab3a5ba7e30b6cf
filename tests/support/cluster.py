"""Real `celery worker` and `celery beat` processes on a real Valkey: to start, kill, freeze, thaw and restart.

A `Cluster` has a server of its own and a folder with the Celery app that its processes load. Nothing here sleeps for
a time: what has to be waited for is looked at until it is so.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import redis
from celery import Celery
from support.doctor import examine
from support.leaks import LEAKS, Files
from support.server import Server
from support.waiting import until_sync
from support.warm import NURSERY, WarmProcess

from agnt5 import Client
from agnt5.client.doctor import examine_with
from agnt5.contracts.ids import queue_of, shard_of
from agnt5.store import keys

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
START_S = 40.0
TAIL = 5000

APP = """\
import os
import threading
import time

from agnt5.app import create_app


def end_with(parent):
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()
app = create_app(modules={modules!r})
"""
"""What the processes load. They end with the test run, however that ends."""


class Node:
    """One Celery process under its name. Restarted, it keeps the name and its log goes on."""

    def __init__(self, cluster: Cluster, name: str, arguments: list[str], is_ready: Callable[[Node], Any]) -> None:
        self.cluster = cluster
        self.name = name
        self.env: dict[str, str] = {}
        self._arguments = arguments
        self._is_ready = is_ready
        self._log = cluster.folder / f"{name}.log"
        self._from = 0
        self._process: WarmProcess | None = None
        self.ready_s = 0.0

    # ---- life

    def spawn(self) -> Node:
        """Start, without waiting until it is ready."""
        self._from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = NURSERY.start(
                "celery",
                ["-A", "cluster_app", *self._arguments],
                env={**os.environ, **self.cluster.env, **self.env},
                cwd=self.cluster.folder,
                output=log,
                needs=self.cluster.needs,
            )
        self._started = time.monotonic()
        return self

    def wait_ready(self, timeout: float = START_S) -> Node:
        """Wait until it takes part; fails with its log when it ends instead."""

        def ready() -> bool:
            assert self.alive, f"{self.name} ended:\n{self.output()[-TAIL:]}"
            return bool(self._is_ready(self))

        until_sync(ready, timeout, f"{self.name} is ready")
        self.ready_s = time.monotonic() - self._started
        return self

    def start(self) -> Node:
        """Start, and wait until it is ready."""
        return self.spawn().wait_ready()

    def restart(self) -> Node:
        """Start again under the same name."""
        assert not self.alive, f"{self.name} still runs"
        return self.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (a frozen one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        return None if self._process is None else self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL: no time for a last word."""
        self.signal(signal.SIGKILL)
        self.wait_end()

    def freeze(self) -> None:
        """SIGSTOP: to others it looks dead, and it does not know."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def terminate(self, timeout: float = 30.0) -> None:
        """SIGTERM, a warm shutdown; returns when it has ended."""
        self.signal(signal.SIGTERM)
        self.wait_end(timeout)

    def wait_end(self, timeout: float = 30.0) -> int:
        """Wait until the process is gone."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended after {timeout:g} s:\n{self.output()[-TAIL:]}") from None

    def end(self) -> None:
        """End the process and its children, whatever state they are in."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    # ---- what it says

    def output(self) -> str:
        """All it has written since its latest start."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode(errors="replace")

    def says(self, text: str, timeout: float = 10.0) -> None:
        """Wait until its log has this."""
        until_sync(lambda: text in self.output(), timeout, f"{self.name} says {text!r}")

    def __repr__(self) -> str:
        return f"<{self.name} {self.pid if self._process else 'not started'}>"


class Cluster:
    """A server, workers and beats. `modules` hold the handlers; they are found in `paths` and in the tests' folder.

    `env` has settings for all processes and for the client, as `AGNT5_*` variables; `needs` names what their workers
    have imported before they start (`support.warm`).
    """

    running: ClassVar[list[Cluster]] = []

    def __init__(
        self, modules: Iterable[str] = (), *, paths: Iterable[Path] = (), server: Server | None = None,
        needs: Iterable[str] = (), **env: Any,
    ) -> None:  # fmt: skip
        self._temporary = tempfile.TemporaryDirectory(prefix="agnt5-cluster-")
        self.folder = Path(self._temporary.name)
        self.server = (server or Server()).start()
        self.nodes: list[Node] = []
        self.needs = list(needs)
        self.settings = {name: str(value) for name, value in env.items()}
        places = [self.folder, *paths, TESTS, ROOT]
        self.notes = self.folder / "notes"
        self.notes.mkdir()
        self.env = {
            "AGNT5_REDIS_URL": self.server.url,
            "AGNT5_TEST_NOTES": str(self.notes),
            "PYTHONPATH": os.pathsep.join(str(place) for place in places),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.settings,
        }
        (self.folder / "cluster_app.py").write_text(APP.format(modules=list(modules)))
        self._client: Client | None = None
        self._plain: Celery | None = None
        self._unwatch = LEAKS.watch(Files("what a process wrote", self.folder, "*.log"))
        Cluster.running.append(self)

    # ---- processes

    def worker(
        self, name: str = "w1", *options: str, pool: str | None = None, concurrency: int | None = None, **env: Any
    ) -> Node:
        """A worker, not started yet. Without `pool` it is agnt5's own."""
        arguments = ["worker", "-n", f"{name}@%h", "-l", "info", "--without-mingle", *options]
        if pool is not None:
            arguments += ["-P", pool]
        if concurrency is not None:
            arguments += ["-c", str(concurrency)]
        return self._node(
            name, arguments, lambda node: f"{name}@" in (said := node.output()) and " ready." in said, env
        )

    def beat(self, name: str = "beat", **env: Any) -> Node:
        """A beat, not started yet."""
        return self._node(name, ["beat", "-l", "info", "-s", str(self.folder / name)], self._hears, env)

    def _node(self, name: str, arguments: list[str], is_ready: Callable[[Node], Any], env: dict[str, Any]) -> Node:
        node = Node(self, name, arguments, is_ready)
        node.env = {key: str(value) for key, value in env.items()}
        self.nodes.append(node)
        return node

    def _hears(self, _: Node) -> bool:
        """Every beat that runs listens for nudges."""
        beats = [node for node in self.nodes if node._arguments[0] == "beat" and node.alive]
        _, listeners = self.admin.pubsub_numsub("agnt5:beat")[0]
        return int(listeners) >= len(beats)

    def start(self, *nodes: Node) -> Cluster:
        """Start nodes side by side, and wait until all are ready."""
        for node in nodes:
            node.spawn()
        for node in nodes:
            node.wait_ready()
        return self

    def remove(self, node: Node) -> None:
        """End a node for good."""
        node.end()
        self.nodes.remove(node)

    def close(self) -> None:
        """End everything."""
        Cluster.running.remove(self)
        if self._client is not None:
            self._client.close()
        if self._plain is not None:
            self._plain.close()
        for node in self.nodes:
            node.end()
        self._unwatch()
        self.server.stop()
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- those who look at it

    @property
    def client(self) -> Client:
        """A client of the store."""
        if self._client is None:
            settings = {name.removeprefix("AGNT5_").lower(): value for name, value in self.settings.items()}
            self._client = Client(self.server.url, **settings)
        return self._client

    @property
    def admin(self) -> redis.Redis:
        """A plain connection, to look and to set traps."""
        return self.server.admin

    @property
    def celery(self) -> Celery:
        """What a program has that knows nothing of agnt5: Celery with a broker address."""
        if self._plain is None:
            self._plain = Celery("stranger", broker=self.server.url, set_as_current=False)
        return self._plain

    @property
    def shards(self) -> int:
        """How many shards the store has."""
        return int(self.settings.get("AGNT5_SHARDS", 16))

    def timers(self, run_id: str) -> dict[str, int]:
        """The timers that are set for a run: member -> due ms."""
        key = keys.timers(shard_of(run_id, self.shards))
        found = {member.decode(): int(due) for member, due in self.admin.zrange(key, 0, -1, withscores=True)}
        return {member: due for member, due in found.items() if member.split("|")[1] == run_id}

    def one_timer(self, run_id: str) -> int:
        """Wait until exactly one timer is set for a run, and give its due ms."""
        return next(iter(until_sync(lambda: len(set_ := self.timers(run_id)) == 1 and set_, 10.0).values()))

    def hurry(self, run_id: str) -> None:
        """Make a run's timers due now, and tell the beats."""
        key = keys.timers(shard_of(run_id, self.shards))
        self.admin.zadd(key, dict.fromkeys(self.timers(run_id), self.now_ms() - 1), xx=True)
        self.admin.publish(keys.BEAT_CHANNEL, "1")

    def now_ms(self) -> int:
        """The server's time."""
        seconds, micros = self.admin.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def field(self, run_id: str, name: str) -> str | None:
        """One field of a run's record."""
        value = self.admin.hget(keys.run(run_id, self.shards), name)
        return None if value is None else value.decode()

    def messages(self, service: str) -> int:
        """Celery messages that wait in a service's queue, all priorities together."""
        queue = queue_of(service)
        return sum(self.admin.llen(name) for name in (queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))))

    def sound(self, timeout: float = 15.0) -> None:
        """Wait until nothing is wrong with the store as a whole; fails with what is."""
        found: list[str] = []

        def nothing() -> bool:
            hosts = {name.decode() for name in self.admin.zrange(keys.hosts(), 0, -1)}
            found[:] = examine(self.admin, hosts=hosts)
            if not found:
                told = self.client.call(lambda client: examine_with(client, settle_s=0.05))
                found[:] = [str(finding) for finding in told if finding.severity == "error"]
            return not found

        try:
            until_sync(nothing, timeout, "the store is sound")
        except AssertionError:
            raise AssertionError("\n".join(found)) from None

    # ---- the outside world

    def noted(self, name: str) -> list[str]:
        """The lines that handlers wrote with `note(name, ...)`."""
        return _lines(self.notes / name)

    def logs(self) -> str:
        """The ends of all logs, without the banners."""
        return "\n".join(f"--- {node!r}\n{_said(node)[-TAIL:]}" for node in self.nodes)


def figure(text: str) -> None:
    """A measured figure, for the record (shown with `-s`, or when the test fails)."""
    sys.stdout.write(f"{text}\n")


def note(name: str, line: object = "") -> None:
    """For handlers: append a line to a file outside of the store, as an effect that cannot be taken back."""
    path = Path(os.environ["AGNT5_TEST_NOTES"]) / name
    handle = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def noted(name: str) -> list[str]:
    """For handlers: the lines that were written so far, by any process."""
    return _lines(Path(os.environ["AGNT5_TEST_NOTES"]) / name)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _said(node: Node) -> str:
    lines = node.output().splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r" ?-|\s*\.|\s*$|__|\[|LocalTime|Configuration", line))


@contextmanager
def cluster_of(*modules: str, paths: Iterable[Path] = (), **env: Any) -> Iterator[Cluster]:
    """A cluster with one worker and one beat, ready."""
    with Cluster(modules, paths=paths, **env) as cluster:
        yield cluster.start(cluster.worker(), cluster.beat())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """A failed test shows what the processes said. For the `conftest.py` of folders with clusters."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for cluster in Cluster.running:
            report.sections.append(("processes", cluster.logs()))

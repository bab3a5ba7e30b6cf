"""Python processes that are forked from a warm one, which spares each its imports.

`celery worker` takes a second to import what it needs, the command line most of one and LiteLLM five, and hundreds of
processes are tested. What a forked process does from there on is what `python -m <module>` does: its own arguments,
folder, environment, session and exit code. Cold starts are tested by `agnt5 dev`, the demo and the services of compose.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from support.leaks import LEAKS

TIMEOUT_S = 60
LOOK_S = 0.003

NEEDED = {
    "agnt5.cli": [
        "agnt5.cli.main", "agnt5.cli.approvals", "agnt5.cli.commands", "agnt5.cli.config", "agnt5.cli.doctor",
        "agnt5.cli.entities", "agnt5.cli.logs", "agnt5.cli.output", "agnt5.cli.show", "agnt5.client",
        "agnt5.client.sync", "rich.console", "rich.table",
    ],
    "celery": [
        "celery.bin.celery", "celery.apps.beat", "celery.apps.worker", "celery.bin.beat", "celery.bin.worker",
        "celery.backends.redis", "celery.concurrency.prefork", "celery.concurrency.solo", "celery.concurrency.thread",
        "agnt5.app", "agnt5.runtime.backend", "agnt5.runtime.beat", "agnt5.runtime.pool", "agnt5.runtime.worker",
    ],
    "agnt5.web": ["agnt5.web", "fastapi", "sse_starlette", "uvicorn"],
    "litellm": ["jsonschema", "litellm", "litellm.main"],
}  # fmt: skip
"""What the warm process imports before it first forks one of these."""


class WarmProcess:
    """A forked process, with what of `subprocess.Popen` the tests use."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """Wait until it has ended. Raises `subprocess.TimeoutExpired`."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"the warm process {self.pid}", timeout)
            time.sleep(LOOK_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The warm process of these tests; it starts with the first that is asked for, and ends with them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def start(
        self, module: str, arguments: list[str], *, cwd: Path, env: dict[str, str], output: IO[Any],
        errors: IO[Any] | None = None, given: IO[Any] | None = None, needs: Iterable[str] = (),
    ) -> WarmProcess:  # fmt: skip
        """Start `python -m <module> <arguments>` in a session of its own. Without `errors` they go to the output."""
        files = [Path(file.name).resolve() if file else None for file in (given, output, errors or output)]
        pid = self.ask(
            module=module, arguments=arguments, cwd=str(cwd), env=env, needs=[module, *needs],
            files=[str(file or os.devnull) for file in files],
        )  # fmt: skip
        return WarmProcess(self, pid)

    def ask(self, **asked: Any) -> Any:
        """What the warm process answers."""
        with self._lock:
            if self._process is None:
                self._process = self._spawn()
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        assert answer, "the process that forks others has ended"
        return json.loads(answer)

    def _spawn(self) -> subprocess.Popen[str]:
        env = {name: text for name, text in os.environ.items() if not name.startswith(("AGNT5_", "OTEL_"))}
        return subprocess.Popen(
            [sys.executable, "-m", "support.warm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True, env={**env, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent)])},
        )  # fmt: skip


NURSERY = Nursery()


def run_command(words: list[str], *, cwd: Path, env: dict[str, str], stdin: str = "") -> tuple[int, str, str]:
    """Exit code, output and errors of `agnt5 <words>`."""
    with ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.NamedTemporaryFile("w+")) for _ in range(3))
        given.write(stdin)
        given.flush()
        code = NURSERY.start("agnt5.cli", words, cwd=cwd, env=env, given=given, output=out, errors=err).wait()
        said = [Path(file.name).read_text(errors="replace") for file in (out, err)]
    LEAKS.search(f"what `agnt5 {' '.join(words)}` wrote", "".join(said))
    return code, *said


# ---- in the warm process


def serve() -> dict[str, Any] | None:
    """Fork a process, or tell how one has ended, for each line of input. In a fork it returns what it is to become."""
    codes: dict[int, int] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if pid := asked.get("poll"):
            if pid not in codes and (found := os.waitpid(pid, os.WNOHANG)) != (0, 0):
                codes[pid] = os.waitstatus_to_exitcode(found[1])
            _answer(codes.get(pid))
        elif _fork(asked["needs"]) == 0:
            os.setsid()
            _answer(os.getpid())
            return asked
    return None


def _answer(what: int | None) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _fork(needs: list[str]) -> int:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches prices in a thread
    for module in [module for name in needs for module in NEEDED.get(name, []) if module not in sys.modules]:
        importlib.import_module(module)
    assert threading.active_count() == 1, "only a process of one thread may be forked"
    gc.freeze()
    return os.fork()


def become(asked: dict[str, Any], path: list[str]) -> None:
    """Be `python -m <module>` from here on."""
    for number, name in enumerate(asked["files"]):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", 1), open(2, "w", 1)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.path[:] = [asked["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
    if action := os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter(action)
    importlib.invalidate_caches()
    sys.argv = [asked["module"], *asked["arguments"]]
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    usual = sys.path[1:]
    if told := serve():
        become(told, usual)

"""`agnt5 demo`: a workflow over a folder of files survives the SIGKILL of its worker, and proves it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnt5.cli.embedded import Embedded, free_port
from agnt5.cli.output import err, line, styled
from agnt5.cli.processes import Child, beat_command, can_serve, wait_until, web_command, worker_command
from agnt5.cli.proof import Check, checks
from agnt5.cli.second_act import SecondAct
from agnt5.cli.show import print_timeline
from agnt5.client import Client, Run
from agnt5.client.moments import collapse
from agnt5.client.timeline import timeline
from agnt5.contracts.errors import ConfigurationError
from agnt5.demo.analysis import list_files
from agnt5.replay import events as ev

APP = "agnt5.demo.app"
RUN_ID = "demo"
START_S = 20.0
LIMIT_S = 60.0
REST_MS = 1500
LEAST_FILES = 4
EXAMPLE = Path("examples/agent.py")
"""What to look at next, where agnt5 is checked out and this is its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to analyse, and how slowly."""

    folder: Path | None
    report: Path
    limit: int = 400
    pace_s: float = 0.2


def run_demo(plan: Plan) -> int:
    """Run it; gives 0 only when everything that it promises was true."""
    folder = (plan.folder or _own_folder()).resolve()
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder")
    files = list_files(str(folder), plan.limit)
    if len(files) < LEAST_FILES:
        raise ConfigurationError(f"{folder} has {len(files)} text files; the demo needs at least {LEAST_FILES}")
    with ExitStack() as stack:
        usual = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all that was started is ended
        stack.callback(signal.signal, signal.SIGTERM, usual)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agnt5-demo-")))
        demo = _Demo(plan, folder, files, scratch, stack)
        try:
            return demo.run()
        except ConfigurationError:
            demo.tell_logs()
            raise


def _own_folder() -> Path:
    """The project that agnt5 is checked out in, or else the installed package itself."""
    package = Path(__file__).parent.parent
    return package.parent if (package.parent / "pyproject.toml").exists() else package


def _tell_next() -> None:
    """How to go on, for those who have the examples here."""
    if not EXAMPLE.exists():
        return
    place = "" if shutil.which("agnt5") else f"{os.path.relpath(Path(sys.executable).parent)}/"
    line()
    line(("next: an agent with tools, a memory and a person who agrees; it needs no key", "bold"))
    line(f"    {place}agnt5 dev -A examples.agent")
    line(f"    {place}python {EXAMPLE}     (in another terminal, to talk to it)")


class _Demo:
    """One run of the demo: its server, its processes, what it saw."""

    def __init__(self, plan: Plan, folder: Path, files: list[str], scratch: Path, stack: ExitStack) -> None:
        self._plan = plan
        self._folder = folder
        self._files = files
        self._effects = scratch / "side-effects.jsonl"
        self._scratch = scratch
        self._stack = stack
        self._begun_s = time.monotonic()
        self._children: list[Child] = []
        self._url = ""
        self._site = ""

    def run(self) -> int:
        self._say(f"{len(self._files)} text files in {self._folder}")
        embedded = Embedded(self._scratch / "valkey")
        embedded.start()
        self._stack.callback(embedded.stop)
        self._url = embedded.url
        beat = self._start("beat", beat_command(APP, level="WARNING"))
        web = self._start_web()
        worker = self._worker()
        self._say(f"embedded Valkey with AOF at {self._url}, celery beat is {beat.pid}, celery worker is {worker.pid}")
        client = self._stack.enter_context(Client(self._url))
        run: Run = client.start("demo.describe_folder", self._input(), id=RUN_ID)
        self._say(
            f"started run {run.id}: one task for each file, slowed down by about {self._plan.pace_s:g} s to be watched"
        )

        self._tell_site(web)
        self._follow(run, len(self._files) // 2)
        wait_until(lambda: len(self._effect_lines()) > self._recorded(run), 5.0, poll_s=0.005)  # files in its hands
        killed_ms = time.time_ns() // 1_000_000
        worker.kill()
        self._say(f"killed worker {worker.pid} with SIGKILL, half-way", "bold red")
        second = self._worker()
        self._say(
            f"a new worker, {second.pid}, takes over: it replays the journal and goes on where the run was", "green"
        )
        self._follow(run, len(self._files))
        self._finish(run)
        found = self._look_back(client, run, killed_ms=killed_ms)
        if self._site:
            found += SecondAct(client, self._site, pace_s=self._plan.pace_s, say=self._say).play()
        found.append(self._stuck(client))
        return self._conclude(found)

    def _input(self) -> dict[str, Any]:
        return {
            "folder": str(self._folder),
            "effects": str(self._effects),
            "report": str(self._plan.report.resolve()),
            "limit": self._plan.limit,
            "pace_s": self._plan.pace_s,
            "rest_ms": REST_MS,
        }

    # ---- processes

    def _worker(self) -> Child:
        worker = self._start("worker", worker_command(APP, node="demo", level="INFO"))
        if (
            not wait_until(lambda: worker.said(" ready.") or worker.code is not None, START_S)
            or worker.code is not None
        ):
            raise ConfigurationError(f"the worker did not become ready within {START_S:g} s")
        return worker

    def _start_web(self) -> Child | None:
        if not can_serve():
            self._say("no pages and no second act: pip install 'agnt5-celery[web]'")
            return None
        port = free_port()
        self._site = f"http://127.0.0.1:{port}"
        return self._start("web", web_command(port))

    def _tell_site(self, web: Child | None) -> None:
        if web is None:
            return
        if not wait_until(lambda: web.said(self._site) or web.code is not None, START_S) or web.code is not None:
            raise ConfigurationError(f"the pages were not there within {START_S:g} s")
        self._say(f"watch it in a browser: {self._site}/runs/{RUN_ID}", "bold")

    def _start(self, name: str, command: list[str]) -> Child:
        # without tokens the pages serve this machine alone, and ask nobody to log in
        env = {"AGNT5_REDIS_URL": self._url, "AGNT5_BROKER_URL": "", "AGNT5_API_TOKENS": ""}
        child = Child(name, command, env=env, on_line=lambda *_: None)
        self._children.append(child)
        self._stack.callback(child.stop)
        return child

    def tell_logs(self) -> None:
        """What the processes said last, when something went wrong."""
        for child in self._children:
            for text in list(child.tail)[-15:]:
                err().print(styled(f"{child.name} {child.pid} | {text}", "dim"))

    # ---- what is seen

    def _say(self, text: str, style: str = "") -> None:
        line((f"{time.monotonic() - self._begun_s:6.1f} s  ", "dim"), (text, style))

    def _effect_lines(self) -> list[dict[str, Any]]:
        if not self._effects.exists():
            return []
        return [json.loads(text) for text in self._effects.read_text("utf-8").splitlines()]

    def _follow(self, run: Run, goal: int) -> None:
        """Watch until `goal` results are recorded: a line at each fifth, or one that moves on a terminal."""
        total, told, recorded = len(self._files), -1, 0
        end = time.monotonic() + LIMIT_S
        while (recorded := self._recorded(run)) < goal:
            if time.monotonic() > end:
                raise ConfigurationError(f"only {recorded} of {total} results were recorded within {LIMIT_S:g} s")
            if sys.stdout.isatty():
                bar = "#" * (30 * recorded // total)
                line((f"\r{'':10}recorded  [{bar:<30}] {recorded}/{total} ", "cyan"), end="")
            elif recorded * 5 // total > told:
                told = recorded * 5 // total
                self._say(f"{recorded} of {total} results recorded")
            time.sleep(0.03)
        if sys.stdout.isatty():
            line("\r" + " " * 70 + "\r", end="")
        self._say(f"{recorded} of {total} results recorded")

    @staticmethod
    def _recorded(run: Run) -> int:
        return sum(isinstance(event, ev.TaskCompleted) for event in run.history())

    def _finish(self, run: Run) -> None:
        """Let the timer pass, send the signal, and take the result."""
        end = time.monotonic() + LIMIT_S
        for sort, what in (
            (ev.TimerStarted, f"all results are recorded; a durable timer of {REST_MS} ms holds no worker"),
            (ev.SignalAwaited, "the timer has fired; the run waits for the signal 'publish'"),
        ):
            if not wait_until(lambda sort=sort: self._has(run, sort), end - time.monotonic()):  # type: ignore[misc]
                raise ConfigurationError(f"the run did not come to {sort.__name__} within {LIMIT_S:g} s")
            self._say(what)
        run.signal("publish", {"by": "agnt5 demo"})
        self._say("sent the signal 'publish'")
        result = run.result(LIMIT_S)
        self._say(f"the run completed: {result['files']} files, report in {result['report']}", "bold green")

    @staticmethod
    def _has(run: Run, sort: type[ev.Event]) -> bool:
        return any(isinstance(event, sort) for event in run.history())

    # ---- the end

    def _look_back(self, client: Client, run: Run, *, killed_ms: int) -> list[Check]:
        events: list[ev.Event] = run.history()
        line()
        line(("what the journal of the run tells:", "bold"))
        print_timeline(collapse(timeline(events)), started_ms=events[0].at)
        ids = [
            event.id for event in events if isinstance(event, ev.TaskScheduled) and event.handler == "demo.analyse_file"
        ]
        children = {run_id: client.history(run_id) for run_id in ids}
        return checks(
            files=self._files, effects=self._effect_lines(), events=events, children=children, killed_ms=killed_ms,
            report=self._plan.report.resolve(),
        )  # fmt: skip

    def _conclude(self, found: list[Check]) -> int:
        line()
        line(("what was promised, and what is so:", "bold"))
        for check in found:
            line(("  yes  ", "green") if check.holds else ("  NO   ", "error"), check.says)
        line()
        seconds = time.monotonic() - self._begun_s
        line((f"took {seconds:.1f} s; report: {self._plan.report}", "dim"))
        _tell_next()
        return 0 if all(check.holds for check in found) else 1

    @staticmethod
    def _stuck(client: Client) -> Check:
        from agnt5.client.doctor import examine_with  # noqa: PLC0415

        findings = [finding for finding in client.call(examine_with) if finding.severity == "error"]
        return Check(not findings, f"agnt5 doctor found {len(findings)} errors in the store")

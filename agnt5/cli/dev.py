"""`agnt5 dev`: everything that a project needs while it is written, in one terminal."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnt5.cli import place
from agnt5.cli.embedded import Embedded, default_port
from agnt5.cli.flower import Flower
from agnt5.cli.output import err, hint, line, styled
from agnt5.cli.processes import Child, beat_command, can_serve, web_command, worker_command
from agnt5.contracts.clock import now_ms
from agnt5.contracts.settings import DEFAULT_REDIS_URL, Settings, mask_url
from agnt5.telemetry.logs_format import to_json, utc

WEB_PORT = 8080
_CELERY = ("worker", "beat")
_BESIDE = {"web": "pages", "flower": "Flower"}
"""What the rest does without, should it end."""

_COLOURS = {"worker": "green", "beat": "magenta", "web": "blue", "flower": "yellow", "dev": "cyan"}
_SERVED = re.compile(r'uvicorn\.access(?:: |",).*" [23]\d\d')
"""A page or call that was answered as it should be: one that polls would fill the terminal with them."""

_LEVEL = re.compile(r"[\d-]{10} [\d:.]{12} (WARNING|ERROR|CRITICAL) ")
_LEVELS = {"WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}

_QUIET = (
    "SecurityWarning",
    "superuser privileges",
    "absolutely not recommended",
    "uid=",
    "--uid option",
    "_warn_or_raise",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. `redis_url` None means an embedded server on `port`, with its data in `data`.

    The pages and the HTTP API are on `web_port`, by default 8080 if it is free; 0 leaves them out. `flower` asks for
    Flower, on `flower_port`, by default 5555 if it is free.
    """

    worker: str
    beat: str
    redis_url: str | None = None
    port: int | None = None
    data: Path | None = None
    reload: bool = True
    level: str = "INFO"
    web_port: int | None = None
    flower: bool = False
    flower_port: int | None = None


def _as_json(name: str, text: str) -> str:
    """A line of a process as one of its own in JSON: what is one stays as it is."""
    if text.startswith('{"timestamp"'):
        return text
    return to_json({"timestamp": utc(now_ms() / 1000), "level": "INFO", "logger": f"agnt5.dev.{name}", "message": text})


def serve(plan: Plan) -> int:
    """Run until Ctrl-C or SIGTERM; gives the exit code."""
    return _Dev(plan).run()


class _Dev:
    """The processes, and the thread that waits for a reason to change them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._folder = place.FOLDER.resolve()
        self._wanted = threading.Event()  # something happened: look
        self._ending = False
        self._changed: set[str] = set()
        self._stop_watching = threading.Event()
        self._children: dict[str, Child] = {}
        self._told: set[int] = set()
        self._env: dict[str, str] = {}
        self._json = Settings.from_env().log_format == "json"
        wanted = default_port(WEB_PORT) if plan.web_port is None else plan.web_port
        self._web_port = wanted if can_serve() else 0
        self._flower = Flower(plan.worker, plan.flower_port) if plan.flower else None

    def run(self) -> int:
        embedded = self._embedded()
        url = self._plan.redis_url or (embedded.url if embedded else DEFAULT_REDIS_URL)
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._env = {"AGNT5_REDIS_URL": url}
            place.write_note(self._folder, url)
            self._greet(url, embedded)
            self._start_all()
            self._watch()
            return self._loop()
        finally:
            self._stop_watching.set()
            self._stop_all()
            place.remove_note(self._folder)
            if embedded:
                embedded.stop()
                self._say("stopped; the data is kept in " + str(embedded.folder))
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _embedded(self) -> Embedded | None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._plan.redis_url:
            return None
        data = (self._plan.data or self._folder / "valkey").resolve()
        embedded = Embedded(data, port=self._plan.port or default_port())
        embedded.start()
        return embedded

    # ---- what is said

    def _say(self, text: str) -> None:
        self._print("dev", text)

    def _print(self, name: str, text: str) -> None:
        if name != "dev" and any(part in text for part in _QUIET):
            return
        if name == "web" and _SERVED.search(text):
            return
        if self._json:
            sys.stdout.write(_as_json(name, text) + "\n")
            sys.stdout.flush()
            return
        level = _LEVEL.match(text)
        line((f"{name:<6} | ", _COLOURS.get(name, "")), (text, _LEVELS.get(level[1], "") if level else ""))

    def _greet(self, url: str, embedded: Embedded | None) -> None:
        where = f"embedded Valkey, data in {embedded.folder}" if embedded else "your server"
        self._say(f"runs live at {mask_url(url)} ({where})")
        if url.removesuffix("/0") not in {DEFAULT_REDIS_URL.removesuffix("/0"), "redis://127.0.0.1:6379"}:
            self._say(f"for your own programs: export AGNT5_REDIS_URL={mask_url(url)}")
        if self._web_port:
            self._say(f"pages and HTTP API: http://127.0.0.1:{self._web_port}")
        elif self._plan.web_port != 0:
            hint("no pages: pip install 'agnt5-celery[web]'")
        if self._flower:
            self._say(f"Flower: {self._flower.address}")
        self._say("try, in another terminal of this folder:")
        for command in (
            "agnt5 start SERVICE.HANDLER key=value --wait",
            "agnt5 runs list",
            "agnt5 runs show RUN",
        ):
            self._say(f"    {command}")

    # ---- processes

    def _commands(self) -> dict[str, list[str]]:
        commands = {
            "worker": worker_command(self._plan.worker, node="dev", level=self._plan.level),
            "beat": beat_command(self._plan.beat, level=self._plan.level),
        }
        if self._web_port:
            commands["web"] = web_command(self._web_port, level=self._plan.level)
        if self._flower:
            commands["flower"] = self._flower.command
        return commands

    def _start_all(self) -> None:
        for name, command in self._commands().items():
            if name not in self._children:
                self._start(name, command)

    def _start(self, name: str, command: list[str]) -> None:
        env = {**self._env, **self._flower.env} if name == "flower" and self._flower else self._env
        child = Child(name, command, env=env, on_line=self._print)
        self._children[name] = child
        self._say(f"{'agnt5' if name == 'web' else 'celery'} {name} is process {child.pid}")

    def _stop_all(self, names: Sequence[str] = (*_CELERY, *_BESIDE)) -> None:
        """The worker first, while its store and beat are there: it parks workflows and ends functions."""
        for name in names:
            if child := self._children.pop(name, None):
                child.stop()

    # ---- reasons to change something

    def _on_signal(self, *_: Any) -> None:
        if self._ending:
            err().print(styled("ending at once", "error"))
            for child in self._children.values():
                child.kill()
        self._ending = True
        self._wanted.set()

    def _watch(self) -> None:
        if not self._plan.reload:
            return
        try:
            import watchfiles  # noqa: PLC0415 - an extra
        except ImportError:
            hint("no reload on changes: pip install 'agnt5-celery[reload]'")
            return

        def watch() -> None:
            for changes in watchfiles.watch(
                Path.cwd(), watch_filter=watchfiles.PythonFilter(), stop_event=self._stop_watching
            ):
                self._changed |= {os.path.relpath(path) for _, path in changes}
                self._wanted.set()

        threading.Thread(target=watch, name="watch", daemon=True).start()

    def _loop(self) -> int:
        while True:
            self._wanted.wait(0.5)
            self._wanted.clear()
            if self._ending:
                self._say("ending: the worker gives its runs back")
                return 0
            if self._changed:
                changed, self._changed = self._changed, set()
                self._say(f"{', '.join(sorted(changed)[:3])} changed; starting again")
                self._stop_all(_CELERY)  # the pages load no source of this folder
                self._start_all()
            elif not self._all_live():
                return 1

    def _all_live(self) -> bool:
        """Tell of a process that ended by itself: one that was killed is started again, one that failed waits for
        a change of the source. Without reload nothing can mend it, so all ends.
        """
        for name, child in list(self._children.items()):
            if child.code is None or child.pid in self._told:
                continue
            self._told.add(child.pid)
            if child.code < 0:
                self._say(f"{name} was killed by signal {-child.code}; starting another")
                self._start(name, self._commands()[name])
            elif name in _BESIDE:
                self._say(f"{name} ended with code {child.code}; the rest goes on without {_BESIDE[name]}")
            elif self._plan.reload:
                self._say(f"{name} ended with code {child.code}; waiting for a change of the source")
            else:
                self._say(f"{name} ended with code {child.code}")
                return False
        return True

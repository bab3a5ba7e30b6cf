"""The API as a process of its own on a free port, and those who use it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
from support import secret_values
from support.cluster import ROOT, TESTS
from support.leaks import LEAKS
from support.waiting import until_sync
from support.warm import NURSERY, WarmProcess

from agnt5.web.tokens import PREFIX, Token, digest, entry_of

FOLDER = Path(__file__).parent
START_S = 30.0
LINK_SECRET = secret_values.made("web links")
PEOPLE = {
    "root": ((), ("admin",)),
    "ann": (("ops",), ("read", "start", "signal", "decide")),
    "bob": (("legal",), ("read", "start", "signal", "decide")),
    "reader": ((), ("read",)),
    "starter": ((), ("start",)),
    "signaller": ((), ("signal",)),
    "decider": (("ops",), ("decide",)),
    "nobody": ((), ()),
}
"""Name -> roles and scopes."""


_FILES = count(1)


def people(folder: Path) -> tuple[Path, dict[str, str]]:
    """A file of tokens for all people, and their tokens."""
    secrets = {name: secret_values.made(f"{folder} {name} {next(_FILES)}", prefix=PREFIX) for name in PEOPLE}
    tokens = [
        Token(name, frozenset(roles), frozenset(scopes), digest(secrets[name]))
        for name, (roles, scopes) in PEOPLE.items()
    ]
    path = folder / "tokens.json"
    path.write_text(json.dumps([entry_of(token) for token in tokens]))
    return path, secrets


class Api:
    """`agnt5 web`, or another command that prints its address."""

    def __init__(
        self, redis_url: str, *, tokens: Path | None = None, secrets: Mapping[str, str] | None = None,
        options: Iterable[str] = (), command: Iterable[str] | None = None, env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.secrets = dict(secrets or {})
        self._command = list(
            command or [sys.executable, "-m", "agnt5.cli", "web", "--port", "0", "--no-pages", *options]
        )
        if tokens is not None:
            self._command += ["--tokens", str(tokens)]
        self._env = {
            # AGNT5_PAYLOAD_KEYS is for running the tests on sealed values
            **{key: text for key, text in os.environ.items() if not key.startswith("AGNT5_") or "PAYLOAD_KEYS" in key},
            "AGNT5_REDIS_URL": redis_url,
            "PYTHONPATH": os.pathsep.join(map(str, (FOLDER, TESTS, ROOT))),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self.url = ""
        self.process: WarmProcess | subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        python, option, module, *words = self._command
        if (python, option) == (sys.executable, "-m"):
            self.process = NURSERY.start(
                module, words, cwd=FOLDER, env=self._env, output=self._log, needs=["agnt5.web"]
            )
        else:
            self.process = subprocess.Popen(
                self._command, env=self._env, stdout=self._log, stderr=subprocess.STDOUT, cwd=FOLDER
            )
        self.url = until_sync(self._address, START_S, "the API tells its address")
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.output()
        found = re.search(r"http://(127\.0\.0\.1|localhost):\d+", self.output())
        return found and found.group()

    def output(self) -> str:
        """All that it has written."""
        return Path(self._log.name).read_text(errors="replace")

    def end(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        LEAKS.search("what a web server wrote", self.output())
        return code

    def client(self, name: str | None = None, **options: Any) -> httpx.Client:
        """A client of one of the people; without a name, of nobody."""
        headers = {"Authorization": f"Bearer {self.secrets[name]}"} if name else {}
        return httpx.Client(
            base_url=f"{self.url}/api/v1", headers={**headers, **options.pop("headers", {})}, timeout=20
        )


def problem(response: httpx.Response, status: int, kind: str = "") -> dict[str, Any]:
    """The problem that a response is."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:agnt5:problem:")
    assert body["instance"].startswith("urn:agnt5:request:")
    if kind:
        assert body["type"] == f"urn:agnt5:problem:{kind}"
    return body


def start(client: httpx.Client, handler: str, value: Any = None, **more: Any) -> httpx.Response:
    """Ask for a run."""
    headers = more.pop("headers", {})
    return client.post("/runs", json={"handler": handler, "input": value, **more}, headers=headers)


def listening(client: httpx.Client, run_id: str) -> None:
    """Wait until a run waits for a signal: nothing of its own will move it any more."""

    def last() -> str:
        return str(client.get(f"/runs/{quote(run_id, safe='')}/history").json()["events"][-1]["type"])

    until_sync(lambda: last() in {"SignalAwaited", "TimerStarted"}, 15)
    until_sync(lambda: client.get(f"/runs/{quote(run_id, safe='')}").json()["status"] == "waiting", 15)


def ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """A run's outcome, once it has one."""
    response = client.get(f"/runs/{quote(run_id, safe='')}/result", params={"wait_s": 20})
    assert response.status_code == 200, response.text
    return response.json()

"""A real Flower process on a cluster's app."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from typing import Any, Self

from support.cluster import Cluster
from support.waiting import until_sync

from agnt5.cli.embedded import free_port

USER, PASSWORD = "ann", "of-this-test"
COLUMNS = "name,uuid,state,kwargs,result,runtime,retries,worker"


class Flower:
    """Started with `celery flower`, as an operator does; people log in."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._log = cluster.folder / "flower.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "cluster_app", "flower", "--address=127.0.0.1", f"--port={port}",
                 "--inspect-timeout=500"],
                env={**self._cluster.env, "FLOWER_BASIC_AUTH": f"{USER}:{PASSWORD}", "FLOWER_TASKS_COLUMNS": COLUMNS},
                cwd=self._cluster.folder, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        until_sync(lambda: "Connected to" in self.output(), 30.0, "Flower listens to events")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def output(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    def ask(self, path: str, data: dict[str, Any] | None = None) -> tuple[int, str]:
        """Status and text of an answer; with `data` it is a POST."""
        body = None if data is None else "&".join(f"{key}={value}" for key, value in data.items()).encode()
        token = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(self.url + path, data=body, headers={"Authorization": f"Basic {token}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def tasks(self) -> dict[str, dict[str, Any]]:
        """What it knows of runs, by id."""
        return json.loads(self.ask("/api/tasks?limit=10000")[1])

    def task(self, run_id: str, *states: str) -> dict[str, Any]:
        """What it knows of a run, once that is in one of these states."""
        return until_sync(
            lambda: (task := self.tasks().get(run_id)) and task["state"] in states and task, 20.0, f"{run_id}: {states}"
        )

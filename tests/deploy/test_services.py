"""Each service's exact command and health check, without Docker: well when it works, ill when it does not."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from compose_kit import ROOT, Machine, compose, variables
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.waiting import until_sync

from agnt5.cli.embedded import free_port
from agnt5.web.tokens import entry_of, new_token

PASSWORD = "of-this-test"
SERVICES = compose({**variables(), "REDIS_PASSWORD": PASSWORD, "FLOWER_BASIC_AUTH": "ann:secret"})["services"]


class Stack:
    """All of compose's services that are ours, on this machine."""

    def __init__(self, folder: Path) -> None:
        self.ports = {name: free_port() for name in ("valkey", "web", "flower", "metrics")}
        secret, token = new_token("ann", [], ["admin"])
        self.token = secret
        (folder / "tokens.json").write_text(json.dumps([entry_of(token)]))
        (folder / "data").mkdir()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.ports['valkey']}/0"
        self.machine = Machine(
            folder,
            {
                "valkey:6379": f"127.0.0.1:{self.ports['valkey']}",
                "--port 6379": f"--bind 127.0.0.1 --port {self.ports['valkey']}",
                "-p 6379": f"-p {self.ports['valkey']}",
                "--dir /data": f"--dir {folder / 'data'}",
                "/run/secrets/api_tokens": str(folder / "tokens.json"),
                "0.0.0.0": "127.0.0.1",
                "8080": str(self.ports["web"]),
                "5555": str(self.ports["flower"]),
                "9464": str(self.ports["metrics"]),
            },
        )
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        for name in names:
            self.running[name] = self.machine.start(name, SERVICES[name])

    def well(self, name: str) -> bool:
        assert self.running[name].poll() is None, self.machine.said(name)
        return self.machine.check(SERVICES[name]) == 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start("valkey")
        until_sync(lambda: stack.well("valkey"), 20, "Valkey is well")
        stack.start("worker", "beat", "web", "flower")
        until_sync(lambda: "ready." in stack.machine.said("worker"), 40, "the worker is ready")
        yield stack
    finally:
        stack.machine.end()


def test_all_services_become_well_by_their_own_checks(stack):
    for name in ("worker", "beat", "web", "flower"):
        until_sync(lambda name=name: stack.well(name), 40, f"{name} is well: {stack.machine.said(name)[-1500:]}")


def test_valkey_keeps_what_it_is_given_and_knows_its_password(stack):
    admin = redis.Redis.from_url(stack.url, decode_responses=True)
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
    assert {name: admin.config_get(name)[name] for name in wanted} == wanted
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=stack.ports["valkey"], retry=Retry(NoBackoff(), 0)).ping()
    command = Path(f"/proc/{stack.running['valkey'].pid}/cmdline")
    if command.exists():
        assert PASSWORD not in command.read_text()
        assert "valkey-server" in command.read_text()  # the shell has given its place away: signals reach the server


def test_a_run_goes_through_all_of_it(stack):
    headers = {"Authorization": f"Bearer {stack.token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.ports['web']}", headers=headers, timeout=30) as web:
        assert httpx.get(f"{web.base_url}/api/v1/runs").status_code == 401
        started = web.post("/api/v1/runs", json={"handler": "docs.submit_review", "input": {"id": "7"}, "id": "doc-7"})
        assert started.status_code == 201, started.text
        ended = web.get("/api/v1/runs/doc-7/result", params={"wait_s": 20}).json()
        assert (ended["status"], ended["result"]) == ("completed", "review-7")
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.ports['flower']}", auth=("ann", "secret")) as flower:
        until_sync(lambda: flower.get("/api/tasks").json().get("doc-7", {}).get("state") == "SUCCESS", 20)


def test_what_hangs_is_not_well(stack, monkeypatch):
    beat, worker = stack.running["beat"], stack.running["worker"]
    spec = importlib.util.spec_from_file_location("beat_health", ROOT / "deploy/beat_health.py")
    beat_health = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(beat_health)
    monkeypatch.setattr(beat_health, "SILENCE_S", 2)  # a test does not wait for half a minute
    until_sync(lambda: beat_health.works(stack.url), 20, "beat asks the store for something")
    beat.send_signal(signal.SIGSTOP)
    until_sync(lambda: not beat_health.works(stack.url), 20, "a beat that hangs is not well")
    beat.send_signal(signal.SIGCONT)
    worker.send_signal(signal.SIGSTOP)
    assert stack.machine.check(SERVICES["worker"]) != 0
    worker.send_signal(signal.SIGCONT)
    until_sync(lambda: stack.well("worker"), 20, "the worker is well again")


def test_each_process_ends_by_the_signal_that_a_stop_sends_and_is_not_well_then(stack):
    for name in ("flower", "web", "worker", "beat", "valkey"):
        stack.running[name].terminate()
        assert stack.running[name].wait(20) in {0, -signal.SIGTERM}, stack.machine.said(name)
        assert "Traceback" not in stack.machine.said(name)
        if name != "worker":  # seen above: its check waits for an answer, and that takes as long as it says
            assert stack.machine.check(SERVICES[name]) != 0, name
    assert not list(ROOT.glob("celerybeat-schedule*"))  # the image's folder cannot be written to

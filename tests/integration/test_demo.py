"""The demo, as it is shown, over a small folder: it kills its worker and proves that nothing was done twice."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from support.waiting import until_sync

from agnt5.cli.proof import checks
from agnt5.demo.analysis import analyse, list_files
from agnt5.demo.report import render
from agnt5.replay import events as ev


def small_folder(tmp_path):
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    for number in range(15):
        (folder / f"note-{number}.md").write_text(f"# Note {number}\n\nTODO: the workflow of number {number}\n" * 3)
    (folder / "deep" / "code.py").write_text("def answer():\n    return 42\n")
    return folder


def test_the_demo_keeps_its_word(tmp_path):
    folder = small_folder(tmp_path)
    report = tmp_path / "report.md"
    done = subprocess.run(
        [sys.executable, "-m", "agnt5.cli", "demo", str(folder), "--report", str(report)],
        capture_output=True, text=True, timeout=90, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with SIGKILL" in done.stdout
    assert "its worker died; the run was queued again" in done.stdout
    assert "NO " not in done.stdout
    assert done.stdout.count("  yes  ") >= 11
    assert re.search(r"watch it in a browser: http://127\.0\.0\.1:\d+/runs/demo\n", done.stdout)
    assert "decided over HTTP, the approval is approved" in done.stdout
    assert "yes  one decision is in the deployment's history" in done.stdout
    text = report.read_text()
    assert "| note-3.md | Markdown |" in text
    assert "| deep/code.py | Python |" in text
    assert "## Left to do" in text


class Terminal:
    """The demo on a terminal, where somebody sits who may decide."""

    def __init__(self, folder, report):
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agnt5.cli", "demo", str(folder), "--report", str(report)],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder.parent, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.text = ""
        threading.Thread(target=self._read, args=[ours], daemon=True).start()

    def _read(self, ours):
        with contextlib.suppress(OSError):
            while data := os.read(ours, 65_536):
                self.text += data.decode(errors="replace")

    def address(self):
        """The page at which the viewer is to decide, once it is told."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.text).replace("\r\n", " ")
        found = re.search(r"decide at\s+(http://\S+/runs/demo-deployment)", plain)
        assert self.process.poll() is None or found, self.text
        return found and found[1]


@pytest.fixture
def terminal(tmp_path):
    terminal = Terminal(small_folder(tmp_path), tmp_path / "report.md")
    yield terminal
    if terminal.process.poll() is None:
        terminal.process.terminate()
    terminal.process.wait(60)


def test_on_a_terminal_the_viewer_decides_on_the_page(terminal):
    page = until_sync(terminal.address, 60)
    with httpx.Client() as viewer:
        text = viewer.get(page).text
        action = re.search(r'<form method="post" action="(/approvals/[^"]+)"', text)[1]
        token = re.search(r'name="csrf" value="(\w+)"', text)[1]
        sent = {"csrf": token, "decision": "approve", "form.window": '"now"', "comment": "by the test"}
        assert viewer.post(httpx.URL(page).join(action), data=sent).status_code == 303
    assert terminal.process.wait(60) == 0, terminal.text
    assert "by the test" in terminal.text
    assert "NO  " not in terminal.text


@pytest.mark.chaos  # long
def test_on_a_terminal_ctrl_c_skips_the_second_act(terminal):
    until_sync(terminal.address, 60)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(60) == 0, terminal.text
    assert "skipped" in terminal.text


def test_the_demo_needs_files(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "agnt5.cli", "demo", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "0 text files" in done.stderr


def test_a_file_is_described(tmp_path):
    (tmp_path / "a.py").write_text("# TODO widgets\nwidgets = widgets + 1  # FIXME\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "b.py").write_text("x")
    (tmp_path / "c.bin").write_bytes(b"\0\1")
    assert list_files(str(tmp_path), 10) == ["a.py"]
    facts = analyse(str(tmp_path), "a.py")
    assert (facts.language, facts.lines, facts.todos) == ("Python", 2, 2)
    assert facts.terms["widgets"] == 3
    assert "| widgets | 3 | 1 |" in render(str(tmp_path), [facts], approved_by="me")


def story(began_ms, recorded_ms=100):
    """The checks of a run of one file, whose analysis began at these times."""
    effects = [
        {"file": "a", "run": "r~1", "attempt": 0, "pid": number, "began_ms": ms} for number, ms in enumerate(began_ms)
    ]
    children = {"r~1": [ev.RunCompleted(at=recorded_ms)]}
    found = checks(files=["a"], effects=effects, events=[], children=children, killed_ms=150, report=Path("/none"))
    return {check.says: check.holds for check in found}


def test_work_that_begins_after_its_record_breaks_the_proof():
    def verdict(told):
        return next(holds for says, holds in told.items() if "after the file's result was recorded" in says)

    assert verdict(story([50, 90]))
    assert not verdict(story([50, 120]))

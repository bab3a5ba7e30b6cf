"""The demo, as it is shown, over a small folder: it kills its worker and proves that nothing was done twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agnt5.cli.proof import checks
from agnt5.demo.analysis import analyse, list_files
from agnt5.demo.report import render
from agnt5.replay import events as ev


def test_the_demo_keeps_its_word(tmp_path):
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    for number in range(15):
        (folder / f"note-{number}.md").write_text(f"# Note {number}\n\nTODO: the workflow of number {number}\n" * 3)
    (folder / "deep" / "code.py").write_text("def answer():\n    return 42\n")
    report = tmp_path / "report.md"
    done = subprocess.run(
        [sys.executable, "-m", "agnt5.cli", "demo", str(folder), "--report", str(report)],
        capture_output=True, text=True, timeout=90, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with SIGKILL" in done.stdout
    assert "its worker died; the run was queued again" in done.stdout
    assert "NO " not in done.stdout
    assert done.stdout.count("  yes  ") >= 10
    text = report.read_text()
    assert "| note-3.md | Markdown |" in text
    assert "| deep/code.py | Python |" in text
    assert "## Left to do" in text


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

"""docs/approvals.md: its module runs on a real worker, its scripts against it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import ROOT, Cluster

TEXT = (ROOT / "docs" / "approvals.md").read_text()
MODULE, DECIDING, LINKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["releases"]) as cluster:
        (cluster.folder / "releases.py").write_text(MODULE)
        yield cluster.start(cluster.worker(), cluster.beat())


def run(cluster: Cluster, code: str) -> list[str]:
    """Run a script as a reader would, beside the worker; its lines."""
    script = cluster.folder / "script.py"
    script.write_text(code)
    env = {**cluster.env, "PATH": str(Path(sys.executable).parent)}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_release_is_decided_as_the_guide_says(cluster):
    # the guide starts its run and decides at once; the run has to have asked by then
    start, rest = DECIDING.split("\nfor asked in")
    wait = """
    import time
    while not client.approvals(role="devops"):
        time.sleep(0.01)
    """
    lines = run(cluster, f"{start}\n{textwrap.dedent(wait)}\nfor asked in{rest}")
    listed, result, error = lines
    assert re.search(r"deploy_production \{'version': '2.0'\} \d{4}-", listed)
    assert result == "2.0 goes out at 18, says bob"
    assert "was approved by bob at" in error
    cluster.nodes[0].says("please decide: deploy_production, until ")


def test_links_are_made_and_read_as_the_guide_says(cluster):
    assert run(cluster, LINKS) == ["release-1 deploy_production 0.1 ann ('admin',)"]


def test_the_commands_of_the_guide_exist():
    for command in re.findall(r"^\$ agnt5 (\w+ \w+)", TEXT, re.MULTILINE):
        words = [sys.executable, "-m", "agnt5.cli", *command.split(), "--help"]
        subprocess.run(words, check=True, capture_output=True, cwd=ROOT)

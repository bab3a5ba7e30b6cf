"""docs/agents.md and docs/llm.md: their modules run on a real worker, their scripts against it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.cluster import ROOT, Cluster

from agnt5.cli.main import app as cli


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


DESK, TALKING, NEWSROOM, WATCHING = blocks("agents.md")
PROSE, ASKING = blocks("llm.md")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(["desk", "newsroom", "prose", "examples.agent"]) as cluster:
        for name, text in (("desk", DESK), ("newsroom", NEWSROOM), ("prose", PROSE)):
            (cluster.folder / f"{name}.py").write_text(text)
        yield cluster.start(cluster.worker())


@pytest.fixture
def run(cluster, monkeypatch, capsys):
    """Runs a script as a reader would, beside the worker, and gives its lines."""
    monkeypatch.setenv("AGNT5_REDIS_URL", cluster.server.url)

    def run(code: str) -> list[str]:
        names = {"__name__": "script"}
        exec(compile(code, "script.py", "exec"), names)  # in this process: another one takes a second to start
        names["client"].close()
        return capsys.readouterr().out.splitlines()

    return run


def test_the_desk_answers_as_the_guide_says(run):
    asked, answer, roles = run(TALKING)
    assert asked == "tool:refund {'order_id': '17', 'cents': 2900}"
    assert answer == "29.00 are on their way to you. support 3"
    assert roles == "['user', 'assistant', 'tool', 'assistant', 'tool', 'assistant']"


def test_the_newsroom_writes_as_the_guide_says(run):
    archive, text, article = run(WATCHING)
    assert archive == "[archive: In 1753 tea was taxed.]"
    assert text == "It was taxed in 1753, and people still drink it. (3 rounds)"
    assert article == "{'text': 'The Tea Cup was won.', 'by': 'sport', 'ok': True}"


def test_language_models_answer_as_their_page_says(run):
    assert run(ASKING) == [
        "{'summary': 'Tea is older than coffee.', 'tokens': 15, 'dollars': 0.0}",
        "Tea is older than coffee.",
        "{'name': 'Ada', 'next_year': 37}",
        "Tea is older than coffee.",
    ]


def test_the_example_talks_at_a_terminal(cluster):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "agent.py", "ann"], env=cluster.env, capture_output=True, text=True,
        input="Hello\nWhere is order 18?\nAn invoice, please.\nWhere is order 99?\n", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.replace("you: ", "") for line in done.stdout.splitlines()] == [
        "support: Gladly. What is the number of your order?",
        "support: Your kettle is on its way and comes on Friday.",
        "billing: This is billing. The invoice of order 18 is in your mail.",
        "support: I am sorry, there is no order 99. Is the number right?",
        "",
    ]


def test_the_commands_of_the_pages_exist():
    known = {command.name or command.callback.__name__ for command in cli.registered_commands}
    known |= {group.name for group in cli.registered_groups}
    pages = "".join((ROOT / "docs" / page).read_text() for page in ("agents.md", "llm.md"))
    told = set(re.findall(r"(?:`|\$ )agnt5 ([a-z]+)", pages))
    assert "dev" in told <= known

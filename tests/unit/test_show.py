"""What `agnt5 runs show` prints of a run."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from agnt5.cli import output, show
from agnt5.cli.logs import print_line
from agnt5.client.logs import LogLine
from agnt5.client.runs import RunState
from agnt5.client.spending import Spending, spent_in
from agnt5.client.timeline import timeline
from agnt5.contracts.runs import RunStatus
from agnt5.replay import events as ev

START = datetime(2026, 1, 1, tzinfo=UTC)
RUN = RunState(
    id="r", handler="a.b", kind="workflow", status=RunStatus.RUNNING, attempt=0, generation=0, queue="q", priority=0,
    created_at=START, started_at=START, ended_at=None, retry_at=None, host=None, parent=None, input=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_output():
    output.out.cache_clear()
    yield
    output.out.cache_clear()


def test_steps_are_shown_with_their_duration_and_models_with_their_sum_at_the_end(capsys):
    usage = {"prompt_tokens": 800, "completion_tokens": 440}
    events = [
        ev.RunStarted(at=1000, handler="a.b", kind="workflow"),
        ev.StepCompleted(at=3500, seq=1, name="fetch", took_ms=1230),
        ev.StepCompleted(at=3600, seq=2, name="llm:m", result={"usage": usage, "cost": 0.0031}, took_ms=90),
    ]
    show.print_run(RUN, timeline(events), started_ms=1000, spent=spent_in(events))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 model answer, 1,240 tokens, $0.0031"
    told = [[part.strip() for part in re.split("  +", line.strip())] for line in lines[-4:-2]]
    assert told[0] == ["+1.27 s", "+", "step fetch", "1.23 s"]
    assert told[1] == ["+2.51 s", "+", "asked m", "90 ms", "800 tokens in, 440 out, $0.0031"]


def test_a_run_that_asked_no_model_has_no_sum(capsys):
    events = [ev.RunStarted(at=1000, handler="a.b", kind="workflow")]
    show.print_run(RUN, timeline(events), started_ms=1000, spent=Spending())
    assert capsys.readouterr().out.rstrip().endswith("a.b was started")


@pytest.mark.parametrize(("level", "shown"), [("INFO", "INFO    said"), ("CRITICAL", "CRITICAL said")])
def test_a_line_s_level_stands_apart_from_its_message(capsys, level, shown):
    print_line(LogLine(at=START, level=level, logger="shop", message="said", fields={"size": 3}), "r~1")
    assert capsys.readouterr().out == f"r~1  00:00:00.000 {shown}  size=3  shop\n"

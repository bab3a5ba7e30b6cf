"""Journals of released formats are replayed forever. Never edit one: what it breaks on, open runs break on.

A new format, or a new event, gets journals of its own beside these.
"""

from __future__ import annotations

from pathlib import Path

import golden_programs
import pytest
from pydantic_core import from_json, to_json

from agnt5.replay.checkpoints import KEYED, Checkpoints, ChildSlot, TimerSlot
from agnt5.replay.events import RunCompleted, SignalReceived, TaskCompleted
from agnt5.replay.journal import KINDS, decode, encode
from agnt5.replay.machine import Machine
from agnt5.replay.outcomes import Cancelled, Completed, ContinuedAsNew

FORMAT_1 = Path(__file__).parent / "format_1"


def entries(name: str) -> list[bytes]:
    return (FORMAT_1 / f"{name}.jsonl").read_bytes().splitlines()


def replayed(name: str):
    machine = Machine("order-17", getattr(golden_programs, name))
    answer = machine.activate([decode(entry) for entry in entries(name)])
    assert answer.commands == ()
    assert machine.open_commands() == ()
    return answer.outcome


@pytest.mark.parametrize("name", ["approvals", "configured", "order", "reopened"])
def test_a_completed_run_has_the_result_that_was_recorded(name):
    end = decode(entries(name)[-1])
    outcome = replayed(name)
    assert isinstance(end, RunCompleted)
    assert isinstance(outcome, Completed)
    assert from_json(to_json(outcome.result)) == end.result


def test_a_cancelled_run_is_cancelled_again():
    assert replayed("cancelled") == Cancelled("customer left")


def test_a_generation_goes_on_as_new_with_the_same_signals():
    at = 1_790_000_000_000
    assert replayed("rounds") == ContinuedAsNew(
        {"total": 13},
        (SignalReceived(at=at, name="other", op="b"), SignalReceived(at=at, name="add", payload=3, op="d")),
    )


def test_a_function_finds_its_checkpoints():
    found = Checkpoints("f", [decode(entry) for entry in entries("function")])
    assert found.step("extract")[1].result == {"rows": 3}
    assert found.step("clean")[1].result == 2
    first = found.child("data.part")
    assert (first.id, first.completion.result) == ("f~1", "part 1")
    assert isinstance(first.completion, TaskCompleted)
    assert found.child("data.part", "item-9") == ChildSlot(KEYED + 1, "f~item-9!1", "data.part", scheduled=True)
    assert found.timer() == TimerSlot(1, 1_790_000_000_110, fired=True)
    assert found.signal_out("ready", "order-17").answer is not None


def test_every_entry_is_written_today_as_it_was_then():
    for path in FORMAT_1.glob("*.jsonl"):
        for entry in path.read_bytes().splitlines():
            event = decode(entry)
            assert b'{"at":%d,' % event.at + encode(event)[1:] == entry


def test_every_event_is_in_some_journal():
    recorded = {type(decode(entry)).__name__ for path in FORMAT_1.glob("*.jsonl") for entry in entries(path.stem)}
    assert recorded == set(KINDS)

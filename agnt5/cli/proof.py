"""The demo's proof: what agnt5 recorded against what an outside file saw. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnt5.replay import events as ev


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, with the figures that it was judged by."""

    holds: bool
    says: str


def checks(
    *, files: Sequence[str], effects: Sequence[Mapping[str, Any]], events: Sequence[ev.Event],
    children: Mapping[str, Sequence[ev.Event]], killed_ms: int, report: Path,
) -> list[Check]:  # fmt: skip
    """Everything that the demo promises. All clocks are this machine's, so that their times can be compared."""
    recorded_ms = {
        run_id: next((event.at for event in history if isinstance(event, ev.RunCompleted)), None)
        for run_id, history in children.items()
    }
    before = {run_id for run_id, at in recorded_ms.items() if at is not None and at <= killed_ms}
    late = [
        effect for effect in effects if (at := recorded_ms.get(effect["run"])) is not None and effect["began_ms"] > at
    ]
    times = Counter(effect["file"] for effect in effects)
    twice = [file for file, count in times.items() if count > 1]
    workers = {effect["pid"] for effect in effects}
    kept = sum(1 for effect in effects if effect["run"] in before)
    text = report.read_text("utf-8") if report.exists() else ""
    return [
        Check(len(workers) == 2, f"{len(workers)} workers took part; the first was killed with SIGKILL"),  # noqa: PLR2004
        Check(
            len(children) == len(files) and all(recorded_ms.values()),
            f"{sum(at is not None for at in recorded_ms.values())} of {len(files)} files have a recorded result",
        ),
        Check(
            0 < len(before) < len(files),
            f"{len(before)} results were recorded before the kill, {len(files) - len(before)} after it",
        ),
        Check(
            kept == len(before),
            f"those {len(before)} files were analysed {kept} times in all: recorded work was not done again",
        ),
        Check(
            not late,
            f"{len(late)} of {len(effects)} analyses in the outside file began after the file's result was recorded",
        ),
        Check(
            set(times) == set(files) and max(times.values(), default=0) <= 2,  # noqa: PLR2004
            f"{len(twice)} files were in the killed worker's hands, without a result, and were analysed again",
        ),
        *_waits(events),
        Check(all(file in text for file in files), f"the report names all {len(files)} files"),
    ]


def _waits(events: Sequence[ev.Event]) -> list[Check]:
    due = {event.seq: event.due_ms for event in events if isinstance(event, ev.TimerStarted)}
    early = [event for event in events if isinstance(event, ev.TimerFired) and event.at < due[event.seq]]
    fired = sum(isinstance(event, ev.TimerFired) for event in events)
    signals = sum(isinstance(event, ev.SignalReceived) for event in events)
    ends = sum(isinstance(event, ev.RunCompleted | ev.RunFailed | ev.RunCancelled) for event in events)
    return [
        Check(fired == len(due) == 1 and not early, f"{fired} timer was set and fired once, not early"),
        Check(signals == 1, f"{signals} signal was sent and taken once"),
        Check(ends == 1, f"the run ended {ends} time"),
    ]

"""`agnt5 runs show --logs`: what the code of a run, or of its whole tree, has logged."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from agnt5.cli.output import line, print_json
from agnt5.cli.place import chosen_url
from agnt5.client import Client
from agnt5.client.logs import LogLine
from agnt5.contracts.errors import RunNotFoundError
from agnt5.replay.events import TaskScheduled
from agnt5.telemetry.logs_format import field_word, printable

LOOK_S = 0.3
"""How often a followed run is asked for new lines."""

MOST_RUNS = 1000
"""Runs of a tree that are looked at: the first ones."""

_STYLES = {"DEBUG": "note", "INFO": "ok", "WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}


def show_logs(url: str | None, run_id: str, *, tree: bool, follow: bool, json: bool) -> None:
    """Print a run's lines, with `tree` those of all that it started too; with `follow` also those that come, until
    all of these have ended.
    """
    count = 0
    with Client(chosen_url(url)) as client:
        for count, (who, one) in enumerate(_lines(client, run_id, tree=tree, follow=follow), 1):  # noqa: B007
            if json:
                told = {"run": who, **asdict(one)} if tree else asdict(one)
                print_json({**told, "at": one.at.isoformat()}, indent=None)
            else:
                print_line(one, who if tree else "")
            if follow:
                sys.stdout.flush()
    if not count and not json:
        line(("no log lines are kept with this run", "note"))


@dataclass(slots=True)
class _Seen:
    """What was told of a run: the places of its lines; whether it had ended, and whether all of it was read then."""

    told: set[str] = field(default_factory=set)
    ended: bool = False
    done: bool = False


def _lines(client: Client, run_id: str, *, tree: bool, follow: bool) -> Iterator[tuple[str, LogLine]]:
    """Lines with their runs, by time. Those of several threads may come late: each is told once, whatever its time."""
    client.state(run_id)
    runs = {run_id: _Seen()}
    while True:
        fresh: list[tuple[str, LogLine]] = []
        looked_at = [one for one, seen in runs.items() if not seen.done]
        for one in looked_at:
            fresh += _fresh(client, one, runs[one])
            if tree:
                more = [child for child in _children(client, one) if child not in runs][: MOST_RUNS - len(runs)]
                runs.update((child, _Seen()) for child in more)
                looked_at += more
        yield from sorted(fresh, key=lambda found: found[1].at)
        if not follow or all(seen.done for seen in runs.values()):
            return
        time.sleep(LOOK_S)


def _fresh(client: Client, run_id: str, seen: _Seen) -> list[tuple[str, LogLine]]:
    """The lines of a run that were not told yet."""
    try:
        ended = client.state(run_id).status.ended
        lines: list[LogLine] = client.logs(run_id)
    except RunNotFoundError:  # past its retention, or a call on its way to another shard, whose caller goes on
        ended, lines = True, []
    fresh = [(run_id, one) for one in lines if one.place not in seen.told]
    seen.told = {one.place for one in lines}
    seen.done = seen.ended  # what is told of the end itself comes right behind it
    seen.ended = ended
    return fresh


def _children(client: Client, run_id: str) -> list[str]:
    """The runs that a run has started: its children, and calls of entities."""
    try:
        return [event.id for event in client.history(run_id) if isinstance(event, TaskScheduled)]
    except RunNotFoundError:
        return []


def print_line(one: LogLine, run_id: str) -> None:
    """Print a line, behind the id of its run where that is given."""
    clock = one.at.strftime("%H:%M:%S.%f")[:-3]
    asides = [f"attempt={one.attempt}"] if one.attempt else []
    asides += [f"step={field_word(one.step_id)}"] if one.step_id else []
    asides += [f"{printable(name)}={field_word(value)}" for name, value in one.fields.items()]
    style = _STYLES.get(one.level, "")
    line(
        (f"{run_id}  " if run_id else "", "bold"), (f"{clock} ", "dim"), (f"{one.level:<7} ", style),
        printable(one.message), (f"  {' '.join(asides)}" if asides else "", "dim"), (f"  {one.logger}", "dim"),
    )  # fmt: skip
    if one.exception:
        line(("\n".join(f"    {part}" for part in printable(one.exception).splitlines()), style))

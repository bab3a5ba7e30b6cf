"""`agnt5 runs show --logs`: what a run's code has logged."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

from agnt5.cli.output import line, print_json
from agnt5.cli.place import chosen_url
from agnt5.client import Client
from agnt5.client.logs import LogLine
from agnt5.telemetry.logs_format import field_word, printable

LOOK_S = 0.3
"""How often a followed run is asked for new lines."""

_STYLES = {"DEBUG": "note", "INFO": "ok", "WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}


def show_logs(url: str | None, run_id: str, *, follow: bool, json: bool) -> None:
    """Print a run's lines; with `follow` also those that come, until it has ended."""
    count = 0
    with Client(chosen_url(url)) as client:
        for count, one in enumerate(_followed(client, run_id) if follow else client.logs(run_id), 1):  # noqa: B007
            if json:
                print_json({**asdict(one), "at": one.at.isoformat()}, indent=None)
            else:
                _print(one)
            if follow:
                sys.stdout.flush()
    if not count and not json:
        line(("no log lines are kept with this run", "note"))


def _followed(client: Client, run_id: str) -> Iterator[LogLine]:
    """Lines as they come. Those of several threads may come late: each is told once, whatever its time is."""
    told: set[str] = set()
    last_look = False
    while True:
        ended = client.state(run_id).status.ended
        lines: list[LogLine] = client.logs(run_id)
        yield from (one for one in lines if one.place not in told)
        told = {one.place for one in lines}
        if last_look:
            return
        last_look = ended  # what is told of the end itself comes right behind it
        time.sleep(LOOK_S)


def _print(one: LogLine) -> None:
    clock = one.at.strftime("%H:%M:%S.%f")[:-3]
    asides = [f"attempt={one.attempt}"] if one.attempt else []
    asides += [f"step={field_word(one.step_id)}"] if one.step_id else []
    asides += [f"{name}={field_word(value)}" for name, value in one.fields.items()]
    style = _STYLES.get(one.level, "")
    line(
        (f"{clock} ", "dim"), (f"{one.level:<8}", style), printable(one.message),
        (f"  {' '.join(asides)}" if asides else "", "dim"), (f"  {one.logger}", "dim"),
    )  # fmt: skip
    if one.exception:
        line(("\n".join(f"    {part}" for part in printable(one.exception).splitlines()), style))

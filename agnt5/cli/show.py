"""A run, and lists of runs, for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from agnt5.cli.output import Cell, as_json, columns, cut, line
from agnt5.client.moments import Moment, span
from agnt5.client.runs import RunState
from agnt5.client.spending import Spending

PREVIEW = 2000
"""Characters of an input or result that are shown; --json has all."""

_MARKS = {"ok": "+", "failed": "x", "open": "~", "cancelled": "-", "note": ".", "": "."}


def print_runs(states: Sequence[RunState]) -> None:
    """A table of runs."""
    if not states:
        line("no runs")
        return
    now = datetime.now(UTC)
    rows: list[list[str | Cell]] = [["RUN", "HANDLER", "STATUS", "ATTEMPT", "CREATED", "TOOK"]]
    rows[0] = [(str(title), "bold") for title in rows[0]]
    for state in states:
        status = state.status.value + (" (refused)" if state.trouble else "")
        age = f"{_between(state.created_at, now)} ago"
        rows.append([state.id, state.handler, (status, state.status), str(state.attempt), age, _took(state)])
    columns(rows)


def print_run(state: RunState, moments: Sequence[Moment], *, started_ms: int, spent: Spending) -> None:
    """Everything about one run: facts, input, outcome, timeline, what models have cost."""
    columns(_facts(state), indent="")
    line()
    _block("input", state.input)
    if state.trouble:
        line(("refused: ", "error"), state.trouble)
    if state.error is not None:
        line(("error: ", "error"), f"{state.error.get('type')}: {state.error.get('message')}")
        if trace := str(state.error.get("traceback") or "").rstrip():
            line("\n".join(f"    {part}" for part in trace.splitlines()))
    elif state.status.ended:
        _block("result", state.result)
    line()
    print_timeline(moments, started_ms=started_ms)
    if spent.answers:
        line()
        line(spent.total())


def print_timeline(moments: Sequence[Moment], *, started_ms: int) -> None:
    """What happened when: time since the start, mark, what, how long it took, an aside."""
    rows: list[list[str | Cell]] = []
    for moment in moments:
        took = span(moment.took_ms) if moment.took_ms is not None else "open" if moment.outcome == "open" else ""
        style = moment.outcome or "note"
        offset = f"+{span(moment.at_ms - started_ms)}"
        rows.append(
            [
                (f"{offset:>10}", "dim"),
                (_MARKS[moment.outcome], style),
                moment.what,
                (took, style),
                (moment.detail, "dim"),
            ]
        )
    if rows:
        columns(rows)


def _facts(state: RunState) -> list[list[str | Cell]]:
    rows: list[list[str | Cell]] = [
        [("run", "dim"), (state.id, "bold")],
        [("handler", "dim"), f"{state.handler} ({state.kind or 'not yet claimed'})"],
        [("status", "dim"), (state.status.value, state.status)],
        [("created", "dim"), _time(state.created_at)],
    ]
    if state.started_at:
        rows.append(
            [("started", "dim"), f"{_time(state.started_at)}, after {_between(state.created_at, state.started_at)}"]
        )
    if state.ended_at:
        rows.append([("ended", "dim"), f"{_time(state.ended_at)}, took {_took(state)}"])
    if state.attempt:
        rows.append([("attempt", "dim"), str(state.attempt)])
    if state.retry_at:
        rows.append([("next attempt", "dim"), _time(state.retry_at)])
    if state.host:
        rows.append([("worker", "dim"), state.host])
    if state.parent:
        rows.append([("parent", "dim"), state.parent])
    if state.generation:
        rows.append([("generation", "dim"), str(state.generation)])
    return rows


def _block(name: str, value: object) -> None:
    text = as_json(value)
    if "\n" not in text or len(text) <= 80:  # noqa: PLR2004 - it fits on a line
        text = cut(as_json(value, indent=None), PREVIEW)
    elif len(text) > PREVIEW:
        text = f"{text[:PREVIEW]}\n... ({len(text)} characters; --json has all)"
    line((f"{name}: ", "dim"), text)


def _took(state: RunState) -> str:
    return _between(state.started_at or state.created_at, state.ended_at) if state.ended_at else ""


def _between(start: datetime, end: datetime) -> str:
    return span(max(0.0, (end - start).total_seconds() * 1000))


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"

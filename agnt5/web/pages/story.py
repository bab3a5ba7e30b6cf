"""All that one run's page tells, read from the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields
from datetime import datetime
from typing import Any

from agnt5.client import AsyncClient
from agnt5.client.logs import LogLine
from agnt5.client.moments import brief, collapse
from agnt5.client.runs import RunState
from agnt5.client.spending import spent_in
from agnt5.client.timeline import timeline
from agnt5.contracts.clock import at_ms, now_ms
from agnt5.contracts.runs import RunStatus
from agnt5.replay import events as ev
from agnt5.web.pages.layout import FOLD, Chart, Child, clock, lay_out, tries_of

MOST_CHILDREN = 500
"""Children whose states are read for a page: the latest."""

MOST_RETRIED = 40
"""Retried children whose attempts are drawn."""

ENTRIES = 100
LINES = 100
"""Log lines that a page shows: the latest."""

_SUMMARY = 140
_EPOCH_MS = 1_000_000_000_000
_OUTCOMES = {
    RunStatus.COMPLETED: "ok", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "cancelled", RunStatus.QUEUED: "queued",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal's table."""

    position: int
    at: datetime
    name: str
    summary: str
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One run. Of all the children that were `born`, `children` are the latest; `spent` is what its models cost.

    `lines` are the latest that its code has logged; `older_lines` more are kept.
    """

    run: RunState
    first: ev.RunStarted | None
    chart: Chart
    children: list[RunState]
    born: int
    foldable: bool
    length: int
    entries: list[Entry]
    journal_page: int
    journal_pages: int
    spent: str
    lines: list[LogLine]
    older_lines: int


async def story_of(client: AsyncClient, run_id: str, *, journal_page: int | None, every: bool) -> Story:
    """Read a run. `every`: draw each task on its own; `journal_page`: which part of a long journal, None: its end.

    Raises `RunNotFoundError`.
    """
    run = await client.state(run_id)
    events = await client.history(run_id)
    born = children_of(events)
    children = await client.states(born[-MOST_CHILDREN:])
    known = {child.id: await _seen(client, child) for child in children if child.attempt == 0}
    retried = [child for child in children if child.attempt > 0]
    seen = await asyncio.gather(*(_seen(client, child) for child in retried[:MOST_RETRIED]))
    known |= {child.id: one for child, one in zip(retried, seen, strict=False)}
    pages = max(1, -(-len(events) // ENTRIES))
    page = pages if journal_page is None else max(1, min(journal_page, pages))
    lines = await client.logs(run_id)
    chart, foldable = _chart(run, events, children, known, every=every)
    first = events[0] if events and isinstance(events[0], ev.RunStarted) else None
    return Story(
        run=run, first=first, chart=chart, children=children, born=len(born), foldable=foldable,
        length=len(events), entries=entries_of(events, (page - 1) * ENTRIES), journal_page=page, journal_pages=pages,
        spent=spent_in(events).total(), lines=lines[-LINES:], older_lines=max(0, len(lines) - LINES),
    )  # fmt: skip


def children_of(events: Sequence[ev.Event]) -> list[str]:
    """The ids of all children that a journal names, each once."""
    return list(dict.fromkeys(event.id for event in events if isinstance(event, ev.TaskScheduled)))


async def _seen(client: AsyncClient, child: RunState) -> Child:
    """When a child was claimed, and its attempts if there was more than one."""
    started = _ms(child.started_at)
    if child.attempt == 0:
        return Child(started)
    return Child(started, tuple(tries_of(await client.history(child.id), started)))


def _chart(
    run: RunState, events: Sequence[ev.Event], children: Sequence[RunState], known: dict[str, Child], *, every: bool
) -> tuple[Chart, bool]:
    """The drawing, and whether it has fewer lanes than moments, or could have."""
    moments = timeline(events, {child.id: child.status.value for child in children})
    begin = events[0].at if events else _ms(run.created_at) or 0
    started = _ms(run.started_at)
    started = None if started is None else max(started, begin)
    own = Child(started, tuple(tries_of(events, started)))
    outcome = _OUTCOMES.get(run.status, "open")
    ended = _ms(run.ended_at)
    folded = collapse(moments)
    chart = lay_out(
        moments if every else folded, own, fold=not every, begin_ms=begin, end_ms=ended, outcome=outcome,
        children=known, now_ms=max([now_ms(), *(event.at for event in events[-1:])]),
    )  # fmt: skip
    return chart, len(folded) < len(moments) or len(moments) >= FOLD


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def entries_of(events: Sequence[ev.Event], start: int) -> list[Entry]:
    """A part of a journal for its table."""
    part = events[start : start + ENTRIES]
    return [
        Entry(position=at, at=at_ms(event.at), name=type(event).__name__, summary=summary(raw), raw=raw)
        for at, event in enumerate(part, start)
        for raw in [raw_of(event)]
    ]


def raw_of(event: ev.Event) -> dict[str, Any]:
    """An event as it stands in the journal: without what is left at its default."""
    told = {
        field.name: getattr(event, field.name)
        for field in fields(event)
        if field.name != "at" and getattr(event, field.name) != _default(field)
    }
    return {"at": event.at, "e": type(event).__name__, **told}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def summary(raw: dict[str, Any]) -> str:
    """An entry on one line: times readable, errors by type and message, the rest as it is."""
    told = {name: value for name, value in raw.items() if name not in {"at", "e"} and value != ""}
    parts = [f"{name.removesuffix('_ms')} {_word(name, value)}" for name, value in told.items()]
    text = " ".join(", ".join(parts).split())
    return text if len(text) <= _SUMMARY else text[: _SUMMARY - 3] + "..."


def _word(name: str, value: Any) -> str:
    if name == "error" and isinstance(value, dict):
        return brief(value)
    if name.endswith("_ms") and isinstance(value, int) and value > _EPOCH_MS:
        return clock(at_ms(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)

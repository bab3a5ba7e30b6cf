"""The moments of a run's story, many of one sort as one, and durations and texts in a form for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Literal

from agnt5.client.spending import Spending

Outcome = Literal["", "ok", "failed", "open", "cancelled", "note"]

COLLAPSE = 6
"""So many neighbouring moments that are alike are told as one line."""

_ALIKE = frozenset({"task", "step", "llm", "tool"})
"""Kinds of which many are told as one."""

_WORST: tuple[Outcome, ...] = ("failed", "open", "note")
"""Outcomes of which one is enough for many moments together, the worst first."""

_PREVIEW = 60


@dataclass(slots=True, kw_only=True)
class Moment:
    """One line of a story. `at_ms` is its beginning; `took_ms` is None for what has no duration or goes on still;
    `detail` is an aside.

    `map` names the map that it is, or is an item of; `spent` is what a model's answer cost. A collapsed moment has
    those that it stands for as its `parts`.
    """

    at_ms: int
    kind: str
    what: str
    outcome: Outcome = ""
    took_ms: int | None = None
    detail: str = ""
    child: str = ""
    map: str = ""
    spent: Spending | None = None
    parts: Sequence[Moment] = ()


def collapse(moments: Sequence[Moment], least: int = COLLAPSE) -> list[Moment]:
    """Fewer moments: items of a map within the map, and neighbours that are alike as one; each at least `least`."""
    told: list[Moment] = []
    group: list[Moment] = []
    for moment in [*_within_maps(moments, least), None]:
        if moment is not None and group and moment.kind in _ALIKE and _alike(moment, group[0]):
            group.append(moment)
            continue
        told += [_together(group)] if len(group) >= least else group
        group = [] if moment is None else [moment]
    return told


def _alike(one: Moment, other: Moment) -> bool:
    return (one.kind, one.what) == (other.kind, other.what)


def _within_maps(moments: Sequence[Moment], least: int) -> Iterator[Moment]:
    """The moments, but maps have their items as their parts."""
    heads = {moment.map: moment for moment in moments if moment.kind == "map"}
    items: dict[str, list[Moment]] = {name: [] for name in heads}
    for moment in moments:
        if (outer := _outer(moment, heads)) is not None:
            items[outer].append(moment)
    folded = {name for name, found in items.items() if len(found) >= least}
    for moment in moments:
        if _outer(moment, heads) in folded:
            continue
        yield _with_items(moment, items[moment.map]) if moment.kind == "map" and moment.map in folded else moment


def _outer(moment: Moment, heads: Mapping[str, Moment]) -> str | None:
    """The map that a moment is an item of; a map within an item of another one is an item of that."""
    if moment.kind != "map":
        return moment.map if moment.map in heads else None
    return known_part(moment.map, heads)


def known_part(name: str, maps: Mapping[str, Any]) -> str | None:
    """The longest beginning of a dotted name that names a map: `map1` for `map1.17`."""
    while name := name.rpartition(".")[0]:
        if name in maps:
            return name
    return None


def _with_items(head: Moment, items: list[Moment]) -> Moment:
    times = _times(items)
    return Moment(
        at_ms=head.at_ms, kind=head.kind, what=head.what, outcome=head.outcome, took_ms=head.took_ms,
        detail="; ".join(part for part in (head.detail, times) if part), map=head.map, parts=items,
    )  # fmt: skip


def _together(group: list[Moment]) -> Moment:
    counts: dict[str, int] = {}
    for moment in group:
        counts[moment.outcome or "ok"] = counts.get(moment.outcome or "ok", 0) + 1
    begin = min(moment.at_ms for moment in group)
    took_ms = max(moment.at_ms + (moment.took_ms or 0) for moment in group) - begin
    worst: Outcome = next((one for one in _WORST if one in counts), "ok")
    spent = [moment.spent for moment in group if moment.spent is not None]
    total = reduce(add, spent) if spent else None
    parts = [", ".join(f"{count} {name}" for name, count in counts.items()), total.detail() if total else ""]
    child = f"{group[0].child} ... {group[-1].child.rpartition('~')[2]}" if group[0].child else ""
    return Moment(
        at_ms=begin,
        kind=group[0].kind,
        what=f"{len(group)} x {group[0].what}",
        outcome=worst,
        took_ms=None if counts.keys() & {"open", "note"} else took_ms or None,
        detail="; ".join(part for part in (*parts, _times(group)) if part),
        child=child,
        spent=total,
        parts=group,
    )


def _times(moments: Sequence[Moment]) -> str:
    times = [moment.took_ms for moment in moments if moment.took_ms is not None]
    return f"each {span(min(times))} to {span(max(times))}" if times else ""


def span(ms: float) -> str:
    """A duration for people: 12 ms, 1.23 s, 2m 03s, 3h 04m, 2d 05h."""
    seconds = ms / 1000
    if ms < 1000:  # noqa: PLR2004
        return f"{ms:.0f} ms"
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:  # noqa: PLR2004
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02d}h"


def brief(error: Mapping[str, Any]) -> str:
    """An error's type and message on one line."""
    return one_line(f"{error.get('type', 'Error')}: {error.get('message', '')}")


def preview(value: Any) -> str:
    """The beginning of a value on one line."""
    return one_line(repr(value), _PREVIEW)


def one_line(text: str, limit: int = 2 * _PREVIEW) -> str:
    """The beginning of a text on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."

"""A run's story as lanes and bars on one time axis: numbers only, no markup. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agnt5.client.moments import Moment, Outcome, brief, span
from agnt5.contracts.clock import at_ms
from agnt5.replay import events as ev
from agnt5.web.pages.scale import WIDTH, Scale, scale_of

AXIS_HEIGHT = 26
LANE_HEIGHT = 30
BAR_HEIGHT = 12
THIN_HEIGHT = 5
THIN_STEP = 7
PADDING = 9
MOST_ROWS = 12
"""Bars of one lane that overlap are drawn below each other, in so many rows at most."""

FOLD = 24
"""From so many moments on, those of one name share a lane."""

MOST_LANES = 150
MOST_BARS = 1000
"""A lane of more bars has neighbours drawn as one."""

WAITS = frozenset({"timer", "signal", "approval"})
"""Kinds of moments in which a run waits."""

LEAST_WIDTH = 0.35
"""Percent of the plot that the shortest bar takes, so that it can be seen."""


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt of a run: from when to when (None: it goes on), and how it ended."""

    from_ms: int
    to_ms: int | None
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Child:
    """What is known of a child beside its parent's journal: when it was first claimed, and its attempts."""

    started_ms: int | None = None
    tries: Sequence[Try] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar, or (`mark`) a point in time, at `x` with width `w` in percent and `y`, `h` in pixels.

    `wait`: nothing worked meanwhile, the run waited.
    """

    x: float
    w: float
    y: float
    h: float
    outcome: str
    title: str
    child: str = ""
    mark: bool = False
    wait: bool = False
    segments: tuple[Bar, ...] = ()


@dataclass(slots=True, kw_only=True)
class Lane:
    """One row of the chart, with what its label tells."""

    kind: str
    label: str
    outcome: str
    took: str = ""
    child: str = ""
    y: float = 0
    height: float = LANE_HEIGHT
    rows: int = 1
    bars: list[Bar] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """All there is to draw. `left_out` lanes were too many."""

    scale: Scale
    lanes: list[Lane]
    height: float
    left_out: int = 0


def tries_of(events: Sequence[ev.Event], started_ms: int | None) -> list[Try]:
    """The attempts that a run's journal tells of. `started_ms`: when it was first claimed, None if never."""
    tries: list[Try] = []
    begun = started_ms
    for event in events:
        end = _end_of(event)
        if end is not None and begun is not None:
            tries.append(Try(begun, event.at, *end))
            begun = None
        elif isinstance(event, ev.AttemptStarted):
            if begun is not None and begun < event.at and tries:
                tries.append(Try(begun, event.at, "note"))
            begun = event.at if begun is None or tries else begun
    if begun is not None:
        tries.append(Try(begun, None, "open"))
    return tries


def _end_of(event: ev.Event) -> tuple[Outcome, str] | None:
    match event:
        case ev.AttemptFailed() | ev.RunFailed():
            return "failed", brief(event.error)
        case ev.HostLost():
            return "failed", "its worker died"
        case ev.RunCompleted():
            return "ok", ""
        case ev.RunCancelled():
            return "cancelled", event.reason
        case _:
            return None


def lay_out(
    moments: Sequence[Moment], run: Child, *, begin_ms: int, end_ms: int | None, now_ms: int,
    outcome: str = "open", children: Mapping[str, Child] | None = None, fold: bool = True,
) -> Chart:  # fmt: skip
    """Place a story. `run` has the run's own attempts, `end_ms` is None while it goes on, up to `now_ms`.

    `fold`: many moments share lanes by their names.

    The first lane is the run itself, with what happened to it as a whole; the others are in order of beginning.
    """
    known = children or {}
    until = max(now_ms if end_ms is None else end_ms, begin_ms + 1)
    shown = [moment for moment in moments if moment.kind not in {"run", "host"}]
    scale = scale_of(_edges(shown, run, known), begin_ms, until)
    draw = _Drawing(scale, until, known)
    lanes = [draw.own_lane(run, begin_ms, end_ms, outcome, [m for m in moments if m.kind in {"run", "host"}])]
    groups = _groups(shown) if fold else [[moment] for moment in shown]
    lanes += [draw.lane(group) for group in groups[: MOST_LANES - 1]]
    y = float(AXIS_HEIGHT)
    for lane in lanes:
        lane.bars = [_moved(bar, y) for bar in lane.bars]
        lane.y = y
        y += lane.height
    return Chart(scale=scale, lanes=lanes, height=y, left_out=max(0, len(groups) - MOST_LANES + 1))


def _edges(moments: Iterable[Moment], run: Child, children: Mapping[str, Child]) -> Iterator[int]:
    for one in [run, *children.values()]:
        yield from (ms for ms in [one.started_ms] if ms is not None)
        for attempt in one.tries:
            yield from (ms for ms in (attempt.from_ms, attempt.to_ms) if ms is not None)
    for moment in moments:
        for part in moment.parts or [moment]:
            begin, end = times_of(part)
            yield begin
            yield from () if end is None else (end,)


def times_of(moment: Moment) -> tuple[int, int | None]:
    """When a moment began and ended; None for the end of what goes on."""
    if moment.took_ms is None:
        return moment.at_ms, None if moment.outcome == "open" else moment.at_ms
    return moment.at_ms, moment.at_ms + moment.took_ms


def _groups(moments: Sequence[Moment]) -> list[list[Moment]]:
    """Moments that share a lane."""
    if len(moments) < FOLD:
        return [[moment] for moment in moments]
    lanes: dict[tuple[str, str], list[Moment]] = {}
    for moment in moments:
        lanes.setdefault((moment.kind, _plain(moment)), []).append(moment)
    return list(lanes.values())


class _Drawing:
    """Draws lanes on one scale."""

    def __init__(self, scale: Scale, until_ms: int, children: Mapping[str, Child]) -> None:
        self._scale = scale
        self._until_ms = until_ms
        self._children = children

    def own_lane(self, run: Child, begin_ms: int, end_ms: int | None, outcome: str, happened: Sequence[Moment]) -> Lane:
        ended = "" if end_ms is None else span(end_ms - begin_ms)
        bar = self._bar(begin_ms, end_ms, outcome, f"the run, {outcome or 'open'}")
        bars = [self._in_segments(bar, begin_ms, end_ms, run)]
        first_and_last = 2 if end_ms is not None else 1
        inner = happened[1 : len(happened) - first_and_last + 1]
        bars += [self._mark(moment) for moment in inner]
        return Lane(kind="run", label="run", outcome=outcome, took=ended, bars=bars)

    def lane(self, moments: Sequence[Moment]) -> Lane:
        first = moments[0]
        parts = [part for moment in moments for part in (moment.parts or [moment])]
        many = len(parts) > 1
        worst = next((m.outcome for key in ("failed", "open") for m in moments if m.outcome == key), first.outcome)
        lane = Lane(
            kind=first.kind, label=first.what if len(moments) == 1 else f"{len(parts)} x {_plain(first)}",
            outcome=worst, took=_took(moments, self._until_ms), child="" if many else first.child,
        )  # fmt: skip
        rows = _packed([times_of(part) for part in parts], self._until_ms) if many else [0]
        lane.rows = max(rows) + 1
        lane.height = LANE_HEIGHT if lane.rows == 1 else max(LANE_HEIGHT, lane.rows * THIN_STEP + 11)
        height = BAR_HEIGHT if lane.rows == 1 else THIN_HEIGHT
        top = (lane.height - (BAR_HEIGHT if lane.rows == 1 else lane.rows * THIN_STEP - 2)) / 2
        lane.bars = [
            replace(self._drawn(part), y=top + row * THIN_STEP, h=height) for part, row in zip(parts, rows, strict=True)
        ]
        if len(lane.bars) > MOST_BARS:
            lane.bars = _coalesced(lane.bars)
        return lane

    def _drawn(self, moment: Moment) -> Bar:
        begin, end = times_of(moment)
        if end == begin:
            return self._mark(moment)
        bar = self._bar(begin, end, moment.outcome, moment.what, moment.detail, child=moment.child)
        bar = replace(bar, wait=moment.kind in WAITS)
        child = self._children.get(moment.child)
        return bar if child is None else self._in_segments(bar, begin, end, child)

    def _bar(self, begin: int, end: int | None, outcome: str, what: str, detail: str = "", child: str = "") -> Bar:
        x = min(self._scale.x(begin), WIDTH - LEAST_WIDTH)
        w = max(LEAST_WIDTH, round(self._scale.x(self._until_ms if end is None else end) - x, 3))
        title = title_of(what, begin, end, detail)
        return Bar(x=x, w=w, y=PADDING, h=BAR_HEIGHT, outcome=outcome or "ok", title=title, child=child)

    def _mark(self, moment: Moment) -> Bar:
        x = self._scale.x(moment.at_ms)
        title = title_of(moment.what, moment.at_ms, moment.at_ms, moment.detail)
        return Bar(
            x=x, w=0, y=PADDING, h=BAR_HEIGHT, outcome=moment.outcome or "note", title=title, child=moment.child,
            mark=True,
        )  # fmt: skip

    def _in_segments(self, bar: Bar, begin: int, end: int | None, run: Child) -> Bar:
        """A bar with its wait in the queue, and its attempts with the waits between them if it had several."""
        stretches = [*_queueing(begin, end, run), *_attempts(end, run)]
        segments = [
            self._bar(from_ms, to_ms, outcome, what)
            for from_ms, to_ms, outcome, what in stretches
            if to_ms is None or to_ms > from_ms
        ]
        return replace(bar, segments=tuple(one for one in segments if one.outcome != "queued" or one.w > LEAST_WIDTH))


_Stretch = tuple[int, int | None, str, str]


def _queueing(begin: int, end: int | None, run: Child) -> Iterator[_Stretch]:
    if run.started_ms is not None:
        yield begin, run.started_ms, "queued", "waits in its queue"
    elif end is None:
        yield begin, None, "queued", "waits in its queue"


def _attempts(end: int | None, run: Child) -> Iterator[_Stretch]:
    if len(run.tries) < 2:  # noqa: PLR2004 - the bar itself shows a single one
        return
    before: int | None = None
    for number, one in enumerate(run.tries):
        if before is not None and one.from_ms > before:
            yield before, one.from_ms, "queued", "waits for the next attempt"
        before = end if one.to_ms is None else one.to_ms
        yield one.from_ms, before, one.outcome, f"attempt {number}" + (f": {one.detail}" if one.detail else "")


def _plain(moment: Moment) -> str:
    """A moment's name without what differs from one of its sort to the next: a count, a timer's length."""
    count, times, name = moment.what.partition(" x ")
    if times and count.isdecimal():
        return name
    if moment.kind == "map":
        return moment.what.partition(":")[0]
    if moment.kind == "timer":
        return f"timer {moment.what.partition('(')[2].rstrip(')')}".strip()
    return moment.what


def _took(moments: Sequence[Moment], until_ms: int) -> str:
    if any(moment.outcome == "open" for moment in moments):
        return ""
    ends = [times_of(moment) for moment in moments]
    took = max(end if end is not None else until_ms for _, end in ends) - min(begin for begin, _ in ends)
    return span(took) if took else ""


def _packed(times: Sequence[tuple[int, int | None]], until_ms: int) -> list[int]:
    """A row for each, so that bars of one row do not overlap while rows last."""
    free_at: list[int] = []
    rows = []
    for begin, end in times:
        row = next((at for at, free in enumerate(free_at) if free <= begin), None)
        if row is None and len(free_at) < MOST_ROWS:
            row = len(free_at)
            free_at.append(0)
        elif row is None:
            row = min(range(MOST_ROWS), key=free_at.__getitem__)
        free_at[row] = max(free_at[row], until_ms if end is None else end)
        rows.append(row)
    return rows


def _coalesced(bars: Sequence[Bar]) -> list[Bar]:
    """Bars of one row and outcome that touch, as one; what is drawn stays bounded by the axis' resolution."""
    latest: dict[tuple[float, str, bool], int] = {}
    counts: dict[int, int] = {}
    drawn: list[Bar] = []
    for bar in bars:
        at = latest.get((bar.y, bar.outcome, bar.mark))
        if at is not None and bar.x - (drawn[at].x + drawn[at].w) < LEAST_WIDTH / 2:
            counts[at] = counts.get(at, 1) + 1
            end = max(drawn[at].x + drawn[at].w, bar.x + bar.w)
            drawn[at] = replace(drawn[at], w=round(end - drawn[at].x, 3), child="", segments=(), mark=False)
        else:
            latest[bar.y, bar.outcome, bar.mark] = len(drawn)
            drawn.append(bar)
    return [
        replace(bar, title=f"{counts[at]} of them; the first: {bar.title}") if at in counts else bar
        for at, bar in enumerate(drawn)
    ]


def _moved(bar: Bar, y: float) -> Bar:
    return replace(bar, y=bar.y + y, segments=tuple(replace(one, y=bar.y + y, h=bar.h) for one in bar.segments))


def title_of(what: str, begin_ms: int, end_ms: int | None, detail: str = "") -> str:
    """What hovering tells: name, exact times (UTC), duration, aside."""
    begin = clock(at_ms(begin_ms))
    if end_ms is None:
        times = f"since {begin} UTC"
    elif end_ms == begin_ms:
        times = f"at {begin} UTC"
    else:
        times = f"{begin} to {clock(at_ms(end_ms))} UTC ({span(end_ms - begin_ms)})"
    return "\n".join(part for part in (what, times, detail) if part)


def clock(moment: datetime) -> str:
    """A time to the millisecond."""
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"

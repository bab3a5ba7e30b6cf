"""From times to places on a timeline's axis: long idle stretches compressed, ticks at round durations. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agnt5.client.moments import span

WIDTH = 100.0
"""Places are percent of the plot's width, so that a drawing fits every screen."""

IDLE_MS = 30_000
"""A stretch without any beginning or end that is shorter than this is never compressed."""

IDLE_RATIO = 10
"""A stretch is idle when it is so many times as long as all that is not idle together."""

MOST_GAPS = 8
GAPS_WIDTH = 40.0
GAP_WIDTH = 12.0
TICKS = 8

_STEPS = (
    1, 2, 5, 10, 20, 50, 100, 200, 500,
    1000, 2000, 5000, 10_000, 15_000, 30_000,
    60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000,
    3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000,
    86_400_000, 172_800_000, 604_800_000, 1_209_600_000, 2_592_000_000, 7_776_000_000, 31_536_000_000,
)  # fmt: skip
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"))


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of time and the stretch of the axis that shows it; `idle` ones are compressed."""

    from_ms: int
    to_ms: int
    x: float
    w: float
    idle: bool = False

    @property
    def label(self) -> str:
        """How long it is."""
        return span(self.to_ms - self.from_ms)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the axis. `minor` ones lose their label where there is little room."""

    x: float
    label: str
    minor: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """The axis of one timeline."""

    pieces: tuple[Piece, ...]
    ticks: tuple[Tick, ...]

    @property
    def gaps(self) -> list[Piece]:
        """The compressed stretches."""
        return [piece for piece in self.pieces if piece.idle]

    def x(self, ms: float) -> float:
        """Where a time stands, in percent; times beyond an end stand at it."""
        at = bisect_right(self.pieces, ms, key=lambda piece: piece.from_ms) - 1
        piece = self.pieces[max(0, at)]
        part = (ms - piece.from_ms) / (piece.to_ms - piece.from_ms)
        return round(piece.x + piece.w * min(1.0, max(0.0, part)), 3)


def scale_of(times: Iterable[int], begin_ms: int, end_ms: int) -> Scale:
    """The axis from `begin_ms` to `end_ms`; `times` are those at which something began or ended."""
    end_ms = max(end_ms, begin_ms + 1)
    edges = sorted({begin_ms, end_ms, *(ms for ms in times if begin_ms < ms < end_ms)})
    pieces = _placed(_joined(edges, _idle([later - ms for ms, later in pairwise(edges)])))
    return Scale(tuple(pieces), tuple(_ticks(pieces, begin_ms)))


def _idle(lengths: Sequence[int]) -> set[int]:
    """Which stretches are idle: a few, each much longer than the rest together."""
    order = sorted(range(len(lengths)), key=lambda at: -lengths[at])
    rest, chosen = sum(lengths), 0
    for count, at in enumerate(order[:MOST_GAPS], 1):
        rest -= lengths[at]
        if lengths[at] >= IDLE_MS and rest > 0 and lengths[at] >= IDLE_RATIO * rest:
            chosen = count
    return set(order[:chosen])


def _joined(edges: Sequence[int], idle: set[int]) -> list[tuple[int, int, bool]]:
    """Stretches from edge to edge, with neighbours that are not idle as one."""
    joined: list[tuple[int, int, bool]] = []
    for at, (begin, end) in enumerate(pairwise(edges)):
        if joined and at not in idle and not joined[-1][2]:
            joined[-1] = (joined[-1][0], end, False)
        else:
            joined.append((begin, end, at in idle))
    return joined


def _placed(stretches: Sequence[tuple[int, int, bool]]) -> list[Piece]:
    gaps = sum(idle for *_, idle in stretches)
    gap_width = min(GAP_WIDTH, GAPS_WIDTH / gaps) if gaps else 0.0
    active_ms = sum(end - begin for begin, end, idle in stretches if not idle)
    per_ms = (WIDTH - gaps * gap_width) / active_ms
    pieces, x = [], 0.0
    for begin, end, idle in stretches:
        width = gap_width if idle else (end - begin) * per_ms
        pieces.append(Piece(begin, end, round(x, 3), round(width, 3), idle))
        x += width
    return pieces


def _ticks(pieces: Sequence[Piece], begin_ms: int) -> Iterable[Tick]:
    """After an idle stretch ticks count from its end, marked with +; the stretch itself bears its length."""
    for piece in pieces:
        room = int(TICKS * piece.w / WIDTH)
        length = piece.to_ms - piece.from_ms
        if piece.idle or room < 1:
            continue
        step = next((step for step in _STEPS if length / step <= room), _STEPS[-1])
        later = piece.from_ms > begin_ms
        for number in range(1 if later else 0, int(length / step) + 1):
            x = round(piece.x + piece.w * number * step / length, 3)
            if x < WIDTH - 3 or number == 0:
                yield Tick(x, ("+" if later else "") + tick_label(number * step), number % 2 == 1)


def tick_label(ms: int) -> str:
    """A round duration as short as can be: 0, 250 ms, 1.5 s, 2 m, 1 h 30 m, 3 d."""
    if ms == 0:
        return "0"
    if ms < 1000:  # noqa: PLR2004
        return f"{ms} ms"
    if ms < 60_000 and ms % 1000:  # noqa: PLR2004
        return f"{ms / 1000:g} s"
    parts = []
    for size, unit in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])

"""What a link does, as figures: it counts by itself, and the difference is told a few times a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agnt5.telemetry.figures import Figures, current

if TYPE_CHECKING:
    from agnt5.store.link import Link

EVERY = 4
"""Of so many writes, the round trip of one is measured."""


class LinkWatch:
    """One link's."""

    def __init__(self, figures: Figures) -> None:
        self.round_trip = figures.round_trip
        self._figures = figures
        self._told = (0, 0, 0)

    def turned(self, link: Link) -> None:
        """Tell what came since the last time."""
        now = (link.calls, link.writes, link.reconnects)
        if now != self._told:
            calls, writes, reconnects = (new - old for new, old in zip(now, self._told, strict=True))
            self._told = now
            self._figures.store(calls=calls, writes=writes, reconnects=reconnects)


def watch_of() -> LinkWatch | None:
    """For a new link; None where no figures are asked for."""
    figures = current()
    return LinkWatch(figures) if figures.on else None

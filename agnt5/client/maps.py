"""What a journal tells of a `ctx.map`: how many of its items are done, have failed, were not begun. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agnt5.client.moments import Moment, known_part
from agnt5.replay import events as ev

MAP = "map:"
"""How the names of steps begin that a map records of itself: its beginning, notes of progress, its end."""


class Maps:
    """The maps of one run, by what they are called in keys of their children."""

    def __init__(self) -> None:
        self._maps: dict[str, _Map] = {}

    def note(self, event: ev.StepCompleted) -> Moment | None:
        """Take what a map recorded of itself. The moment of a map that begins is returned, to be told."""
        said: Mapping[str, Any] = event.result if isinstance(event.result, dict) else {}
        name = str(said.get("map", ""))
        known = self._maps.get(name)
        if known is None and "total" not in said:
            return None
        if known is None:
            known = self._maps[name] = _Map(event, name)
            known.begin(said)
            return known.moment
        if "total" in said:
            known.begin(said)
        else:
            known.progress(event.at, said)
        return None

    def of(self, child: str) -> str:
        """The map that a child is an item of, "" for none."""
        return known_part(_own_part(child), self._maps) or ""

    def item(self, name: str, child: str, outcome: str) -> None:
        """A child of the map `name` was started ("open"), or has ended."""
        if found := self._maps.get(name):
            found.item(_own_part(child), outcome)


class _Map:
    """Counts items by their children; calls in the run itself by the notes of the map."""

    def __init__(self, event: ev.StepCompleted, name: str) -> None:
        self.moment = Moment(at_ms=event.at, kind="map", what="", outcome="open", map=name)
        self._called = event.name.removeprefix(MAP)
        self._items: dict[str, str] = {}
        self._total = self._done = self._failed = 0
        self._by_children = True

    def begin(self, said: Mapping[str, Any]) -> None:
        self._total = int(said["total"])
        self._by_children = said.get("of") != "calls"
        self.moment.detail = f"{said.get('concurrency')} at a time"
        self._tell()

    def item(self, own: str, outcome: str) -> None:
        if not self._by_children:
            return
        before = self._items.get(own)
        self._items[own] = outcome
        self._done += (outcome == "ok") - (before == "ok")
        self._failed += (outcome in {"failed", "cancelled"}) - (before in {"failed", "cancelled"})
        if outcome == "open":  # of a later attempt, after the map had ended with errors
            self._go_on()
        self._tell()

    def progress(self, at_ms: int, said: Mapping[str, Any]) -> None:
        self._done, self._failed = int(said.get("done", 0)), int(said.get("failed", 0))
        if said.get("ended"):
            self.moment.took_ms = at_ms - self.moment.at_ms
            self.moment.outcome = "failed" if self._failed else "ok"
        else:
            self._go_on()
        self._tell()

    def _go_on(self) -> None:
        self.moment.took_ms, self.moment.outcome = None, "open"

    def _tell(self) -> None:
        told = f"map {self._called}: {self._done:,} of {self._total:,} done"
        if self._failed:
            told += f", {self._failed:,} failed"
        left = self._total - self._done - self._failed
        if self.moment.outcome != "open" and left > 0:
            told += f", {left:,} not begun"
        self.moment.what = told


def _own_part(child: str) -> str:
    """What a child's id has beside its parent's: its key, without generation and redo."""
    own = child.rpartition("~")[2].partition("!")[0]
    generation, dot, part = own.partition(".")
    return part if dot and generation.isdecimal() else own

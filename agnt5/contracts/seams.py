"""Texts that are read as one: a known value that is split over several of them is masked as in the whole."""

from __future__ import annotations

from collections import deque

from agnt5.contracts.beginnings import FREE
from agnt5.contracts.masking import MASKER, Masker, Place, name_of


class Seams:
    """Takes texts one after the other and gives each back, masked, in the same order.

    A text that ends as a known value begins waits for what follows, and those behind it with it; all others are given
    at once. The label of a split value stands in the text in which it begins; those in which it goes on lack what is
    part of it, and may be empty. So texts without such a value come back as they are, each by itself.

    The first `free` characters of a value (a quarter of it at most) do not wait: as many may stand before its label.
    Else up to a third of all texts would have to wait, for as long as their writer likes. With 0 all texts together are
    what masking their whole gives.
    """

    def __init__(self, what: str, masker: Masker = MASKER, *, free: int = FREE) -> None:
        self._what = what
        self._masker = masker
        self._free = free
        self._lengths: deque[int] = deque()
        self._text = ""
        self._context = 0
        self._out = 0
        self._hidden = False

    def add(self, text: str) -> list[str]:
        """Take a text; gives those that can go."""
        self._text += text
        self._lengths.append(len(text))
        first, until = self._masker.unsure(self._text, self._free)
        if self._out + self._lengths[0] > until:
            return []
        places = self._masker.places(self._text, self._context)
        until = _before(places, until)
        given = []
        while self._lengths and self._out + self._lengths[0] <= until:
            given.append(self._next(places))
        self._forget(_before(places, min(first, self._out)))
        return given

    def end(self) -> list[str]:
        """Nothing follows, or something else: gives those that wait. What is added later is another text."""
        if not self._text and not self._lengths:
            return []
        places = self._masker.places(self._text, self._context)
        given = [self._next(places) for _ in range(len(self._lengths))]
        self._text, self._context, self._out, self._hidden = "", 0, 0, False
        return given

    def _next(self, places: list[Place]) -> str:
        """The first text that waits. Of a value that began in an earlier one, its label stands there, unless its
        beginning was let go as it is.
        """
        start = at = self._out
        end = self._out = start + self._lengths.popleft()
        if start == end:
            return ""
        parts, hidden = [], False
        for first, last, label in places:
            if last <= start or first >= end:
                continue
            if first >= start or not self._hidden:
                parts += [self._text[at:first], label]
            if first < start or last > end:
                self._masker.warn(self._what, [name_of(label)])
            at = min(last, end)
            hidden = at == end
        self._hidden = hidden
        return "".join([*parts, self._text[at:end]])

    def _forget(self, until: int) -> None:
        """Drop what can be part of no value any more. One character stays: behind a digit, digits are no value."""
        dropped = max(0, until - 1)
        if dropped:
            self._text, self._context, self._out = self._text[dropped:], 1, self._out - dropped


def _before(places: list[Place], at: int) -> int:
    """`at`, or where the value begins that `at` is in the middle of."""
    return next((first for first, last, _ in places if first < at < last), at)

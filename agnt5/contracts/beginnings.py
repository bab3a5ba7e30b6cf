"""How a text ends that is cut in the middle of a known value."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

FREE = 2
"""Characters of a value at most that do not have to wait for what follows them."""

_HEAD = FREE + 1


class Beginnings:
    """What some forms begin with. Each has more than `FREE` + 1 characters."""

    __slots__ = ("_forms", "_heads", "_longest", "_numbers", "_short")

    def __init__(self, forms: Iterable[str]) -> None:
        self._forms = sorted(forms)
        self._heads = {form[:_HEAD] for form in self._forms}
        self._short: dict[str, int] = {}
        for form in self._forms:
            for count in range(1, _HEAD):
                self._short[form[:count]] = min(len(form), self._short.get(form[:count], len(form)))
        self._numbers = {form for form in self._forms if form.isdigit()}
        self._longest = max(map(len, self._forms))

    def at_end(self, text: str, free: int) -> tuple[int, int]:
        """Where the longest end of `text` begins that may go on as a form, and where the longest one does that must
        not be seen before that is known; `len(text)` for none. `free` characters of a form may be seen, `FREE` at most,
        and no more than a quarter of it.
        """
        size = len(text)
        for at in range(max(0, size - self._longest), size - FREE):
            if text[at : at + _HEAD] in self._heads and self._goes_on(text[at:]):
                return at, at
        first = size
        for at in range(max(0, size - FREE), size):
            if shortest := self._short.get(text[at:]):
                first = min(first, at)
                if size - at > min(free, shortest // 4):
                    return first, at
        return first, size

    def _goes_on(self, end: str) -> bool:
        """Whether a form begins so and is longer. A number also, which is none if another digit follows."""
        at = bisect_left(self._forms, end)
        return end in self._numbers or any(form.startswith(end) and form != end for form in self._forms[at : at + 2])

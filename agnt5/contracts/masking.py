"""Values that nobody may see: what this process knows of secrets, and how text and data are freed of them.

Whatever leaves a process as text goes through `masked` (logs, errors, events), and payloads at rest go through
`masked_json`. A value is known from the moment it is read, so that it is masked wherever it turns up later; a value
that was rotated away stays known.

Known values are found by blocks from the middle of each of their forms: of data, every second block of eight bytes is
looked at, say, and a form of 23 bytes or more cannot be in it without one of its own blocks. So the price depends on
the data's length, and hardly on how many secrets there are; values of fewer than 18 characters cost a few times more.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from agnt5.contracts.beginnings import Beginnings

SHORTEST = 6
"""Characters of a value that can be masked; shorter ones would take innocent text with them."""

LONGEST = 65_536
"""Characters of a secret at most."""

MOST = 500
"""Values that are known at a time; the one that was learned first is forgotten beyond them."""

Place = tuple[int, int, str]
"""Start and end of a value in a text, and what stands in its place."""

MASKED = b"[secret:"
"""What JSON has in it in which something was masked."""

_LINE = re.compile(r"(?!-----)\S{16,}")
_TOLD = 1000
_USUAL_IN_URLS = "!$&'()*+,;=:@/"

logger = logging.getLogger("agnt5.secrets")


class _Blocks:
    """Forms that are found by their blocks of `size` bytes, `every` so many of which are looked at."""

    __slots__ = ("_every", "_format", "_size", "forms", "least")

    def __init__(self, size: int, every: int) -> None:
        self._size, self._every, self._format = size, every, {4: "I", 8: "Q"}[size]
        self.least = size * (every + 1) - 1
        self.forms: dict[int, tuple[tuple[bytes, str], ...]] = {}

    def add(self, data: bytes, form: str) -> None:
        """Keep as many blocks as it takes for one of them to be looked at, wherever the form begins. They are from its
        middle: the ends of secrets are often alike.
        """
        width = self._size * self._every
        first = (len(data) - (width + self._size - 1)) // 2
        for at in range(first, first + width):
            block = int.from_bytes(data[at : at + self._size], sys.byteorder)
            self.forms[block] = (*self.forms.get(block, ()), (data, form))

    def found(self, data: bytes) -> Iterable[str]:
        """The forms that are in `data`."""
        whole = memoryview(data)[: len(data) & -self._size]
        blocks = whole.cast(self._format)[:: self._every].tolist()  # type: ignore[call-overload]  # one of two formats
        if self.forms.keys().isdisjoint(blocks):
            return ()
        maybe = {pair for block in blocks if block in self.forms for pair in self.forms[block]}
        return [form for encoded, form in maybe if encoded in data]


class _Known:
    """All forms of all values. Never changed: a new one takes its place."""

    __slots__ = ("_beginnings", "_by_blocks", "_short", "exact", "labels")

    def __init__(self, values: Mapping[str, str], forms: Mapping[str, Collection[str]]) -> None:
        self.exact = {value: label(name) for value, name in values.items()}
        self.labels: dict[str, str] = {}
        for value, name in values.items():
            for form in forms[value]:
                self.labels.setdefault(form, label(name))
        kinds = [_Blocks(8, 2), _Blocks(4, 2), _Blocks(4, 1)]
        if any(kinds[2].least <= len(form) < kinds[1].least for form in self.labels):
            del kinds[1]  # the last one costs what it costs, and takes these along
        short = []
        for form in self.labels:
            data = _bytes(form)
            kind = next((kind for kind in kinds if len(data) >= kind.least), None)
            if kind is None:
                short.append((data, form))
            else:
                kind.add(data, form)
        self._by_blocks = tuple(kind for kind in kinds if kind.forms)
        self._short = tuple(short)
        self._beginnings: Beginnings | None = None

    def found(self, data: bytes) -> list[str]:
        """The forms that are in `data`."""
        found = [form for short, form in self._short if short in data]
        for kind in self._by_blocks:
            found += kind.found(data)
        return found

    def masked(self, text: str) -> str:
        """`text` with labels in the place of what is known."""
        parts, end = [], 0
        for start, until, label_ in self.places(text):
            parts += [text[end:start], label_]
            end = until
        return "".join([*parts, text[end:]]) if parts else text

    def places(self, text: str, first: int = 0) -> list[Place]:
        """What is known and where it is. Values that overlap are one, with the label of the longest."""
        found = self.found(_bytes(text))
        spans = sorted(span for form in found for span in _spans(text, form, first))
        places, at = [], 0
        while at < len(spans):
            start, length, form = spans[at]
            until, longest = start - length, -length
            at += 1
            while at < len(spans) and spans[at][0] < until:
                other, minus, its = spans[at]
                until = max(until, other - minus)
                if -minus > longest:
                    longest, form = -minus, its
                at += 1
            places.append((start, until, self.labels[form]))
        return places

    @property
    def beginnings(self) -> Beginnings:
        """What text ends with where one of the forms may go on behind it; made when it is first needed."""
        if self._beginnings is None:
            self._beginnings = Beginnings(self.labels)
        return self._beginnings

    def masked_value(self, value: Any) -> Any:
        """A copy of JSON data with labels in the place of what is known, in keys too."""
        match value:
            case str():
                return self.masked(value)
            case dict():
                return {self.masked_value(key): self.masked_value(one) for key, one in value.items()}
            case list() | tuple():
                return [self.masked_value(one) for one in value]
            case int() | float() if not isinstance(value, bool):
                return self.exact.get(repr(value), value)
            case _:
                return value


class Masker:
    """The values known to be secret. Safe from any thread; costs next to nothing while it knows none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}
        self._forms: dict[str, Collection[str]] = {}
        self._known: _Known | None = None
        self._told: dict[tuple[str, ...], None] = {}

    @property
    def knows(self) -> bool:
        """Whether there is anything to mask."""
        return self._known is not None

    def learn(self, name: str, value: str) -> bool:
        """Mask `value` from now on, as `[secret:name]`; also its lines and its JSON, URL and base64 forms.

        False, with one warning, for a value of fewer than `SHORTEST` characters, which stays as it is.
        """
        return self.learn_all([(name, value)])

    def learn_all(self, secrets: Iterable[tuple[str, str]]) -> bool:
        """`learn` for several, at the price of one; whether all of them can be masked."""
        good = True
        with self._lock:
            fresh: dict[str, str] = {}
            for name, value in secrets:
                if value in self._values:
                    continue
                if len(value.strip()) >= SHORTEST:
                    fresh.setdefault(value, name)
                else:
                    good = False
                    self._warn_short(name, value)
            if fresh:
                self._add(fresh)
        return good

    def forget(self) -> None:
        """Know nothing any more. For tests."""
        with self._lock:
            self._values, self._forms, self._known, self._told = {}, {}, None, {}

    def masked(self, text: str) -> str:
        """`text` without known values."""
        return text if self._known is None else self._known.masked(text)

    def masked_value(self, value: Any) -> Any:
        """JSON data (dicts, lists, text, numbers) without known values."""
        return value if self._known is None else self._known.masked_value(value)

    def masked_json(self, data: bytes, what: str = "", *, only: Collection[str] = ()) -> bytes:
        """JSON without known values; stays JSON. The same bytes where nothing is found.

        `what` says which data this is: a value that is found there is a mistake of who put it in, and one warning for
        each `what` tells of it. With `only`, of the outermost object (or of those in the outermost list) the members of
        these names are masked, and all others stay as they are.
        """
        if self._known is None or not self._known.found(data):
            return data
        return self._freed(self._known, data, what, only)

    def places(self, text: str, first: int = 0) -> list[Place]:
        """Where known values are in `text` that begin at `first` or later, in order; those that overlap are one."""
        return [] if self._known is None else self._known.places(text, first)

    def unsure(self, text: str, free: int) -> tuple[int, int]:
        """Where the end of `text` begins that may be the beginning of a known value, and the same for ends that are
        more of it than may be shown: `free` characters, and a quarter of it. `len(text)` where there is none.
        """
        return (len(text), len(text)) if self._known is None else self._known.beginnings.at_end(text, free)

    def warn(self, what: str, names: Iterable[str]) -> None:
        """Tell that secrets were masked in `what`, once for each of them."""
        for name in sorted(names):
            if self._first_time(what, name):
                logger.warning(
                    "%s holds the secret %s, which was masked in it; pass the name of a secret, and read it with"
                    " ctx.secrets().get(...) where it is used",
                    self.masked(what),
                    name,
                )

    def secret_in(self, text: str, *, least: int = SHORTEST) -> str | None:
        """The name of a secret that is in `text` in a form of at least `least` characters, or None."""
        if self._known is None:
            return None
        found = (form for form in self._known.found(_bytes(text)) if len(form) >= least)
        return next((name_of(self._known.labels[form]) for form in found), None)

    # ---- inside

    def _add(self, fresh: Mapping[str, str]) -> None:
        values = {**self._values, **fresh}
        while len(values) > MOST:
            del values[next(iter(values))]
        forms = {value: self._forms.get(value) or _forms(value) for value in values}
        self._known, self._values, self._forms = _Known(values, forms), values, forms

    def _freed(self, known: _Known, data: bytes, what: str, only: Collection[str]) -> bytes:
        from pydantic_core import from_json, to_json  # noqa: PLC0415 - modules that only define handlers need none of it

        try:
            value = from_json(data, allow_inf_nan=False)
        except ValueError:  # no JSON, or nested too deeply to be read again
            return known.masked(data.decode("utf-8", "replace")).encode("utf-8", "replace")
        freed = known.masked_value(value) if not only else _masked_members(known, value, only)
        if freed == value:
            return data
        out = to_json(freed)
        if what:
            gone = {*known.found(data)} - {*known.found(out)}
            self.warn(what, {name_of(known.labels[form]) for form in gone})
        return out

    def _warn_short(self, name: str, value: str) -> None:
        if value and self._first_time(name, str(hash(value))):
            logger.warning(
                "the secret %s has fewer than %d characters and cannot be masked in logs and records; use a longer one",
                name,
                SHORTEST,
            )

    def _first_time(self, *told: str) -> bool:
        if told in self._told:
            return False
        if len(self._told) >= _TOLD:
            self._told.clear()
        self._told[told] = None
        return True


def label(name: str) -> str:
    """What stands in the place of a value."""
    return f"[secret:{name}]"


def name_of(shown: str) -> str:
    """Whose value a label stands for."""
    return shown.removeprefix("[secret:").removesuffix("]")


def _masked_members(known: _Known, value: Any, only: Collection[str]) -> Any:
    if isinstance(value, list):
        return [_masked_members(known, one, only) for one in value]
    if isinstance(value, dict):
        return {name: known.masked_value(one) if name in only else one for name, one in value.items()}
    return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _spans(text: str, form: str, first: int) -> Iterable[tuple[int, int, str]]:
    """Where a form is: start, minus its length (the longest first when sorted), form. Of a longer number nothing is."""
    digits, at = form.isdigit(), text.find(form, first)
    while at >= 0:
        end = at + len(form)
        if not (digits and (text[at - 1 : at].isdigit() or text[end : end + 1].isdigit())):
            yield at, -len(form), form
        at = text.find(form, at + 1)


def _forms(value: str) -> set[str]:
    """A value as it may turn up in text: as it is, its lines, in URLs, JSON, JSON within JSON, `repr` and base64."""
    forms = set()
    for plain in {value, value.strip()}:
        raw = _bytes(plain)
        forms |= {plain, repr(plain)[1:-1], repr(raw)[2:-1], *_in_urls(plain, raw), *_in_base64(raw)}
    forms |= {line for line in value.split() if _LINE.fullmatch(line)} if "\n" in value else set()
    forms = {form for form in forms if len(form) >= SHORTEST}
    for _ in range(2):
        forms |= {_in_json(form, ascii_only=ascii_only) for form in forms for ascii_only in (False, True)}
    return forms


def _in_json(text: str, *, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def _in_urls(plain: str, raw: bytes) -> set[str]:
    found = {quote(raw, safe=""), quote(raw), quote_plus(raw), quote(raw, safe=_USUAL_IN_URLS)}
    return found | {re.sub("%[0-9A-F]{2}", lambda hit: hit[0].lower(), form) for form in found} | {plain}


def _in_base64(raw: bytes) -> set[str]:
    """The characters that a value alone decides, for each of the three places where it may begin in longer data."""
    found = set()
    for before, skipped in enumerate((0, 2, 3)):
        sure = (before + len(raw)) * 8 // 6
        form = base64.b64encode(bytes(before) + raw).decode()[skipped:sure]
        found |= {form, form.translate(str.maketrans("+/", "-_"))}
    return found


MASKER = Masker()
"""What this process knows."""

masked = MASKER.masked
masked_json = MASKER.masked_json
masked_value = MASKER.masked_value

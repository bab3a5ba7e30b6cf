"""The demo's report: markdown about a folder of text files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from agnt5.demo.analysis import Facts

TOP = 10
_KIB = 1024


def render(folder: str, facts: Sequence[Facts], *, approved_by: str) -> str:
    """The whole report."""
    parts = [
        f"# What is in {Path(folder).name}",
        (
            f"{_count(len(facts), 'file')}, {sum(f.lines for f in facts):,} lines,"
            f" {sum(f.words for f in facts):,} words, {_size(sum(f.size for f in facts))}. Released by {approved_by}."
        ),
        "## By language",
        _table(("language", "files", "lines", "words", "size"), _languages(facts)),
        "## Largest files",
        _table(("file", "lines", "words", "size", "longest line"), _largest(facts)),
        "## Most frequent terms",
        _table(("term", "times", "files"), _terms(facts)),
        "## Left to do",
        _todos(facts),
        "## Every file",
        _table(("file", "language", "lines", "words", "TODO", "most frequent terms"), _every(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def _languages(facts: Sequence[Facts]) -> Iterable[tuple[object, ...]]:
    totals: dict[str, list[int]] = {}
    for fact in facts:
        total = totals.setdefault(fact.language, [0, 0, 0, 0])
        for at, value in enumerate((1, fact.lines, fact.words, fact.size)):
            total[at] += value
    for language, (files, lines, words, size) in sorted(totals.items(), key=lambda item: -item[1][1]):
        yield language, files, f"{lines:,}", f"{words:,}", _size(size)


def _largest(facts: Sequence[Facts]) -> Iterable[tuple[object, ...]]:
    for fact in sorted(facts, key=lambda fact: -fact.size)[:TOP]:
        yield fact.path, f"{fact.lines:,}", f"{fact.words:,}", _size(fact.size), fact.longest_line


def _terms(facts: Sequence[Facts]) -> Iterable[tuple[object, ...]]:
    times, files = Counter[str](), Counter[str]()
    for fact in facts:
        times.update(fact.terms)
        files.update(fact.terms.keys())
    for term, count in times.most_common(2 * TOP):
        yield term, f"{count:,}", files[term]


def _todos(facts: Sequence[Facts]) -> str:
    rows = [(f.path, f.todos) for f in sorted(facts, key=lambda f: -f.todos) if f.todos]
    return _table(("file", "TODO, FIXME, XXX, HACK"), rows[: 2 * TOP]) if rows else "No TODO, FIXME, XXX or HACK."


def _every(facts: Sequence[Facts]) -> Iterable[tuple[object, ...]]:
    for fact in sorted(facts, key=lambda fact: fact.path):
        terms = ", ".join(f"{term} {count}" for term, count in list(fact.terms.items())[:5])
        yield fact.path, fact.language, f"{fact.lines:,}", f"{fact.words:,}", fact.todos or "", terms


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < _KIB:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= _KIB
    return f"{count:,.1f} GiB"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")

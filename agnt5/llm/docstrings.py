"""What a docstring says to a model: its first paragraph, and of each parameter what it is.

Google's ("Args:"), NumPy's ("Parameters" underlined) and Sphinx's (":param x:") forms are read, also side by side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import dedent

_GOOGLE = re.compile(r"(Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments|Other Parameters)\s*:\s*$")
_NUMPY = re.compile(r"(Parameters|Other Parameters)\s*$")
_UNDERLINE = re.compile(r"-{3,}\s*$")
_FIELD = re.compile(r":(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*?\s)?\*{0,2}(\w+)\s*:\s*(.*)$")
_GOOGLE_ITEM = re.compile(r"\*{0,2}(\w+)\s*(?:\([^:]*?\)|\[[^:]*?\])?\s*:(?:\s+(.*))?$")
_NUMPY_ITEM = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SECTION = re.compile(
    r"(Args|Arguments|Params|Parameters|Keyword Args|Keyword Arguments|Other Parameters|Returns?|Yields?|Raises|"
    r"Examples?|Notes?|Attributes|See Also|References|Warnings?|Todo)\s*:?\s*$"
)


@dataclass(frozen=True, slots=True)
class Docs:
    """`summary` is the first paragraph as one line, `parameters` has one line for each that is described."""

    summary: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def read(text: str | None) -> Docs:
    """What a docstring says; whatever is in no form that is known is left out."""
    if not text:
        return Docs()
    first, _, rest = text.expandtabs().strip("\n").partition("\n")
    lines = [first.strip(), *dedent(rest).splitlines()]
    found = {**_numpy(lines), **_google(lines), **_sphinx(lines)}
    return Docs(_summary(lines), {name: told for name, told in found.items() if told})


def _summary(lines: list[str]) -> str:
    words: list[str] = []
    for line in lines:
        text = line.strip()
        if not text:
            if words:
                break
            continue
        if _SECTION.match(text) or text.startswith(":"):
            break
        words.append(text)
    return " ".join(words)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _block(lines: list[str], start: int, header: int) -> Iterator[str]:
    """The lines from `start` on that are further in than the header; empty ones between them too."""
    for line in lines[start:]:
        if line.strip() and _indent(line) <= header:
            return
        yield line


def _google(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at, line in enumerate(lines):
        if _GOOGLE.match(line.strip()):
            # the text's own first line has no indent to go by
            found |= _items(list(_block(lines, at + 1, _indent(line) if at else -1)))
    return found


def _items(block: list[str]) -> dict[str, str]:
    """Items of one indent, each with the further indented lines below it."""
    depth = next((_indent(line) for line in block if line.strip()), 0)
    found: dict[str, str] = {}
    name = ""
    for line in block:
        text = line.strip()
        if text and _indent(line) == depth:
            match = _GOOGLE_ITEM.match(text)
            name = match[1] if match else ""
            if match:
                found[name] = (match[2] or "").strip()
        elif text and _indent(line) < depth:
            name = ""
        elif text and name:
            found[name] = f"{found[name]} {text}".strip()
    return found


def _numpy(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at in range(len(lines) - 1):
        if _NUMPY.match(lines[at].strip()) and _UNDERLINE.match(lines[at + 1].strip()):
            found |= _numpy_items(lines, at + 2, _indent(lines[at]))
    return found


def _numpy_items(lines: list[str], start: int, header: int) -> dict[str, str]:
    found: dict[str, str] = {}
    names: list[str] = []
    for at in range(start, len(lines)):
        line, text = lines[at], lines[at].strip()
        if not text:
            continue
        if _indent(line) < header or (at + 1 < len(lines) and _UNDERLINE.match(lines[at + 1].strip())):
            break
        if _indent(line) == header:
            match = _NUMPY_ITEM.match(text)
            names = [name.strip(" *") for name in match[1].split(",")] if match else []
        else:
            found |= {name: f"{found.get(name, '')} {text}".strip() for name in names}
    return found


def _sphinx(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        text = line.strip()
        if match := _FIELD.match(text):
            name = match[1]
            found[name] = match[2].strip()
        elif not text or text.startswith(":"):
            name = ""
        elif name:
            found[name] = f"{found[name]} {text}"
    return found

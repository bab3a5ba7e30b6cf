"""What the command line prints: plain aligned text when piped, colours on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from agnt5.contracts.masking import masked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES = {
    "queued": "yellow",
    "running": "cyan",
    "waiting": "blue",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "magenta",
    "ok": "green",
    "open": "blue",
    "error": "bold red",
    "warning": "yellow",
    "info": "dim",
    "note": "dim",
}
"""Colours of statuses, timeline rows and findings."""

Cell = tuple[str, str]
"""A text and its style."""

_GAP = "  "


@cache
def out() -> Console:
    """Standard output. Never wraps or cuts lines, so that ids can be copied and piped."""
    from rich.console import Console  # noqa: PLC0415 - help does not need it

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


@cache
def err() -> Console:
    """Standard error: hints and errors, so that standard output stays fit for pipes."""
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def styled(text: str, style: str = "") -> Text:
    """A piece of text in a style."""
    from rich.text import Text  # noqa: PLC0415

    return Text(text, style=STYLES.get(style, style))


def line(*cells: str | Cell, end: str = "\n") -> None:
    """Print pieces one after the other."""
    text = styled("")
    for cell in cells:
        text.append_text(styled(*cell) if isinstance(cell, tuple) else styled(cell))
    out().print(text, end=end)


def columns(rows: Sequence[Sequence[str | Cell]], *, indent: str = "") -> None:
    """Print rows with aligned columns; the last one is not padded."""
    cells = [[cell if isinstance(cell, tuple) else (cell, "") for cell in row] for row in rows]
    widths = [max(len(text) for text, _ in column) for column in zip(*cells, strict=True)]
    for row in cells:
        text = styled(indent)
        for at, (cell, style) in enumerate(row):
            padded = cell if at == len(row) - 1 else cell.ljust(widths[at])
            text.append_text(styled(padded, style)).append(_GAP if at < len(row) - 1 else "")
        text.rstrip()
        out().print(text)


def hint(text: str) -> None:
    """A remark for people: on standard error, and only when that is a terminal."""
    if sys.stderr.isatty():
        err().print(styled(text, "note"))


def fail(error: BaseException) -> None:
    """An error as one readable message."""
    err().print(styled("error: ", "error").append_text(styled(masked(str(error)), "default")))


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON for people and for pipes."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print JSON, without colours, so that it can be piped and pasted."""
    sys.stdout.write(as_json(value, indent=indent) + "\n")


def cut(text: str, limit: int) -> str:
    """The beginning of a text on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."

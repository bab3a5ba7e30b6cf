"""Reading a folder and a text file: what the demo's handlers compute. Plain functions."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = {
    ".c": "C", ".cfg": "INI", ".conf": "configuration", ".css": "CSS", ".csv": "CSV", ".go": "Go", ".h": "C",
    ".html": "HTML", ".ini": "INI", ".java": "Java", ".js": "JavaScript", ".json": "JSON", ".lua": "Lua",
    ".md": "Markdown", ".mdx": "Markdown", ".py": "Python", ".rb": "Ruby", ".rs": "Rust", ".rst": "reStructuredText",
    ".sh": "shell", ".sql": "SQL", ".toml": "TOML", ".ts": "TypeScript", ".tsx": "TypeScript", ".txt": "text",
    ".xml": "XML", ".yaml": "YAML", ".yml": "YAML",
}  # fmt: skip
"""Suffixes of files that are read, and what they probably hold."""

BY_NAME = {"Dockerfile": "Dockerfile", "LICENSE": "text", "Makefile": "make", "README": "text"}

SKIPPED = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages", "target", "vendor", "venv"})
"""Folders that hold what others wrote; hidden ones are left out too."""

LARGEST = 1_000_000
"""Bytes of a file that are read at most."""

TERMS = 8

_WORD = re.compile(r"[^\W\d_]{3,}")
_TODO = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "about after all also and any are because been before but can class def does each else elif except"
        " false for from get has have here how import into its just like more none not now off one only other"
        " out over return self some str int than that the their them then there these they this true try was"
        " what when where which while who will with would yield you your",
    )
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one file. `path` is relative to the folder."""

    path: str
    language: str
    size: int
    lines: int
    words: int
    todos: int
    longest_line: int
    terms: dict[str, int]


def list_files(folder: str, limit: int) -> list[str]:
    """Text files below a folder, sorted, at most `limit`: their paths relative to it."""
    root = Path(folder)
    found: list[str] = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if _ours(name)]
        paths = (Path(parent, name) for name in names if _ours(name))
        found += [str(path.relative_to(root)) for path in paths if language_of(path) and path.is_file()]
    return sorted(found)[:limit]


def language_of(path: Path) -> str | None:
    """What a file probably holds, by its name; None for what is not read."""
    return LANGUAGES.get(path.suffix.lower()) or BY_NAME.get(path.name)


def analyse(folder: str, path: str) -> Facts:
    """Read one file and count."""
    whole = Path(folder, path)
    raw = whole.read_bytes()[:LARGEST]
    text = raw.decode("utf-8", errors="replace")
    lines = text.splitlines()
    words = [word.lower() for word in _WORD.findall(text)]
    terms = Counter(word for word in words if word not in _COMMON)
    return Facts(
        path=path,
        language=language_of(whole) or "text",
        size=whole.stat().st_size,
        lines=len(lines),
        words=len(text.split()),
        todos=len(_TODO.findall(text)),
        longest_line=max((len(line) for line in lines), default=0),
        terms=dict(sorted(terms.most_common(TERMS), key=lambda term: (-term[1], term[0]))),
    )


def _ours(name: str) -> bool:
    return not (name.startswith(".") or name in SKIPPED or name.endswith(".egg-info"))

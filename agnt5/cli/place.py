"""Which store a command talks to."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(".agnt5")
"""Where `agnt5 dev` keeps its data, in the current folder."""

_NOTE = "redis-url"


def write_note(folder: Path, url: str) -> None:
    """Let other commands in this folder find the development server that runs here."""
    (folder / _NOTE).write_text(f"{os.getpid()} {url}\n", "utf-8")


def remove_note(folder: Path) -> None:
    """Forget the development server of this process. One that has begun meanwhile in the same folder is kept."""
    note = folder / _NOTE
    if note.exists() and note.read_text("utf-8").split()[0] == str(os.getpid()):
        note.unlink()


def noted_url(folder: Path = FOLDER) -> str | None:
    """The URL of the `agnt5 dev` which runs in this folder, if one does."""
    try:
        pid, url = (folder / _NOTE).read_text("utf-8").split()
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        return None
    return url


def chosen_url(given: str | None) -> str | None:
    """`--redis-url` or AGNT5_REDIS_URL, else the development server of this folder; None means the default."""
    return given or noted_url()

"""The Lua scripts: loaded from `lua/`, one transition a file, `lib.lua` put in front of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the server gets it. Its hash is its version: old and new workers can share a server."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Read `lua/<name>.lua` once."""
    folder = resources.files(__package__) / "lua"
    shebang, _, body = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
    source = f"{shebang}\n{(folder / 'lib.lua').read_text('utf-8')}\n{body}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


NAMES = (
    "advance", "append", "cancel", "claim", "create", "deliver", "finish", "fire",
    "heart", "mend", "park", "reap", "renew", "reopen", "requeue", "retry",
    "wake",
)  # fmt: skip

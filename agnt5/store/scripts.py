"""The Lua scripts: one transition a file in `lua/`, what several share in `lua/lib/`."""

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
def script(name: str, *, posts: bool = False) -> Script:
    """Read `lua/<name>.lua` once, with the parts of `lua/lib/` that its header names behind `Uses:`.

    `posts`: the version that sends Celery's messages itself.
    """
    folder = resources.files(__package__) / "lua"
    shebang, _, body = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
    parts = body.partition("-- Uses: ")[2].partition("\n")[0].split()
    used = [(folder / "lib" / f"{part}.lua").read_text("utf-8") for part in parts]
    source = "\n".join([shebang, *used, body])
    if posts:
        source = source.replace("local POSTS = false", "local POSTS = true")
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


NAMES = (
    "advance", "answer", "append", "call", "cancel", "claim", "commit", "configure", "create", "decide", "deliver",
    "disown", "emit", "erase", "finish", "fire", "heart", "keep", "lend", "mend", "park", "reap", "renew", "reopen",
    "requeue", "reseal", "reserve", "reset", "retry", "settle", "wake",
)  # fmt: skip

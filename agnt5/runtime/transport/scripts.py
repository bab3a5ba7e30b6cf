"""The transport's Lua scripts, read from the files next to this module."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from redis import Redis
from redis.commands.core import Script


@dataclass(frozen=True)
class Source:
    """A script's text and its SHA1, under which Redis knows it once it ran."""

    text: str
    sha: str


@cache
def source(name: str) -> Source:
    """The script `name`.lua of this package."""
    text = (Path(__file__).parent / f"{name}.lua").read_text(encoding="utf-8")
    return Source(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def bound(name: str, client: Redis) -> Script:
    """The script `name`, callable on `client`; redis-py loads it again after `SCRIPT FLUSH`."""
    return Script(client, source(name).text)

"""Config in Redis: what the script answers, what the history holds, and the copy that a process keeps in memory."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import Agnt5Error, InvalidInputError
from agnt5.contracts.flags import MOST_KEYS, VALUE_LIMIT, Rule, check_key, read_rule
from agnt5.store import keys
from agnt5.store.link import Link
from agnt5.store.replies import pairs

logger = logging.getLogger("agnt5.config")

VERSION = b"~version"
"""The field of the hash that counts changes; no key has a ~."""

KEPT = 10_000
"""Changes that are kept."""

PAGE = 500


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one key; `old` and `new` are JSON of rules, "" for none."""

    version: int
    at_ms: int
    key: str
    old: str
    new: str
    who: str
    comment: str


async def configured(pending: Awaitable[list[Any]], key: str) -> int | None:
    """The version that a change made; None: there was nothing to unset. Raises `InvalidInputError`."""
    reply = await pending
    if reply[0] == b"FULL":
        raise InvalidInputError(f"config {key!r} was not set: there are {MOST_KEYS} keys, the most that may be")
    return None if reply[0] == b"GONE" else int(reply[1])


async def rules(link: Link) -> tuple[int, dict[str, bytes]]:
    """The version, and the JSON of every rule."""
    fields = {name: bytes(text) for name, text in pairs(await link.call("HGETALL", keys.config()))}
    version = _number(fields.pop(VERSION, b"0"))
    return version, {name.decode(errors="backslashreplace"): text for name, text in sorted(fields.items())}


async def changes(link: Link, *, key: str | None, limit: int) -> list[Change]:
    """The latest changes, of one key or of all, newest first."""
    found: list[Change] = []
    end = "+"
    while len(found) < limit:
        page = await link.call("XREVRANGE", keys.config_log(), end, "-", "COUNT", PAGE)
        found += [change for entry in page if (change := _change(*entry)) and key in {None, change.key}]
        if len(page) < PAGE:
            break
        end = f"({page[-1][0].decode()}"
    return found[:limit]


def read(key: str, text: bytes) -> Rule:
    """A rule as it is stored. Raises `InvalidInputError` for what somebody else wrote there."""
    check_key(key)
    if len(text) > VALUE_LIMIT:
        raise InvalidInputError(f"config {key!r}: {len(text):,} bytes, at most {VALUE_LIMIT:,} are allowed")
    return read_rule(codec.loads(text), key)


class ConfigCopy:
    """What is set in Redis, as this process knows it. Looking at `rules` costs nothing, and is safe from any thread.

    Publications bring each change at once; `refresh` finds those that were missed. What is known stays known while
    Redis is away. What cannot be read is left out, told once in the log and listed in `broken`.
    """

    def __init__(self, link: Link, on_change: Callable[[list[str]], None] | None = None) -> None:
        self.rules: dict[str, Rule] = {}
        self.version = -1
        self.broken: dict[str, str] = {}
        self._link = link
        self._on_change = on_change
        self._refreshing = False
        self._again = False

    async def load(self) -> None:
        """Read all. Keeps what is known where that fails, and says so in the log."""
        try:
            version, texts = await rules(self._link)
        except Agnt5Error as error:
            logger.warning("config was not read, what was known counts: %s", error)
            return
        known = self.rules
        self.rules, self.version = dict(self._readable(texts.items())), version
        self.broken = {key: text for key, text in self.broken.items() if key in texts}
        self._tell([key for key in known.keys() | self.rules.keys() if known.get(key) != self.rules.get(key)])

    async def refresh(self) -> None:
        """Read all again where the version is another. One at a time: while Redis is away this waits."""
        if self._refreshing:
            self._again = True
            return
        self._refreshing = True
        try:
            self._again = True
            while self._again:
                self._again = False
                if _number(await self._link.call("HGET", keys.config(), VERSION) or b"0") != self.version:
                    await self.load()
        except Agnt5Error as error:
            logger.debug("the version of config was not read: %s", error)
        finally:
            self._refreshing = False

    def hear(self, message: bytes) -> bool:
        """Take a publication. False: another one is missing before it, so that `refresh` is needed."""
        version, key, text = message.split(b"\n", 2)
        if int(version) != self.version + 1:
            return int(version) == self.version
        name = key.decode()
        self.version = int(version)
        if readable := dict(self._readable([(name, text)] if text else [])):
            self.rules.update(readable)  # in place: thousands of changes may come in a second
        else:
            self.rules.pop(name, None)
            if not text:
                self.broken.pop(name, None)
        self._tell([name])
        return True

    def _readable(self, texts: Iterable[tuple[str, bytes]]) -> Iterable[tuple[str, Rule]]:
        for key, text in texts:
            try:
                yield key, read(key, text)
            except InvalidInputError as error:
                if self.broken.get(key) != str(error):
                    self.broken[key] = str(error)
                    logger.warning("config %r in Redis is left out, as if it were not set: %s", key[:200], error)
            else:
                self.broken.pop(key, None)

    def _tell(self, changed: list[str]) -> None:
        if changed and self._on_change is not None:
            self._on_change(changed)


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def _change(entry_id: bytes, flat: list[bytes]) -> Change | None:
    fields = {name.decode(): value.decode(errors="replace") for name, value in pairs(flat)}
    try:
        return Change(
            version=int(fields["version"]), at_ms=int(entry_id.partition(b"-")[0]), key=fields["key"],
            old=fields["old"], new=fields["new"], who=fields["who"], comment=fields["comment"],
        )  # fmt: skip
    except (KeyError, ValueError):  # not ours
        return None

"""Config as a client sees it: what is set, who changed it when, and who gets what."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from agnt5 import codec
from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import ConfigNotFoundError, InvalidInputError
from agnt5.contracts.flags import VALUE_LIMIT, Question, Rule, check_key, check_unit, read_rule, share
from agnt5.contracts.ids import new_run_id
from agnt5.runtime.configuration import from_environment
from agnt5.store import config, keys
from agnt5.store.config import Change
from agnt5.store.store import Store

TEXT_LIMIT = 1_000
"""Characters of a comment, or of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigState:
    """A key and the rule that is set for it, as JSON data: `{"value": 5}`, `{"value": true, "rollout": 25}`,
    `{"variants": {"control": 50, "treatment": 50}}`.

    `text` is the rule for people. `wrong` says why hosts leave it out, "" where they do not. `changed_at` and the two
    after it are of the latest change, where the history still has it.
    """

    key: str
    rule: dict[str, Any]
    text: str
    wrong: str = ""
    changed_at: datetime | None = None
    changed_by: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """A change: `old` and `new` are rules as JSON data, None where nothing was or is set."""

    key: str
    version: int
    at: datetime
    by: str
    comment: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigAnswer:
    """What a unit gets of a key: `value`, from "redis", "environment" or "default", and why."""

    key: str
    value: Any
    source: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRule:
    """A rule as it is given: a value, a value with a rollout, or variants."""

    value: Any = None
    rollout: float | None = None
    otherwise: Any = None
    variants: Mapping[str, float] | None = None
    when: Mapping[str, str | list[str]] = field(default_factory=dict)

    def read(self, key: str) -> tuple[Rule, bytes]:
        """The rule, checked, and its JSON. Raises `InvalidInputError`, `SerializationError`."""
        fields = {
            "value": self.value, "rollout": self.rollout, "otherwise": self.otherwise,
            "variants": None if self.variants is None else dict(self.variants), "when": dict(self.when) or None,
        }  # fmt: skip
        data = codec.dumps({name: value for name, value in fields.items() if value is not None}, what=f"config {key!r}")
        if len(data) > VALUE_LIMIT:
            raise InvalidInputError(
                f"config {key!r}: {len(data):,} bytes of JSON, at most {VALUE_LIMIT:,} are allowed; keep large data"
                " in a file, object store or database and set its address"
            )
        return read_rule(codec.loads(data), key), data


async def change(store: Store, key: str, rule: NewRule | None, *, by: str, comment: str, operation: str | None) -> bool:
    """Set or, without a rule, unset a key; False: there was nothing to unset."""
    check_key(key)
    told: dict[str, Any] = {"by": by, "comment": comment}
    for what, text in told.items():
        if not isinstance(text, str) or len(text) > TEXT_LIMIT:
            raise InvalidInputError(f"config {key!r}: {what} is a text of at most {TEXT_LIMIT} characters")
    data = b"" if rule is None else rule.read(key)[1]
    once = f"{key} {operation}" if operation else new_run_id()  # one deploy changes several keys
    version = await store.configure(key, data, operation=once, who=by, comment=comment)
    return version is not None


async def states(store: Store) -> list[ConfigState]:
    """All that is set, by key."""
    _, texts = await config.rules(store.link)
    latest: dict[str, Change] = {}
    for one in await config.changes(store.link, key=None, limit=config.KEPT):
        latest.setdefault(one.key, one)
    return [_state(key, text, latest.get(key)) for key, text in texts.items()]


async def state(store: Store, key: str) -> ConfigState:
    """What is set for a key. Raises `ConfigNotFoundError`."""
    text = await store.link.call("HGET", keys.config(), check_key(key))
    if text is None:
        _, texts = await config.rules(store.link)
        close = get_close_matches(key, texts, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"{len(texts)} other keys are set"
        raise ConfigNotFoundError(f"config {key!r} is not set in Redis; {hint}")
    found = await config.changes(store.link, key=key, limit=1)
    return _state(key, bytes(text), found[0] if found else None)


async def history(store: Store, key: str | None, limit: int) -> list[ConfigChange]:
    """The latest changes, newest first."""
    if limit < 1:
        raise InvalidInputError(f"limit: a whole number from 1 is needed, found {limit!r}")
    found = await config.changes(store.link, key=None if key is None else check_key(key), limit=limit)
    return [
        ConfigChange(
            key=one.key, version=one.version, at=at_ms(one.at_ms), by=one.who, comment=one.comment, old=_data(one.old),
            new=_data(one.new),
        )
        for one in found
    ]  # fmt: skip


async def explain(
    store: Store, key: str, *, unit: str | int | None, headers: Mapping[str, str], default: Any
) -> ConfigAnswer:
    """What a unit gets of a key, in Redis and in this process's environment, and why."""
    who = "" if unit is None else check_unit(unit)
    text = await store.link.call("HGET", keys.config(), check_key(key))
    why = "it is not set in Redis"
    if text is not None:
        try:
            rule = config.read(key, bytes(text))
        except InvalidInputError as error:
            why = f"what is set in Redis cannot be read: {error}"
        else:
            why = _why(rule, key, who)
            if (value := rule.answer(key, who, {name.lower(): of for name, of in headers.items()})) is not None:
                return ConfigAnswer(key=key, value=value, source="redis", why=why)
            why = f"Redis has nothing for it ({why})"
    found = from_environment(Question(key, default, who), os.environ)
    if found is not None:
        return ConfigAnswer(key=key, value=found.value, source="environment", why=f"{why}, and {found.place} is set")
    return ConfigAnswer(key=key, value=default, source="default", why=f"{why}, and no variable of this shell has it")


def _why(rule: Rule, key: str, unit: str) -> str:
    if rule.rollout is None and not rule.variants:
        return str(rule)
    if not unit:
        return f"{rule}; no unit was given, and each run tree has its own: give a root run's id, or what handlers give"
    return f"{rule}; {unit} is at {share(key, unit) * 100:.2f} %"


def _state(key: str, text: bytes, latest: Change | None) -> ConfigState:
    wrong, shown = "", ""
    try:
        rule = config.read(key, text)
        data, shown = rule.data(), str(rule)
    except InvalidInputError as error:
        data, wrong = {}, str(error)
    return ConfigState(
        key=key, rule=data, text=shown, wrong=wrong, changed_at=None if latest is None else at_ms(latest.at_ms),
        changed_by="" if latest is None else latest.who, comment="" if latest is None else latest.comment,
    )  # fmt: skip


def _data(text: str) -> dict[str, Any] | None:
    try:
        return dict(codec.loads(text)) if text else None
    except (InvalidInputError, TypeError, ValueError):  # what somebody wrote by hand
        return {"unreadable": text[:200]}

"""Config values and feature flags: their names, the rule that each is, and who gets what of it. Pure.

A rule is small JSON: `{"value": 5}`; a roll-out `{"value": true, "rollout": 25, "otherwise": false}`; or an experiment
`{"variants": {"control": 50, "treatment": 50}}`. Each may say `"when": {"tenant": ["acme"]}`: only for runs with that
header.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import check_id

VARIABLE = "AGNT5_FLAG_"
"""What the names of environment variables with values begin with."""

VALUE_LIMIT = 65_536
"""Bytes of JSON of one value, or one rule."""

MOST_KEYS = 10_000
MOST_VARIANTS = 100
MOST_HEADERS = 20
UNIT_LIMIT = 1_000

_FIELDS = frozenset({"value", "rollout", "otherwise", "variants", "when"})
_NO_VARIABLE = re.compile(r"\W")

Source = Literal["redis", "provider", "environment"]


class Question(NamedTuple):
    """What a handler asks: `unit` is who a roll-out or experiment decides for, `default` tells the wanted type."""

    key: str
    default: Any
    unit: str
    headers: Mapping[str, str] = MappingProxyType({})
    handler: str = ""


class Found(NamedTuple):
    """A value, and where it came from; `place` names that for people."""

    value: Any
    source: Source
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is set for a key. None as `value` or `otherwise` means nothing: whoever asks looks further.

    `variants` are names with their weights, `rollout` is a percentage, `when` is header -> values.
    """

    value: Any = None
    rollout: float | None = None
    otherwise: Any = None
    variants: tuple[tuple[str, float], ...] = ()
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def answer(self, key: str, unit: str, headers: Mapping[str, str]) -> Any:
        """What `unit` gets; None: nothing is set for it. The same unit always gets the same.

        A roll-out that grows keeps those that were in, and so do variants whose share grows at their neighbour's cost.
        """
        if self.when and any(headers.get(name) not in values for name, values in self.when.items()):
            return None
        if self.variants:
            return self._variant(share(key, unit))
        if self.rollout is not None and share(key, unit) * 100 >= self.rollout:
            return self.otherwise
        return self.value

    def _variant(self, at: float) -> str:
        left = at * math.fsum(weight for _, weight in self.variants)
        for name, weight in self.variants:
            left -= weight
            if left < 0:
                return name
        return next(name for name, weight in reversed(self.variants) if weight)  # the sum was rounded

    def data(self) -> dict[str, Any]:
        """As JSON."""
        fields = {
            "value": self.value, "rollout": self.rollout, "otherwise": self.otherwise,
            "variants": dict(self.variants) or None, "when": {name: list(of) for name, of in self.when.items()} or None,
        }  # fmt: skip
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        when = [f"{name} is {' or '.join(values)}" for name, values in self.when.items()]
        only = f", only where {' and '.join(when)}" if when else ""
        if self.variants:
            whole = math.fsum(weight for _, weight in self.variants)
            shares = ", ".join(f"{name} {weight * 100 / whole:.4g} %" for name, weight in self.variants)
            return f"an experiment: {shares}{only}"
        if self.rollout is not None:
            rest = "" if self.otherwise is None else f", else {described(self.otherwise)}"
            return f"{described(self.value)} for {self.rollout:.6g} %{rest}{only}"
        return f"{described(self.value)}{only}"


def read_rule(data: Any, key: str) -> Rule:
    """A rule from its JSON data. Raises `InvalidInputError` that says what is wrong with it."""
    where = f"config {key!r}"
    if not isinstance(data, dict):
        raise InvalidInputError(f"{where}: a rule is a JSON object with a value or variants, found {data!r:.80}")
    if unknown := sorted(set(data) - _FIELDS):
        raise InvalidInputError(f"{where}: a rule has no {', '.join(map(repr, unknown))}; known are {_known()}")
    variants, value, rollout = data.get("variants"), data.get("value"), data.get("rollout")
    if (variants is None) == (value is None):
        raise InvalidInputError(f"{where}: either a value or variants are needed (null is no value: unset the key)")
    if variants is not None and (rollout is not None or "otherwise" in data):
        raise InvalidInputError(f"{where}: an experiment has weights, and neither a rollout nor an otherwise")
    if rollout is None and data.get("otherwise") is not None:
        raise InvalidInputError(f"{where}: otherwise={data['otherwise']!r} needs a rollout")
    return Rule(
        value=value,
        rollout=None if rollout is None else _percentage(rollout, where),
        otherwise=data.get("otherwise"),
        variants=() if variants is None else _weights(variants, where),
        when=_conditions(data.get("when") or {}, where),
    )


def share(key: str, unit: str) -> float:
    """Where a unit stands for a key, from 0 up to 1: even over units, independent between keys, for ever the same."""
    digest = hashlib.blake2b(f"{key}\n{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def check_key(key: object) -> str:
    """A key: up to 200 visible characters, as those of a run id. Raises `InvalidInputError`."""
    return _checked_key(key) if isinstance(key, str) else check_id(key, "config key")


@lru_cache(4096)
def _checked_key(key: str) -> str:
    checked = check_id(key, "config key")
    if not checked.isprintable():
        raise InvalidInputError(f"config key {checked!r}: only visible characters are allowed")
    return checked


def check_unit(unit: object) -> str:
    """Who a roll-out decides for, as text. Raises `InvalidInputError`."""
    if isinstance(unit, int) and not isinstance(unit, bool):
        return str(unit)
    if not isinstance(unit, str) or not unit or len(unit) > UNIT_LIMIT:
        raise InvalidInputError(
            f"config unit {unit!r:.80}: a non-empty text of at most {UNIT_LIMIT} characters, or an int, is needed"
        )
    return unit


def variable_of(key: str) -> str:
    """The environment variable of a key: `checkout.new-tax` is AGNT5_FLAG_CHECKOUT_NEW_TAX."""
    return VARIABLE + _NO_VARIABLE.sub("_", key).upper()


def described(value: Any) -> str:
    """A value and what it is, for people: `true (true or false)`, `"on" (text)`."""
    match value:
        case bool():
            return f"{'true' if value else 'false'} (true or false)"
        case int() | float():
            return f"{value} (a number)"
        case str():
            return f'"{value}" (text)' if len(value) <= 60 else f'"{value[:57]}..." (text)'  # noqa: PLR2004
        case list():
            return f"a list of {len(value)}"
        case _:
            return f"an object with {len(value)} fields"


def _percentage(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # noqa: PLR2004
        raise InvalidInputError(f"{where}: rollout is a percentage from 0 to 100, found {value!r}")
    return value


def _weights(variants: Any, where: str) -> tuple[tuple[str, float], ...]:
    if not isinstance(variants, dict) or not variants or len(variants) > MOST_VARIANTS:
        raise InvalidInputError(f"{where}: variants are 1 to {MOST_VARIANTS} names with their weights")
    for name, weight in variants.items():
        if not isinstance(name, str) or not name.strip() or len(name) > 200:  # noqa: PLR2004
            raise InvalidInputError(f"{where}: the name of a variant is a text of 1 to 200 characters, found {name!r}")
        number = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight)
        if not number or not 0 <= weight <= 1_000_000:  # noqa: PLR2004
            raise InvalidInputError(f"{where}: the weight of variant {name!r} is from 0 to 1000000, found {weight!r}")
    if not sum(variants.values()):
        raise InvalidInputError(f"{where}: at least one variant needs a weight above 0")
    return tuple(variants.items())


def _conditions(when: Any, where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(when, dict) or len(when) > MOST_HEADERS:
        raise InvalidInputError(f"{where}: when is at most {MOST_HEADERS} headers, each with its values")
    found: dict[str, tuple[str, ...]] = {}
    for name, given in when.items():
        values = [given] if isinstance(given, str) else given
        texts = isinstance(values, list) and values and all(isinstance(value, str) for value in values)
        if not isinstance(name, str) or not name or not texts:
            raise InvalidInputError(f"{where}: when[{name!r}] is a text or a list of texts, found {given!r:.80}")
        found[name.lower()] = tuple(values)
    return found


def _known() -> str:
    return ", ".join(sorted(_FIELDS))

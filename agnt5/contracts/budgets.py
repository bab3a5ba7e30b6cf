"""Budgets: what calls of language models may spend, as every layer knows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits on the calls of language models that are counted together; None: no limit.

    `key` names who shares it: everything that gives the same key, whichever run it is in. Without a key it is shared
    by the run tree: the root run and all that descends from it. `per` counts anew in each window of that length
    (windows begin at multiples of it since 1970, UTC); None: for as long as the tree is kept, or for good.
    `cost` is in US dollars.
    """

    key: str = ""
    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    per: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one call took, or will probably take. `cost` is in US dollars."""

    requests: int = 1
    tokens: int = 0
    cost: float = 0.0

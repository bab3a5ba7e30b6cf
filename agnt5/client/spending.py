"""What language models have answered and cost, as a journal tells it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from agnt5.replay import events as ev

LLM = "llm:"
"""How the names of steps begin that record a model's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Answers together: their tokens, and their cost in US dollars. `unpriced` of them have no known price."""

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(
            answers=self.answers + other.answers,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            cost=self.cost + other.cost,
            unpriced=self.unpriced + other.unpriced,
        )

    def total(self) -> str:
        """On one line for people: `3 model answers, 1,240 tokens, $0.0031`; empty if no model was asked."""
        if not self.answers:
            return ""
        word = "answer" if self.answers == 1 else "answers"
        tokens = self.tokens_in + self.tokens_out
        return ", ".join([f"{self.answers:,} model {word}", f"{tokens:,} tokens", *self._price()])

    def detail(self) -> str:
        """Tokens in and out, and the cost: `1,200 tokens in, 40 out, $0.0031`."""
        return ", ".join([f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out", *self._price()])

    def _price(self) -> list[str]:
        priced = self.answers - self.unpriced
        if not priced:
            return []
        return [money(self.cost) + (f" and {self.unpriced} without a known price" if self.unpriced else "")]


def spending_of(answer: Any) -> Spending:
    """What one recorded answer cost. An answer in a form that is not known counts, without tokens and price."""
    known: Mapping[str, Any] = answer if isinstance(answer, dict) else {}
    usage = known.get("usage")
    tokens: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    cost = known.get("cost")
    price = float(cost) if isinstance(cost, int | float) else None
    return Spending(
        answers=1,
        tokens_in=_count(tokens.get("prompt_tokens")),
        tokens_out=_count(tokens.get("completion_tokens")),
        cost=price or 0.0,
        unpriced=1 if price is None else 0,
    )


def spent_in(events: Sequence[ev.Event]) -> Spending:
    """What a run's own answers have cost, those of its children left out."""
    answers = (e for e in events if isinstance(e, ev.StepCompleted) and e.name.startswith(LLM))
    return reduce(add, (spending_of(event.result) for event in answers), Spending())


def money(dollars: float) -> str:
    """A sum with two digits that say something: $12.30, $0.0031, $0."""
    if not dollars:
        return "$0"
    places = max(2, 1 - math.floor(math.log10(abs(dollars))))
    return f"${dollars:,.{places}f}"


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0

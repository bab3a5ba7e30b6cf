"""The config values that a host knows: its copy of what is in Redis, an OpenFeature provider, the environment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from agnt5.contracts.errors import Agnt5Error
from agnt5.contracts.fitting import parsed
from agnt5.contracts.flags import VARIABLE, Found, Question, variable_of
from agnt5.store.config import ConfigCopy
from agnt5.store.link import Link

logger = logging.getLogger("agnt5.config")

MOST_WARNINGS = 1_000
"""Warnings that are kept in mind, so that none is given twice."""


class Provider(Protocol):
    """Where an app keeps its flags beside Redis. Its `find` may raise."""

    async def open(self) -> None:
        """Get ready; returns when it is, or when that takes too long."""

    def find(self, question: Question) -> Found | None:
        """What it has for whoever asks; None: nothing."""


class HostFlags:
    """The `FlagPort` of contexts. The first that has a value counts: Redis, the provider, the environment."""

    def __init__(self, link: Link, environ: Mapping[str, str], provider: Provider | None = None) -> None:
        self.copy = ConfigCopy(link)
        self._provider = provider
        self._environ = {name: text for name, text in environ.items() if name.startswith(VARIABLE) and text.strip()}
        self._warned: set[str] = set()

    async def open(self) -> None:
        """Load all, before the first run. What cannot be loaded is told in the log, and is no reason not to run."""
        await self.copy.load()
        if self._provider is not None:
            try:
                await self._provider.open()
            except Agnt5Error:
                raise
            except Exception as error:  # noqa: BLE001 - others' code
                logger.warning("the provider of flags is not ready, and is asked all the same: %r", error)

    def find(self, question: Question) -> Found | None:
        """What is set for whoever asks. See `FlagPort`."""
        rule = self.copy.rules.get(question.key)
        if rule is not None:
            value = rule.answer(question.key, question.unit, question.headers)
            if value is not None:
                return Found(value, "redis", "Redis")
        if self._provider is not None and (found := self._asked(self._provider, question)) is not None:
            return found
        return from_environment(question, self._environ) if self._environ else None

    def warn(self, key: str, text: str) -> None:
        """Say once in the log what is wrong with a value."""
        if text not in self._warned and len(self._warned) < MOST_WARNINGS:
            self._warned.add(text)
            logger.warning("%s", text, extra={"config_key": key})

    def _asked(self, provider: Provider, question: Question) -> Found | None:
        try:
            return provider.find(question)
        except Exception as error:  # noqa: BLE001 - others' code
            self.warn(question.key, f"config {question.key!r}: the provider of flags failed: {error!r}")
            return None


def from_environment(question: Question, environ: Mapping[str, str]) -> Found | None:
    """What a variable has: text where the reader wants text, else what it can be read as."""
    variable = variable_of(question.key)
    text = environ.get(variable)
    if text is None:
        return None
    return Found(parsed(text) if question.default is None else text, "environment", f"the environment ({variable})")

"""Secrets of handlers: `ctx.secrets().get(key)`."""

from __future__ import annotations

import asyncio
from typing import TypeVar, overload

from agnt5.contracts.errors import WrongContextError
from agnt5.replay.loop import DeterministicLoop
from agnt5.secrets.reader import MISSING, SecretReader

T = TypeVar("T")


class Secrets:
    """Reads secrets where they are used. Every value that was read is masked in logs, journals, errors and events.

    A value is neither journaled nor part of any result: a replay reads it anew and may find another one. So a
    workflow's path must not depend on it; use it inside steps.
    """

    def __init__(self, reader: SecretReader) -> None:
        self._reader = reader

    @overload
    def get(self, key: str) -> str: ...
    @overload
    def get(self, key: str, default: T) -> str | T: ...
    def get(self, key: str, default: object = MISSING) -> object:
        """The value of a secret: `ctx.secrets().get("openai_api_key")`.

        Looked for in the variable `AGNT5_SECRET_OPENAI_API_KEY`, in the file that `AGNT5_SECRET_OPENAI_API_KEY_FILE`
        names, in the file `openai_api_key` of AGNT5_SECRETS_DIR (`/run/secrets`), then with the providers in their
        order; remembered for AGNT5_SECRETS_TTL. At once, except for the first read of a key from a provider, which
        waits at most AGNT5_SECRETS_TIMEOUT and holds up what else runs here: `fetch` does not.

        Raises `SecretNotFoundError` that lists where it looked, unless there is a default; `SecretProviderError` where
        a provider failed and no earlier value is known.
        """
        return self._reader.get(key, default)

    @overload
    async def fetch(self, key: str) -> str: ...
    @overload
    async def fetch(self, key: str, default: T) -> str | T: ...
    async def fetch(self, key: str, default: object = MISSING) -> object:
        """`get` that holds up nobody while a provider is asked: `await ctx.secrets().fetch("openai_api_key")`.

        In functions, entities and steps; a workflow's own code cannot wait for a network and raises
        `WrongContextError`.
        """
        if isinstance(asyncio.get_running_loop(), DeterministicLoop):
            raise WrongContextError(
                f"ctx.secrets().fetch({key!r}) waits for a network, which the code of a workflow cannot: read it inside"
                " a step, where it is used"
            )
        return await self._reader.fetch(key, default)

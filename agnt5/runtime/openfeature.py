"""Asks an OpenFeature provider for what handlers read with `ctx.config()`: `create_app(flags=provider)`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.flags import Found, Question

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient
    from openfeature.provider import FeatureProvider

DOMAIN = "agnt5"
"""The OpenFeature domain that the provider is set for: hooks and events of the API work as usual."""

READY_S = 10.0
"""How long a worker waits for its provider before it takes runs without it."""


class OpenFeatureProvider:
    """One process's. `flags` is a provider, or makes one: a process that is forked makes its own then.

    The provider is asked in the handler's thread, so it has to decide in memory, as most server-side providers do.
    """

    def __init__(self, flags: FeatureProvider | Callable[[], FeatureProvider]) -> None:
        self._flags = flags
        self._client: OpenFeatureClient | None = None
        self._place = "the OpenFeature provider"

    async def open(self) -> None:
        """Set the provider for the domain, and wait until it is ready. Raises `ConfigurationError` without the SDK."""
        async with asyncio.timeout(READY_S):
            await asyncio.to_thread(self._set)

    def _set(self) -> None:
        try:
            from openfeature import api  # noqa: PLC0415 - only those who have flags pay for it
        except ImportError as error:
            raise ConfigurationError(
                f"create_app(flags=...) needs the OpenFeature SDK, which cannot be imported ({error}):"
                " pip install 'agnt5-celery[openfeature]'"
            ) from None
        flags: Any = self._flags
        provider: FeatureProvider = flags if hasattr(flags, "resolve_boolean_details") else flags()
        self._place = f"the OpenFeature provider {provider.get_metadata().name!r}"
        self._client = api.get_client(domain=DOMAIN)
        wait: Any = getattr(api, "set_provider_and_wait", api.set_provider)  # the latter waited, before there were two
        wait(provider, domain=DOMAIN)

    def find(self, question: Question) -> Found | None:
        """What the provider has for whoever asks. Raises what it says is wrong; it may not know a flag."""
        if self._client is None:
            return None
        from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415 - loaded by now
        from openfeature.exception import ErrorCode  # noqa: PLC0415

        attributes: dict[str, Any] = {"handler": question.handler, "headers": dict(question.headers)}
        context = EvaluationContext(targeting_key=question.unit, attributes=attributes)
        details = self._ask(self._client, question, context)
        if details.error_code == ErrorCode.FLAG_NOT_FOUND:
            return None
        if details.error_code:
            raise RuntimeError(f"{details.error_code}: {details.error_message or 'no message'}")
        return Found(details.value, "provider", self._place)

    def _ask(self, client: OpenFeatureClient, question: Question, context: Any) -> Any:
        """By the type of the default, a duration as text; without one an object or list is asked for."""
        default = "" if isinstance(question.default, timedelta) else question.default
        if default is None:
            default = {}
        for kind, ask in _ASKED:
            if isinstance(default, kind):
                return getattr(client, ask)(question.key, default, context)
        raise TypeError(f"no flag has the type of {default!r}")


_ASKED: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "get_boolean_details"),
    (int, "get_integer_details"),
    (float, "get_float_details"),
    (str, "get_string_details"),
    ((list, tuple, dict), "get_object_details"),
)

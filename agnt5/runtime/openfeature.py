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
            from openfeature.provider._registry import provider_registry  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"create_app(flags=...) needs the OpenFeature SDK, which cannot be imported ({error}):"
                " pip install 'agnt5-celery[openfeature]'"
            ) from None
        flags: Any = self._flags
        provider: FeatureProvider = flags if hasattr(flags, "resolve_boolean_details") else flags()
        self._place = f"the OpenFeature provider {provider.get_metadata().name!r}"
        self._client = api.get_client(domain=DOMAIN)
        set_and_wait: Any = getattr(api, "set_provider_and_wait", None)
        if set_and_wait is not None:
            set_and_wait(provider, domain=DOMAIN)
        else:
            provider_registry.set_provider(DOMAIN, provider)

    def find(self, question: Question) -> Found | None:
        """What the provider has for whoever asks. Raises what it says is wrong, but for a flag that it does not know."""
        if self._client is None:
            return None
        from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415 - loaded by now
        from openfeature.exception import ErrorCode  # noqa: PLC0415

        attributes = {"handler": question.handler, "headers": dict(question.headers)}
        context = EvaluationContext(targeting_key=question.unit, attributes=attributes)
        details = self._ask(self._client, question, context)
        if details.error_code == ErrorCode.FLAG_NOT_FOUND:
            return None
        if details.error_code:
            raise RuntimeError(f"{details.error_code}: {details.error_message or 'no message'}")
        return Found(details.value, "provider", self._place)

    def _ask(self, client: OpenFeatureClient, question: Question, context: Any) -> Any:
        """By the type of the default; without one an object or list is asked for."""
        key, default = question.key, question.default
        match default:
            case bool():
                return client.get_boolean_details(key, default, context)
            case int():
                return client.get_integer_details(key, default, context)
            case float():
                return client.get_float_details(key, default, context)
            case str():
                return client.get_string_details(key, default, context)
            case timedelta():
                return client.get_string_details(key, "", context)
            case list() | tuple():
                return client.get_object_details(key, list(default), context)
            case _:
                return client.get_object_details(key, default or {}, context)

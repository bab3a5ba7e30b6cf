"""An OpenFeature provider over agnt5's config, for code outside of handlers: web apps, scripts.

api.set_provider_and_wait(Agnt5Provider())
api.get_client().get_boolean_value("new_tax", False, EvaluationContext("user-17"))
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from agnt5.client import AsyncClient, Client
from agnt5.client.config_watch import ConfigWatch
from agnt5.contracts.errors import Agnt5Error, InvalidInputError
from agnt5.contracts.fitting import MisfitError, fit
from agnt5.contracts.flags import Question, Rule, check_key
from agnt5.runtime.configuration import from_environment

__all__ = ["Agnt5Provider"]

T = TypeVar("T")


class Agnt5Provider(AbstractProvider):
    """Flags as handlers see them: what is set with `agnt5 config set`, then `AGNT5_FLAG_<KEY>`, then the default.

    Decides in memory, and hears of changes within about a second. The targeting key of a context is the unit that
    roll-outs and experiments decide by; its attributes count as headers. `redis_url` and other arguments are those of
    `Client`. While Redis has never answered its status is an error and the environment counts; it goes on trying.
    """

    def __init__(self, redis_url: str | None = None, **settings: Any) -> None:
        super().__init__()
        self._client = Client(redis_url, **settings)
        self._watch: ConfigWatch | None = None

    def get_metadata(self) -> Metadata:
        return Metadata(name="agnt5")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Read all that is set. Raises `ProviderNotReadyError` while Redis does not answer."""
        del evaluation_context
        try:
            self._client.call(self._begin)
        except Agnt5Error as error:
            raise ProviderNotReadyError(f"agnt5's config was not read, it is tried again: {error}") from error

    def shutdown(self) -> None:
        """Stop, and close the connections."""
        watch, self._watch = self._watch, None
        if watch is not None:
            self._client.call(lambda _: watch.close())
        self._client.close()

    async def _begin(self, client: AsyncClient) -> None:
        if self._watch is None:
            self._watch = ConfigWatch(
                lambda: _store(client),
                on_change=lambda changed: self.emit_provider_configuration_changed(
                    ProviderEventDetails(flags_changed=changed)
                ),
                on_ready=lambda: self.emit_provider_ready(ProviderEventDetails()),
            )
            await self._watch.open()

    # ---- the flags

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        return self._resolve(flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._resolve(flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._resolve(flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._resolve(flag_key, float(default_value), evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        shape: Any = dict(default_value) if isinstance(default_value, Mapping) else list(default_value)
        return self._resolve(flag_key, shape, evaluation_context)

    def _resolve(self, key: str, default: T, context: EvaluationContext | None) -> FlagResolutionDetails[T]:
        unit = (context.targeting_key if context else None) or ""
        headers = {name.lower(): str(value) for name, value in (context.attributes if context else {}).items()}
        try:
            value, reason, place = self._found(check_key(key), default, unit, headers)
        except InvalidInputError as error:
            return _failed(default, ErrorCode.PARSE_ERROR, str(error))
        if value is None:
            if reason is None:
                return _failed(default, ErrorCode.TARGETING_KEY_MISSING, f"flag {key!r} is decided by targeting key")
            return _failed(default, ErrorCode.FLAG_NOT_FOUND, f"flag {key!r} is not set")
        try:
            fitting = fit(value, default)
        except MisfitError as error:
            return _failed(default, ErrorCode.TYPE_MISMATCH, f"flag {key!r} from {place}: {value!r:.80} is not {error}")
        variant = fitting if isinstance(fitting, str) and reason is Reason.SPLIT else None
        return FlagResolutionDetails(fitting, reason=reason, variant=variant)

    def _found(self, key: str, default: Any, unit: str, headers: dict[str, str]) -> tuple[Any, Reason | None, str]:
        """A value, why, and where from; None for nothing, without a reason where only the unit was missing."""
        copy = self._watch.copy if self._watch is not None else None
        rule = copy.rules.get(key) if copy is not None else None
        if rule is not None:
            if not unit and _splits(rule):
                return None, None, ""
            if (value := rule.answer(key, unit, headers)) is not None:
                reason = Reason.SPLIT if _splits(rule) else Reason.TARGETING_MATCH if rule.when else Reason.STATIC
                return value, reason, "Redis"
        found = from_environment(Question(key, default, unit), os.environ)
        return (None, Reason.DEFAULT, "") if found is None else (found.value, Reason.STATIC, found.place)


def _splits(rule: Rule) -> bool:
    return bool(rule.variants) or rule.rollout is not None


def _failed(default: T, code: ErrorCode, message: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(default, error_code=code, error_message=message, reason=Reason.ERROR)


async def _store(client: AsyncClient) -> Any:
    store, _ = await client.opened()
    return store

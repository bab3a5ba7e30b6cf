"""Reads secrets: from this machine at once, from providers in threads; what was read is kept for a while.

Only the first read of a key waits for a provider. A value that is nearly too old is given, and read anew behind the
caller's back; a provider that fails meanwhile costs nothing but a warning.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from agnt5.contracts.errors import Agnt5Error, SecretNotFoundError, SecretProviderError
from agnt5.contracts.masking import MASKER, masked
from agnt5.contracts.settings import Settings, mask_url
from agnt5.secrets.places import LocalSecrets
from agnt5.secrets.provider import SecretProvider, check_key

MISSING: Any = object()
"""No default was given."""

NOT_FOUND_S = 10.0
"""How long it is remembered that a key is nowhere: whoever adds it does not wait long."""

FAILED_S = 2.0
"""How long a provider that failed is left alone, so that not every reader waits for its time limit."""

KEPT = 1000
"""Keys that are remembered."""

_RENEW = 0.8
_SLOW_S = 0.1
_SHOWN = 500

logger = logging.getLogger("agnt5.secrets")


@dataclass(slots=True)
class _Kept:
    """What is known of a key: its value (None: it is nowhere), or why it could not be read."""

    value: str | None
    read_s: float
    error: Agnt5Error | None = None


class SecretReader:
    """The secrets of one process. Safe from any thread; a forked child begins anew."""

    def __init__(
        self,
        local: LocalSecrets,
        providers: Sequence[SecretProvider] = (),
        *,
        ttl_s: float = 300.0,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.providers = tuple(providers)
        self._local = local
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    @classmethod
    def of(cls, settings: Settings, providers: Sequence[SecretProvider] | None = None) -> SecretReader:
        """A reader as the settings say. Without `providers`, those that `AGNT5_SECRETS_PROVIDERS` names."""
        if providers is None:
            providers = [_provider(name) for name in settings.secrets_providers]
        return cls(
            LocalSecrets(settings.secrets_dir),
            providers,
            ttl_s=settings.secrets_ttl_ms / 1000,
            timeout_s=settings.secrets_timeout_ms / 1000,
        )

    def get(self, key: str, default: Any = MISSING) -> Any:
        """The value of a key. Waits for a provider where nothing is known of it yet.

        Raises `SecretNotFoundError`, `SecretProviderError`, `InvalidInputError` for what cannot be a key.
        """
        begun_s = self._clock()
        known = self._known(check_key(key))
        if isinstance(known, Future):
            try:
                known = known.result(self._timeout_s)
            except TimeoutError:
                known = self._late(key)
            self._tell_slow(key, self._clock() - begun_s)
        return self._answer(key, known, default)

    async def fetch(self, key: str, default: Any = MISSING) -> Any:
        """`get` whose waiting holds up nobody else."""
        known = self._known(check_key(key))
        if isinstance(known, Future):
            try:
                known = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(known)), self._timeout_s)
            except TimeoutError:
                known = self._late(key)
        return self._answer(key, known, default)

    def prefetch(self, keys: Iterable[str]) -> None:
        """Begin to read keys, so that nobody has to wait for them later. Returns at once; failures are logged."""
        for key in keys:
            try:
                known = self._known(check_key(key))
            except Agnt5Error as error:
                logger.warning("secrets are read ahead: %s", error)
                continue
            if isinstance(known, Future):
                known.add_done_callback(partial(self._tell_when_read, key))
            else:
                self._tell_prefetched(key, known)

    # ---- inside

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._reading: dict[str, Future[_Kept]] = {}
        self._told: dict[str, float] = {}

    def _known(self, key: str) -> _Kept | Future[_Kept]:
        """What is known, or the read that will tell. What is nearly too old is read again meanwhile."""
        if (value := self._local.in_environment(key)) is not None:
            return self._learned(key, _Kept(value, self._clock()))
        kept = self._kept.get(key)
        age_s = self._clock() - kept.read_s if kept else 0.0
        if kept is not None and age_s < self._good_for_s(kept):
            return kept
        local = self._in_files(key)
        if local is not None:
            return local
        reading = self._read(key, kept)
        if kept is not None and kept.value is not None and age_s < 2 * self._ttl_s:
            return kept
        return reading

    def _good_for_s(self, kept: _Kept) -> float:
        if kept.error is not None:
            return FAILED_S
        return min(NOT_FOUND_S, self._ttl_s) if kept.value is None else self._ttl_s * _RENEW

    def _in_files(self, key: str) -> _Kept | None:
        try:
            value = self._local.in_files(key)
        except SecretProviderError as error:
            return self._failed(key, error)
        if value is None and self.providers:
            return None
        return self._keep(key, _Kept(value, self._clock()))

    def _read(self, key: str, seen: _Kept | None) -> _Kept | Future[_Kept]:
        """Ask the providers, in a thread; who asks for the same key meanwhile waits for the same answer."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept is not seen:  # it was read since the caller looked
                return kept
            reading = self._reading.get(key)
            if reading is None:
                reading = self._reading[key] = Future()
                reading.set_running_or_notify_cancel()  # who waits may leave, the reading goes on
                threading.Thread(target=self._ask, args=[key, reading], name="agnt5-secrets", daemon=True).start()
        return reading

    def _ask(self, key: str, reading: Future[_Kept]) -> None:
        found: str | None = None
        try:
            for provider in self.providers:
                found = self._ask_one(provider, key)
                if found is not None:
                    break
            kept = self._keep(key, _Kept(found, self._clock()))
        except SecretProviderError as error:
            kept = self._failed(key, error)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it was
            kept = self._failed(key, SecretProviderError(f"secret {key!r}: {masked(repr(error))[:_SHOWN]}"))
        with self._lock:
            self._reading.pop(key, None)
        reading.set_result(kept)

    def _ask_one(self, provider: SecretProvider, key: str) -> str | None:
        try:
            value = provider.fetch(key)
        except Exception as error:  # noqa: BLE001 - whatever a provider raises, what it says may hold secrets
            cause = mask_url(masked(f"{type(error).__name__}: {error}"))[:_SHOWN]
            raise SecretProviderError(
                f"secret {key!r}: {provider.name} failed ({cause}); it looked at {provider.place(key)}"
            ) from None
        if value is not None and not isinstance(value, str):
            raise SecretProviderError(f"secret {key!r}: {provider.name} gave a {type(value).__name__}, not text")
        return value

    def _keep(self, key: str, kept: _Kept) -> _Kept:
        with self._lock:
            self._kept.pop(key, None)
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = kept
        return self._learned(key, kept)

    def _failed(self, key: str, error: SecretProviderError) -> _Kept:
        """The value of before stays in use, with a warning; without one the failure is what there is to tell."""
        before = self._kept.get(key)
        if before is None or before.value is None:
            return self._keep(key, _Kept(None, self._clock(), error))
        self._warn(
            key, "%s; its value of %d s ago is used until it can be read again", error, self._clock() - before.read_s
        )
        good_again_s = self._ttl_s * _RENEW - FAILED_S
        return self._keep(key, _Kept(before.value, self._clock() - max(good_again_s, 0.0)))

    def _late(self, key: str) -> _Kept:
        asked = ", ".join(provider.name for provider in self.providers)
        error = SecretProviderError(
            f"secret {key!r}: no answer within {self._timeout_s:g} s of {asked} (AGNT5_SECRETS_TIMEOUT); the value is"
            " still being read, so that another try may find it"
        )
        kept = self._kept.get(key)
        if kept is None or kept.value is None:
            return _Kept(None, self._clock(), error)
        self._warn(key, "%s; its value of before is used", error)
        return kept

    def _learned(self, key: str, kept: _Kept) -> _Kept:
        if kept.value is not None:
            MASKER.learn(key, kept.value)
        return kept

    def _answer(self, key: str, kept: _Kept, default: Any) -> Any:
        if kept.error is not None:
            raise type(kept.error)(str(kept.error))  # a new one each time: tracebacks would pile up on it
        if kept.value is not None:
            return kept.value
        if default is not MISSING:
            return default
        places = [*self._local.places(key), *(f"{one.name} ({one.place(key)})" for one in self.providers)]
        raise SecretNotFoundError(
            f"secret {key!r} was not found; looked at {', '.join(places)}. Set it in one of them, or give a default: "
            f"ctx.secrets().get({key!r}, default=...)"
        )

    # ---- what is told, each thing once a minute

    def _tell_slow(self, key: str, waited_s: float) -> None:
        if waited_s >= _SLOW_S:
            self._warn(
                key,
                "the first read of secret %r took %.1f s, in which nothing else ran here: read it with `await"
                " ctx.secrets().fetch(...)`, or ahead of time by AGNT5_SECRETS_PREFETCH",
                key,
                waited_s,
            )

    def _tell_when_read(self, key: str, reading: Future[_Kept]) -> None:
        self._tell_prefetched(key, reading.result())

    def _tell_prefetched(self, key: str, kept: _Kept) -> None:
        if kept.error is not None:
            logger.warning("secrets are read ahead: %s", kept.error)
        elif kept.value is None:
            logger.warning("secrets are read ahead: secret %r was not found", key)

    def _warn(self, key: str, text: str, *values: object) -> None:
        now_s = self._clock()
        if now_s - self._told.get(key, float("-inf")) >= 60:  # noqa: PLR2004
            self._told[key] = now_s
            logger.warning(text, *values)


def _provider(name: str) -> SecretProvider:
    if name == "vault":
        from agnt5.secrets.vault import VaultSecrets  # noqa: PLC0415 - loaded on first use

        return VaultSecrets()
    from agnt5.secrets.aws import AwsSecrets  # noqa: PLC0415

    return AwsSecrets()

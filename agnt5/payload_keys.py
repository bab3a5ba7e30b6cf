"""AES-256-GCM with keys from the settings, and the sealer that a process's settings ask for."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from os import urandom
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.readers import CODEC, is_codec, read_payload_keys
from agnt5.contracts.settings import Settings
from agnt5.sealing import PayloadCodec, Sealer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12
"""Bytes of a nonce: random, so that one key may seal about four billion values."""

DIGEST = 16


class AesGcmCodec:
    """AES-256-GCM. `keys`: id -> 32 bytes; the first one seals, all of them open.

    Raises `ConfigurationError` where the package `cryptography` is missing.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - loaded on first use
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"payload keys need the package cryptography, which cannot be imported ({error}): "
                "pip install 'agnt5-celery[encryption]'"
            ) from None
        if not keys:
            raise ConfigurationError("payload keys: at least one is needed")
        self.key_id = next(iter(keys))
        self._ciphers: dict[str, AESGCM] = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._cipher = self._ciphers[self.key_id]
        self._invalid = InvalidTag
        # of its own, so that what is stored in clear tells nothing of the key that seals
        self._digest_keys = {
            key_id: hashlib.blake2b(b"agnt5 start digest v1", key=key, digest_size=32).digest()
            for key_id, key in keys.items()
        }

    def __repr__(self) -> str:
        return f"AesGcmCodec({', '.join(self._ciphers)})"

    def seal(self, plain: bytes, place: bytes) -> tuple[str, bytes]:
        """See `PayloadCodec`."""
        nonce = urandom(NONCE)
        return self.key_id, nonce + self._cipher.encrypt(nonce, plain, place)

    def open(self, key_id: str, sealed: bytes, place: bytes) -> bytes:
        """See `PayloadCodec`."""
        cipher = self._ciphers[key_id]
        try:
            return cipher.decrypt(sealed[:NONCE], sealed[NONCE:], place)
        except self._invalid:
            raise ValueError("the ciphertext does not fit") from None

    def digests(self, data: bytes) -> Sequence[str]:
        """See `PayloadCodec`."""
        return [
            f"{key_id}:{hashlib.blake2b(data, key=key, digest_size=DIGEST).hexdigest()}"
            for key_id, key in self._digest_keys.items()
        ]


def sealer_of(settings: Settings) -> Sealer:
    """What seals and opens for a process with these settings. Raises `ConfigurationError`, which shows no key."""
    if settings.payload_codec is not None:
        return Sealer(_codec(settings.payload_codec))
    keys = dict(settings.payload_keys)
    if settings.payload_keys_file:
        more = _keys_in(settings.payload_keys_file)
        if twice := [key_id for key_id, key in more.items() if keys.get(key_id, key) != key]:
            raise ConfigurationError(
                f"AGNT5_PAYLOAD_KEYS_FILE: {settings.payload_keys_file!r} has another key {twice[0]!r} than"
                " AGNT5_PAYLOAD_KEYS; give each key an id of its own"
            )
        keys |= more
    return Sealer(AesGcmCodec(keys)) if keys else Sealer()


def _keys_in(path: str) -> dict[str, bytes]:
    """The keys of a file, separated by commas or line breaks."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"AGNT5_PAYLOAD_KEYS_FILE: {path!r} cannot be read ({type(error).__name__}); "
            "it holds what AGNT5_PAYLOAD_KEYS would, a key a line"
        ) from None
    try:
        return dict(read_payload_keys(",".join(text.split())))
    except ValueError as error:
        raise ConfigurationError(f"AGNT5_PAYLOAD_KEYS_FILE: {path!r}: {error}") from None


def _codec(given: object) -> PayloadCodec:
    """A codec, or what `module:name` names: a codec, or a callable that makes one."""
    if not isinstance(given, str):
        return cast("PayloadCodec", given)
    module, _, name = given.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ConfigurationError(f"AGNT5_PAYLOAD_CODEC: {given!r} cannot be imported: {error}") from error
    if isinstance(found, type) or (callable(found) and not is_codec(found)):
        try:
            found = found()
        except Exception as error:
            raise ConfigurationError(f"AGNT5_PAYLOAD_CODEC: {given!r} cannot be made: {error!r}") from error
    if not is_codec(found):
        raise ConfigurationError(
            f"AGNT5_PAYLOAD_CODEC: {given!r} is no PayloadCodec: it needs {', '.join(CODEC)}, or makes what has them;"
            f" found a {type(found).__name__}"
        )
    return cast("PayloadCodec", found)

"""API tokens. Only their SHA-256 is kept: a token has 256 random bits, so that its hash cannot be guessed back."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agnt5.contracts.errors import ConfigurationError
from agnt5.web.identity import ANY_ROLE, Identity, checked_scopes

VARIABLE = "AGNT5_API_TOKENS"
"""Environment variable: path of the JSON file with the tokens."""

PREFIX = "agnt5_"
"""Every token begins so, for secret scanners to find it."""

_KEYS = frozenset({"name", "roles", "scopes", "sha256"})
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[\w.@:+-]{1,100}")


@dataclass(frozen=True, slots=True)
class Token:
    """A token's owner and rights. `sha256` is the hex digest of the token, never the token."""

    name: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    sha256: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        where = f"token {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{where}: a name of 1 to 100 letters, digits and . _ @ : + - is needed")
        object.__setattr__(self, "roles", frozenset(self.roles))
        object.__setattr__(self, "scopes", checked_scopes(self.scopes, where))
        if ANY_ROLE in self.roles:
            raise ConfigurationError(f"{where}: the role {ANY_ROLE!r} cannot be given away; list the roles")
        if not _HASH.fullmatch(self.sha256):
            raise ConfigurationError(
                f"{where}: sha256 must be the 64 hex digits of the token's SHA-256; `agnt5 tokens new` prints them"
            )

    @property
    def identity(self) -> Identity:
        """Its owner."""
        return Identity(self.name, self.roles, self.scopes)


Tokens = Sequence[Token | Mapping[str, Any]] | str | Path
"""What `create_api(tokens=...)` takes: tokens, their JSON entries, or the path of a file of entries."""


def digest(secret: str) -> str:
    """The hash that is kept of a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_token(name: str, roles: Iterable[str] = (), scopes: Iterable[str] = ()) -> tuple[str, Token]:
    """A fresh token, to be shown once, and what is kept of it."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, Token(name, frozenset(roles), frozenset(scopes), digest(secret))


def entry_of(token: Token) -> dict[str, Any]:
    """A token's JSON entry."""
    return {
        "name": token.name,
        "roles": sorted(token.roles),
        "scopes": sorted(token.scopes),
        "sha256": token.sha256,
    }


def find(tokens: Iterable[Token], secret: str) -> Token | None:
    """The token that a secret is. Takes as long for a wrong one as for a right one."""
    presented = digest(secret)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, presented):
            found = token
    return found


def load(given: Tokens | None) -> tuple[Token, ...]:
    """The tokens that were given, or those of the file that AGNT5_API_TOKENS names, or none.

    Raises `ConfigurationError` that names the file and the entry.
    """
    if given is None:
        path = os.environ.get(VARIABLE, "").strip()
        return _from_file(Path(path), VARIABLE) if path else ()
    if isinstance(given, str | Path):
        return _from_file(Path(given), "tokens")
    return _checked(
        [one if isinstance(one, Token) else _read(one, "tokens", at) for at, one in enumerate(given)], "tokens"
    )


def _from_file(path: Path, where: str) -> tuple[Token, ...]:
    try:
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{where}: {path} cannot be read ({error.strerror})") from None
    except ValueError:
        # the parser's message would quote the file
        raise ConfigurationError(f"{where}: {path} is no JSON; a list of entries is needed") from None
    if not isinstance(entries, list):
        raise ConfigurationError(f"{where}: {path} must hold a list of entries; `agnt5 tokens new` prints one")
    return _checked([_read(entry, str(path), at) for at, entry in enumerate(entries)], str(path))


def _read(entry: Any, where: str, at: int) -> Token:
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"{where}, entry {at}: an object with {', '.join(sorted(_KEYS))} is needed")
    if "token" in entry:
        raise ConfigurationError(
            f"{where}, entry {at}: a token in plain text does not belong into a file; replace it by its hash,"
            ' "sha256": as `agnt5 tokens new` or `printf %s TOKEN | sha256sum` prints it'
        )
    if unknown := sorted(set(entry) - _KEYS):
        raise ConfigurationError(f"{where}, entry {at}: no field {unknown[0]!r}; there are {', '.join(sorted(_KEYS))}")
    name, kept = entry.get("name"), entry.get("sha256")
    if not isinstance(name, str) or not isinstance(kept, str):
        raise ConfigurationError(f"{where}, entry {at}: 'name' and 'sha256' are needed, both text")
    return Token(name, _texts(entry, "roles", where, at), _texts(entry, "scopes", where, at), kept.lower())


def _texts(entry: Mapping[str, Any], key: str, where: str, at: int) -> frozenset[str]:
    value = entry.get(key, [])
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in value):
        raise ConfigurationError(f"{where}, entry {at}: {key!r} must be a list of texts")
    return frozenset(value)


def _checked(tokens: list[Token], where: str) -> tuple[Token, ...]:
    if not tokens:
        raise ConfigurationError(f"{where}: no token in it, so that nobody could log in; leave the setting out instead")
    kept = [token.sha256 for token in tokens]
    if len(set(kept)) < len(kept):
        raise ConfigurationError(f"{where}: two entries have one sha256; each token has one owner")
    return tuple(tokens)

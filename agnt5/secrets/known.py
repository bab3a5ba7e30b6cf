"""What a process knows to be secret before anybody reads it: learned when it starts, masked from then on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from agnt5.contracts.masking import MASKER
from agnt5.contracts.settings import Settings
from agnt5.secrets.places import PREFIX, LocalSecrets

LEAST = 8
"""Characters of the value of a variable that only its name makes a secret."""

_NAMES = re.compile(
    r"(?:^|_)(?:API_?KEY|SECRET_?KEY|(?:SECRET_)?ACCESS_KEY|PRIVATE_KEY|TOKEN|SECRET|SECRET_ID|PASSWORD|PASSWD)$"
)
_PLAIN = re.compile(r"[a-z]+(?:[-_ ][a-z]+)*|\d+|(?:true|false|none|null)|[./~].*|\w+://[^@]*", re.IGNORECASE)


def learn(settings: Settings, environ: Mapping[str, str] | None = None) -> None:
    """Learn the secrets of this machine and of these settings. Safe to repeat; takes far less than a millisecond."""
    env = os.environ if environ is None else environ
    MASKER.learn_all(
        [
            *LocalSecrets(settings.secrets_dir, env).all(),
            *_of_settings(settings),
            *((name.lower(), value) for name, value in env.items() if is_secret(name, value)),
        ]
    )


def is_secret(name: str, value: str) -> bool:
    """Whether a variable's name says that its value is a secret, and the value looks like one.

    Words, numbers, paths and addresses do not: "postgres" as a password must not take that word out of every text.
    """
    if name.startswith(PREFIX) or len(value) < LEAST or not _NAMES.search(name):
        return False
    return _PLAIN.fullmatch(value) is None


def _of_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, url in (("redis_url", settings.redis_url), ("broker_url", settings.broker_url)):
        password = _password(url)
        if len(password) >= LEAST and _PLAIN.fullmatch(password) is None:
            yield name, password
            yield name, unquote(password)
    if settings.link_secret:
        yield "link_secret", settings.link_secret


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""

"""Settings: one frozen object, read from the environment once at the edge and passed down from there.

Every setting has one name: the argument `retention` of `create_app` and `Client` is `AGNT5_RETENTION` in the
environment and, with its unit, `Settings.retention_ms` in the code.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple, Self

from agnt5.contracts.errors import ConfigurationError

PREFIX = "AGNT5_"
DEFAULT_REDIS_URL = "redis://localhost:6379/0"

_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES = {"": 1, "b": 1, "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "g": 1024**3, "gib": 1024**3}
_AMOUNT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_KEY_BYTES = 32
_STANDARD = str.maketrans("-_", "+/")
_PASSWORD = re.compile(r"(://[^/:@]*:).*(@)")


class _Reader(NamedTuple):
    """How one sort of setting is read: a sentence part that says what is expected, and the reading itself."""

    expected: str
    read: Callable[[Any], Any]
    secret: bool = False


def mask_url(url: str) -> str:
    """A URL for logs and errors: its password as `***`."""
    return _PASSWORD.sub(r"\1***\2", url)


def _duration(least_ms: int = 0) -> _Reader:
    def read(value: Any) -> int:
        if isinstance(value, timedelta):
            return _at_least(round(value.total_seconds() * 1000), least_ms)
        amount, unit = _amount(value)
        return _at_least(round(amount * _MS[unit.lower() or "s"]), least_ms)

    least = f" of at least {least_ms} ms" if least_ms else ""
    return _Reader(f"a duration{least}: '7d', '12h', '90m', '30s', '500ms', or a number of seconds", read)


def duration_ms(value: Any) -> int:
    """A duration as settings are given, in ms. Raises `ValueError`, `TypeError` or `KeyError` for anything else."""
    return int(_duration().read(value))


def _size() -> _Reader:
    def read(value: Any) -> int:
        amount, unit = _amount(value)
        return _at_least(round(amount * _BYTES[unit.lower()]), 1)

    return _Reader("a size: '1MiB', '512KiB', or a number of bytes", read)


def _count(least: int, most: int) -> _Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool | float):
            raise TypeError
        number = _at_least(int(value), least)
        if number > most:
            raise ValueError
        return number

    return _Reader(f"a whole number from {least} to {most}", read)


def _url(*schemes: str) -> _Reader:
    def read(value: Any) -> str:
        scheme, found, rest = value.strip().partition("://")
        if not found or (schemes and scheme not in schemes) or not (rest or scheme == "memory"):
            raise ValueError
        return str(value.strip())

    shown = " or ".join(f"{scheme}://" for scheme in schemes) or "scheme://"
    return _Reader(f"a URL that begins with {shown}", read)


def _choice(*words: str) -> _Reader:
    def read(value: Any) -> str:
        word = value.strip().lower()
        if word not in words:
            raise ValueError
        return str(word)

    return _Reader(" or ".join(words), read)


def _ports() -> _Reader:
    def read(value: Any) -> range:
        first, found, last = str(value).partition("-")
        if isinstance(value, bool) or (not found and int(first) == 0):
            return range(0)
        ports = range(int(first), int(last if found else first) + 1)
        if not ports or ports[0] < 1 or ports[-1] > 65_535:  # noqa: PLR2004 - the highest port there is
            raise ValueError
        return ports

    return _Reader("a port ('9808'), a range of them ('9808-9819'), or 0 for none", read)


def _address() -> _Reader:
    def read(value: Any) -> str:
        found = str(value).strip()
        if not found or re.search(r"[\s/]", found):
            raise ValueError
        return found.removeprefix("[").removesuffix("]")

    return _Reader("a host name or address, such as '127.0.0.1' or '0.0.0.0'", read)


def _secret(least: int) -> _Reader:
    def read(value: Any) -> str:
        if len(value.strip()) < least:
            raise ValueError
        return str(value.strip())

    return _Reader(f"a secret of at least {least} characters", read, secret=True)


def _names(*allowed: str) -> _Reader:
    def read(value: Any) -> tuple[str, ...]:
        given = value.split(",") if isinstance(value, str) else value
        names = tuple(name.strip() for name in given if name.strip())
        if allowed and not set(names) <= set(allowed):
            raise ValueError
        return names

    return _Reader(f"names separated by commas{', of ' + ' and '.join(allowed) if allowed else ''}", read)


def _text(expected: str, pattern: str) -> _Reader:
    def read(value: Any) -> str:
        if not re.fullmatch(pattern, value.strip()):
            raise ValueError
        return str(value.strip())

    return _Reader(expected, read)


def read_payload_keys(text: str) -> tuple[tuple[str, bytes], ...]:
    """`id:<base64>,id:<base64>` as ids and keys. Raises `ValueError`, which says what is wrong and shows no key."""
    found: dict[str, bytes] = {}
    for at, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        key_id, colon, encoded = part.partition(":")
        if not colon or not _KEY_ID.fullmatch(key_id) or key_id in found:
            raise ValueError(f"key {at}: an id of its own is needed before a colon: up to 32 letters, digits, _ and -")
        try:
            found[key_id] = base64.b64decode(encoded.translate(_STANDARD), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"key {at}: base64 is needed behind the colon") from None
        if len(found[key_id]) != _KEY_BYTES:
            raise ValueError(f"key {at}: {_KEY_BYTES} bytes are needed, found {len(found[key_id])}")
    if not found:
        raise ValueError("there is no key")
    return tuple(found.items())


class _FaultError(ValueError):
    """What is wrong with a secret, in words that do not show it."""


def _payload_keys() -> _Reader:
    def read(value: Any) -> tuple[tuple[str, bytes], ...]:
        try:
            return read_payload_keys(value)
        except ValueError as error:
            raise _FaultError(error) from None

    expected = f"'<id>:<base64 of {_KEY_BYTES} bytes>', several with commas between, the one that seals first"
    return _Reader(expected, read, secret=True)


def _payload_codec() -> _Reader:
    def read(value: Any) -> Any:
        if isinstance(value, str):
            return _text("", r"[\w.]+:\w+").read(value)
        if not all(hasattr(value, name) for name in ("key_id", "seal", "open", "digests")):
            raise TypeError
        return value

    return _Reader("a PayloadCodec (key_id, seal, open, digests), or 'module:name' of one", read, secret=True)


def _amount(value: Any) -> tuple[float, str]:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    match = _AMOUNT.match(str(value))
    if match is None:
        raise ValueError
    return float(match[1]), match[2]


def _at_least(number: int, least: int) -> int:
    if number < least:
        raise ValueError
    return number


def _setting(default: Any, reader: _Reader, *, shown: bool = True) -> Any:
    return field(default=default, repr=shown, metadata={"reader": reader})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that can be set. `Settings()` has the defaults; `Settings.from_env()` is what processes use."""

    redis_url: str = _setting(DEFAULT_REDIS_URL, _url("redis", "rediss", "unix", "valkey", "valkeys"), shown=False)
    """Where runs live."""
    broker_url: str = _setting("", _url(), shown=False)
    """Where Celery's messages go; by default `redis_url`."""
    shards: int = _setting(16, _count(1, 4096))
    """Shards of the key space. Fixed by the first process that ever starts on a server."""
    retention_ms: int = _setting(604_800_000, _duration(1000))
    """How long the record of an ended run is kept."""

    linger_ms: int = _setting(10_000, _duration())
    """How long a waiting workflow stays in memory before it is parked."""
    max_hosted: int = _setting(10_000, _count(0, 10_000_000))
    """Waiting runs that one worker process keeps in memory; the least recently used are parked beyond it."""

    link_secret: str = _setting("", _secret(16), shown=False)
    """What links to decide an approval are signed with: the same on all workers and web servers."""
    web_url: str = _setting("", _url("http", "https"))
    """Where people reach the web pages: what links to decide an approval begin with."""

    metrics_port: range = _setting(range(0), _ports())
    """Where each worker and beat serves `/metrics`: of a range the first port that is free; none where it is empty."""
    metrics_host: str = _setting("127.0.0.1", _address())
    """The address for that: by default this machine only; `0.0.0.0` (all) is what a container needs."""
    secrets_dir: str = _setting("/run/secrets", _text("the path of a folder", r".+"))
    """The folder of secrets in files, each under its key."""
    secrets_providers: tuple[str, ...] = _setting((), _names("vault", "aws"))
    """Where else secrets are looked for, in this order, unless `create_app(secrets=[...])` says it."""
    secrets_prefetch: tuple[str, ...] = _setting((), _names())
    """Keys of secrets that a worker reads when it starts, so that no handler waits for them."""
    secrets_ttl_ms: int = _setting(300_000, _duration(1000))
    """How long a secret is used before it is read again."""
    secrets_timeout_ms: int = _setting(5000, _duration(100))
    """How long `ctx.secrets().get(...)` waits at most for a provider."""

    payload_limit: int = _setting(1_048_576, _size())
    """Bytes of JSON of one input, result, step result, signal, chunk, decision or error; as they are before sealing."""
    state_limit: int = _setting(4_194_304, _size())
    """Bytes of JSON of one entity's whole state, which each call reads."""
    journal_limit_events: int = _setting(10_000, _count(100, 10_000_000))
    """Events of one generation of a run's journal."""
    journal_limit_bytes: int = _setting(67_108_864, _size())
    """Bytes of one generation of a run's journal."""
    stream_limit: int = _setting(10_000, _count(1, 10_000_000))
    """Chunks that a run may yield in one attempt."""

    log_format: str = _setting("console", _choice("console", "json"))
    """How log lines of worker, beat and web server look."""
    log_keep: int = _setting(200, _count(0, 100_000))
    """Latest log lines that are kept with each run; 0 keeps none."""
    payload_keys: tuple[tuple[str, bytes], ...] = _setting((), _payload_keys(), shown=False)
    """Keys that seal what users' values the store holds: the first seals, all of them open."""
    payload_keys_file: str = _setting("", _text("the path of a file", r".+"))
    """A file with more payload keys, a key a line: the first seals where `payload_keys` has none."""
    payload_codec: Any = _setting(None, _payload_codec(), shown=False)  # noqa: RUF009 - as all the others
    """What seals in the place of payload keys: an `agnt5.sealing.PayloadCodec`, or `module:name` of one."""
    event_values: str = _setting("", _text("'shown' or 'hidden'", r"shown|hidden"))
    """Whether Celery's events show values and errors of runs; by default only where nothing is sealed."""

    heartbeat_ms: int = _setting(1000, _duration(50))
    """How often a host renews its liveness entry."""
    liveness_timeout_ms: int = _setting(5000, _duration(200))
    """A host that renewed nothing for so long is taken for dead, and its runs are queued again."""
    probe_after_ms: int = _setting(30_000, _duration(100))
    """A queue's oldest run, when unclaimed for so long, has its message sent again."""
    overtake_slack_ms: int = _setting(5000, _duration())
    """How much later an overtaking run must have been queued before the overtaken one counts as lost."""
    shutdown_grace_ms: int = _setting(30_000, _duration())
    """How long a warm shutdown lets functions finish before it hands them back."""
    max_host_losses: int = _setting(3, _count(1, 1000))
    """Workers that a run may kill before it fails with `WorkerLostError`."""

    def __post_init__(self) -> None:
        if not self.broker_url:
            object.__setattr__(self, "broker_url", self.redis_url)
        if self.heartbeat_ms * 2 > self.liveness_timeout_ms:
            raise ConfigurationError(
                f"AGNT5_LIVENESS_TIMEOUT: expected at least twice AGNT5_HEARTBEAT ({self.heartbeat_ms} ms), "
                f"found {self.liveness_timeout_ms} ms; one late heartbeat would make a live worker look dead"
            )

    @property
    def seals(self) -> bool:
        """Whether users' values are sealed in the store."""
        return bool(self.payload_keys or self.payload_keys_file or self.payload_codec is not None)

    @property
    def shows_values(self) -> bool:
        """Whether Celery's events show values of runs."""
        return self.event_values == "shown" or not (self.event_values or self.seals)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, /, **overrides: Any) -> Self:
        """Settings from `AGNT5_*` variables (of this process, or of `environ`), arguments first.

        An argument has the variable's name in lower case and without `AGNT5_`: `retention="12h"`,
        `timedelta(hours=12)` and `43200` say the same. An argument of None counts as not given, and so does
        an empty variable. Raises `ConfigurationError` that names the variable or argument, what was found
        and what is expected.
        """
        env = os.environ if environ is None else environ
        given = {name: value for name, value in overrides.items() if value is not None}
        _refuse_unknown(overrides)
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = _public(item.name)
            variable = PREFIX + name.upper()
            if name in given:
                values[item.name] = _read(item.metadata["reader"], name, given[name])
            elif env.get(variable, "").strip():
                values[item.name] = _read(item.metadata["reader"], variable, env[variable])
        return cls(**values)


def _public(field_name: str) -> str:
    return field_name.removesuffix("_ms")


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    known = [_public(item.name) for item in fields(Settings)]
    for name in overrides:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ConfigurationError(f"setting {name!r} is not known; {hint}")


def _read(reader: _Reader, source: str, found: Any) -> Any:
    try:
        return reader.read(found)
    except _FaultError as error:
        raise ConfigurationError(f"{source}: expected {reader.expected}; {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        shown = "***" if reader.secret else mask_url(found) if isinstance(found, str) else found
        raise ConfigurationError(f"{source}: expected {reader.expected}, found {shown!r}") from None

"""Settings: one frozen object, read from the environment once at the edge and passed down from there.

Every setting has one name: the argument `retention` of `create_app` and `Client` is `AGNT5_RETENTION` in the
environment and, with its unit, `Settings.retention_ms` in the code.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Self

from agnt5.contracts import readers
from agnt5.contracts.errors import ConfigurationError

PREFIX = "AGNT5_"
DEFAULT_REDIS_URL = "redis://localhost:6379/0"

ELSEWHERE = frozenset({"AGNT5_API_TOKENS", "AGNT5_FLOWER_URL", "AGNT5_LOG_LEVEL"})
"""Variables that are read by those who need them, and are no settings of every process."""

_NOT_OURS_TO_NAME = ("AGNT5_FLAG_", "AGNT5_SECRET_")
_CLOSE = 0.88
_told: set[str] = set()

logger = logging.getLogger("agnt5.settings")

_PASSWORD = re.compile(r"(://[^/:@]*:).*(@)")


def mask_url(url: str) -> str:
    """A URL for logs and errors: its password as `***`."""
    return _PASSWORD.sub(r"\1***\2", url)


def _setting(default: Any, reader: readers.Reader, *, shown: bool = True) -> Any:
    return field(default=default, repr=shown, metadata={"reader": reader})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that can be set. `Settings()` has the defaults; `Settings.from_env()` is what processes use."""

    redis_url: str = _setting(
        DEFAULT_REDIS_URL, readers.url("redis", "rediss", "unix", "valkey", "valkeys"), shown=False
    )
    """Where runs live."""
    broker_url: str = _setting("", readers.url(), shown=False)
    """Where Celery's messages go; by default `redis_url`."""
    shards: int = _setting(16, readers.count(1, 4096))
    """Shards of the key space. Fixed by the first process that ever starts on a server."""
    retention_ms: int = _setting(604_800_000, readers.duration(1000))
    """How long the record of an ended run is kept."""

    linger_ms: int = _setting(10_000, readers.duration())
    """How long a waiting workflow stays in memory before it is parked."""
    max_hosted: int = _setting(10_000, readers.count(0, 10_000_000))
    """Waiting runs that one worker process keeps in memory; the least recently used are parked beyond it."""

    link_secret: str = _setting("", readers.secret(16), shown=False)
    """What links to decide an approval are signed with: the same on all workers and web servers."""
    web_url: str = _setting("", readers.url("http", "https"))
    """Where people reach the web pages: what links to decide an approval begin with."""

    metrics_port: range = _setting(range(0), readers.ports())
    """Where each worker and beat serves `/metrics`: of a range the first port that is free; none where it is empty."""
    metrics_host: str = _setting("127.0.0.1", readers.address())
    """The address for that: by default this machine only; `0.0.0.0` (all) is what a container needs."""
    secrets_dir: str = _setting("/run/secrets", readers.text("the path of a folder", r".+"))
    """The folder of secrets in files, each under its key."""
    secrets_providers: tuple[str, ...] = _setting((), readers.names("vault", "aws"))
    """Where else secrets are looked for, in this order, unless `create_app(secrets=[...])` says it."""
    secrets_prefetch: tuple[str, ...] = _setting((), readers.names())
    """Keys of secrets that a worker reads when it starts, so that no handler waits for them."""
    secrets_ttl_ms: int = _setting(300_000, readers.duration(1000))
    """How long a secret is used before it is read again."""
    secrets_timeout_ms: int = _setting(5000, readers.duration(100))
    """How long `ctx.secrets().get(...)` waits at most for a provider."""

    payload_limit: int = _setting(1_048_576, readers.size())
    """Bytes of JSON of one input, result, step result, signal, chunk, decision or error; as they are before sealing."""
    state_limit: int = _setting(4_194_304, readers.size())
    """Bytes of JSON of one entity's whole state, which each call reads."""
    journal_limit_events: int = _setting(10_000, readers.count(100, 10_000_000))
    """Events of one generation of a run's journal."""
    journal_limit_bytes: int = _setting(67_108_864, readers.size())
    """Bytes of one generation of a run's journal."""
    stream_limit: int = _setting(10_000, readers.count(1, 10_000_000))
    """Chunks that a run may yield in one attempt."""

    log_format: str = _setting("console", readers.choice("console", "json"))
    """How log lines of worker, beat and web server look."""
    log_keep: int = _setting(200, readers.count(0, 100_000))
    """Latest log lines that are kept with each run; 0 keeps none."""
    payload_keys: tuple[tuple[str, bytes], ...] = _setting((), readers.payload_keys(), shown=False)
    """Keys that seal what users' values the store holds: the first seals, all of them open."""
    payload_keys_file: str = _setting("", readers.text("the path of a file", r".+"))
    """A file with more payload keys, a key a line: the first seals where `payload_keys` has none."""
    payload_codec: Any = _setting(None, readers.payload_codec(), shown=False)  # noqa: RUF009 - as all the others
    """What seals in the place of payload keys: an `agnt5.sealing.PayloadCodec`, or `module:name` of one."""
    event_values: str = _setting("", readers.choice("shown", "hidden"))
    """Whether Celery's events show values and errors of runs; by default only where nothing is sealed."""

    heartbeat_ms: int = _setting(1000, readers.duration(50))
    """How often a host renews its liveness entry."""
    liveness_timeout_ms: int = _setting(5000, readers.duration(200))
    """A host that renewed nothing for so long is taken for dead, and its runs are queued again."""
    probe_after_ms: int = _setting(30_000, readers.duration(100))
    """A queue's oldest run, when unclaimed for so long, has its message sent again."""
    overtake_slack_ms: int = _setting(5000, readers.duration())
    """How much later an overtaking run must have been queued before the overtaken one counts as lost."""
    shutdown_grace_ms: int = _setting(30_000, readers.duration())
    """How long a warm shutdown lets functions finish before it hands them back."""
    max_host_losses: int = _setting(3, readers.count(1, 1000))
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
        and what is expected. A variable that looks like a misspelt one is told in the log, once.
        """
        env = os.environ if environ is None else environ
        given = {name: value for name, value in overrides.items() if value is not None}
        _refuse_unknown(overrides)
        _tell_misspelt(env)
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


def _tell_misspelt(env: Mapping[str, str]) -> None:
    """A setting that is not heard of may be one that keeps data from being sealed."""
    variables = {PREFIX + _public(item.name).upper() for item in fields(Settings)} | ELSEWHERE
    for name in sorted(env.keys() - variables - _told):
        if name.startswith(PREFIX) and not name.startswith(_NOT_OURS_TO_NAME):
            _told.add(name)
            if close := get_close_matches(name, variables, n=1, cutoff=_CLOSE):
                logger.warning("%s is no setting, and nothing reads it; did you mean %s?", name, close[0])


def _read(reader: readers.Reader, source: str, found: Any) -> Any:
    try:
        return reader.read(found)
    except readers.FaultError as error:
        raise ConfigurationError(f"{source}: expected {reader.expected}; {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        shown = "***" if reader.secret else mask_url(found) if isinstance(found, str) else found
        raise ConfigurationError(f"{source}: expected {reader.expected}, found {shown!r}") from None

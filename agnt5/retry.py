"""When a failed attempt is tried again: pure, so that it is decided alike everywhere."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, TypeGuard, get_args

from agnt5.contracts import errors
from agnt5.contracts.clock import to_ms
from agnt5.contracts.errors import InvalidInputError, NonRetryableError, RunFailedError, WrongContextError

Growth = Literal["exponential", "linear", "constant"]

_NEVER = (NonRetryableError, InvalidInputError, WrongContextError)
_NEVER_NAMES = frozenset(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, _NEVER)
)
_BIGGEST_POWER = 1_000
_BIGGEST_FACTOR = 1e18
_LONGEST_S = 366 * 86_400


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """How the wait grows with each failure: times `multiplier`, by one initial interval, or not at all."""

    type: Growth = "exponential"
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if self.type not in get_args(Growth):
            raise InvalidInputError(
                f"backoff type: one of {', '.join(get_args(Growth))} is needed, found {self.type!r}"
            )
        if not _is_number(self.multiplier) or not 1 <= self.multiplier <= 1_000:  # noqa: PLR2004
            raise InvalidInputError(f"backoff multiplier: a number from 1 to 1000 is needed, found {self.multiplier!r}")

    def factor(self, failures: int) -> float:
        """How many initial intervals to wait after that many failures."""
        if self.type == "exponential":
            try:
                return min(float(self.multiplier ** min(failures - 1, _BIGGEST_POWER)), _BIGGEST_FACTOR)
            except OverflowError:
                return _BIGGEST_FACTOR
        return float(failures) if self.type == "linear" else 1.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a handler's failed attempt is tried again.

    `max_attempts` counts the first try too: 1 is no retry, None no limit. Intervals are timedeltas or seconds.
    A wait is shortened by up to the share `jitter` of it, so that what failed together does not come back
    together. `non_retryable` has exception classes (subclasses count) or their names, qualified or not.
    `NonRetryableError` and `InvalidInputError` are never retried.
    """

    max_attempts: int | None = 3
    initial_interval: timedelta | float = timedelta(seconds=1)
    max_interval: timedelta | float = timedelta(seconds=60)
    jitter: float = 0.1
    non_retryable: tuple[type[BaseException] | str, ...] = ()
    backoff: BackoffPolicy = field(default_factory=BackoffPolicy)

    def __post_init__(self) -> None:
        most: Any = self.max_attempts
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise InvalidInputError(f"max_attempts: a whole number from 1, or None for no limit, found {most!r}")
        for name in ("initial_interval", "max_interval"):
            ms = to_ms(getattr(self, name), name)
            if ms is None:
                raise InvalidInputError(f"{name}: a timedelta or number of seconds is needed, found None")
            object.__setattr__(self, name, timedelta(milliseconds=ms))
        if self.max_ms < self.initial_ms:
            raise InvalidInputError(
                f"max_interval {self.max_interval} is shorter than initial_interval {self.initial_interval}"
            )
        if not _is_number(self.jitter) or not 0 <= self.jitter <= 1:
            raise InvalidInputError(f"jitter: a share from 0 to 1 is needed, found {self.jitter!r}")
        object.__setattr__(self, "non_retryable", _checked_kinds(self.non_retryable))
        if not isinstance(self.backoff, BackoffPolicy):
            raise InvalidInputError(f"backoff: a BackoffPolicy is needed, found {self.backoff!r}")

    @property
    def initial_ms(self) -> int:
        """The first wait, without jitter."""
        return _ms(self.initial_interval)

    @property
    def max_ms(self) -> int:
        """The longest wait."""
        return _ms(self.max_interval)

    def with_backoff(self, backoff: BackoffPolicy | None) -> RetryPolicy:
        """The same policy with another growth; None leaves it as it is."""
        return self if backoff is None else replace(self, backoff=backoff)

    def delay_ms(self, failures: int, error: BaseException | str, fraction: float) -> int | None:
        """Milliseconds to wait after the `failures`-th failure, or None: do not try again.

        `error` is the exception, or the name of its class. `fraction` (0 to 1, by chance) picks the jitter. An
        exception with a number of seconds in `retry_after` is waited for at least so long, also past `max_interval`.
        """
        if self.max_attempts is not None and failures >= self.max_attempts:
            return None
        if self._is_final(error):
            return None
        longest = min(self.initial_ms * self.backoff.factor(failures), self.max_ms)
        return max(round(longest * (1 - self.jitter * fraction)), _asked_ms(error))

    def _is_final(self, error: BaseException | str) -> bool:
        if isinstance(error, str):
            names = {error, error.rpartition(".")[2]}
            return not names.isdisjoint(_NEVER_NAMES) or self._lists_short(names)
        if isinstance(error, _NEVER) or self._lists(error):
            return True
        # what a child raised comes back by name only
        return isinstance(error, RunFailedError) and self._lists_short({error.type, error.type.rpartition(".")[2]})

    def _lists(self, error: BaseException) -> bool:
        names = {name for kind in builtins.type(error).__mro__ for name in _names_of(kind)}
        return any(kind in names if isinstance(kind, str) else isinstance(error, kind) for kind in self.non_retryable)

    def _lists_short(self, names: set[str]) -> bool:
        return any(_names_of(kind)[-1] in names for kind in self.non_retryable)

    def to_data(self) -> dict[str, Any]:
        """As JSON data, for a run's options; classes by their qualified names."""
        return {
            "max_attempts": self.max_attempts,
            "initial_ms": self.initial_ms,
            "max_ms": self.max_ms,
            "jitter": self.jitter,
            "non_retryable": [_names_of(kind)[0] for kind in self.non_retryable],
            "backoff": self.backoff.type,
            "multiplier": self.backoff.multiplier,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> RetryPolicy:
        """The policy of `to_data`; what is left out has its default."""
        standard = cls()
        return cls(
            max_attempts=data.get("max_attempts", standard.max_attempts),
            initial_interval=timedelta(milliseconds=data.get("initial_ms", standard.initial_ms)),
            max_interval=timedelta(milliseconds=data.get("max_ms", standard.max_ms)),
            jitter=data.get("jitter", standard.jitter),
            non_retryable=tuple(data.get("non_retryable", ())),
            backoff=BackoffPolicy(
                data.get("backoff", standard.backoff.type), data.get("multiplier", standard.backoff.multiplier)
            ),
        )


def _ms(value: timedelta | float) -> int:
    ms = to_ms(value)
    assert ms is not None
    return ms


def _asked_ms(error: BaseException | str) -> int:
    """The wait that an error itself asks for."""
    asked: Any = getattr(error, "retry_after", None)
    return round(asked * 1000) if _is_number(asked) and 0 < asked < _LONGEST_S else 0


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _names_of(kind: type[BaseException] | type | str) -> tuple[str, ...]:
    """The names that a class goes by, the qualified one first and the short one last."""
    if isinstance(kind, str):
        return kind, kind.rpartition(".")[2]
    return f"{kind.__module__}.{kind.__qualname__}", kind.__qualname__, kind.__name__


def _checked_kinds(kinds: Iterable[type[BaseException] | str]) -> tuple[type[BaseException] | str, ...]:
    if isinstance(kinds, str | type):
        kinds = (kinds,)
    checked = tuple(kinds)
    for kind in checked:
        if not (isinstance(kind, str) and kind) and not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise InvalidInputError(f"non_retryable: exception classes or their names are needed, found {kind!r}")
    return checked

"""Log records that know their run, and the fields that they carry.

Inside a run's code each record of any logger has one attribute more, `agnt5`: the run's fields. One, since `extra=` of
a library may use any other name, and logging refuses a record whose attribute exists. Records of `ctx.log()` also have
`fields`: the run's fields and all of `extra=`, whatever its keys are called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from agnt5.contracts.masking import MASKER, masked
from agnt5.telemetry.current import is_silent, run_fields

OURS = "agnt5."
RUN_LOGGER = "agnt5.run"
"""Root of the loggers that handlers write to: `agnt5.run.<service>.<handler>`."""

OF_A_RUN = (
    "run_id", "step_id", "attempt", "service", "handler", "trace_id", "span_id", "correlation_id",
)  # fmt: skip
"""The names of a run's fields."""

STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""What each record has by itself."""

TAKEN = STANDARD | {"agnt5", "fields"}
"""Names that `extra=` cannot have as attributes of a record."""

_NO_FIELDS = TAKEN | {"color_message"}
"""Attributes that say nothing more; `color_message` is uvicorn's message once more."""


class AllFields(dict[str, Any]):
    """What `record.fields` of `ctx.log()` is, which tells it from an `extra=` of that name."""


Elsewhere = Callable[[logging.LogRecord], Mapping[str, Any] | None]
"""The fields of a record that was written outside of runs, if it belongs to something that has such fields."""


class _Factory:
    """Makes records, each with the fields of the run that it was written in."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make
        self.elsewhere: Elsewhere | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            fields = run_fields() or (self.elsewhere(record) if self.elsewhere else None)
        except Exception:  # noqa: BLE001 - a line without fields is better than none
            return record
        if fields:
            record.agnt5 = fields
        return record


def mark_records(elsewhere: Elsewhere | None = None) -> None:
    """From now on records of this process know their run. May be called again; wraps the factory that is there."""
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _Factory):
        factory = _Factory(factory)
        logging.setLogRecordFactory(factory)
    factory.elsewhere = elsewhere or factory.elsewhere


def run_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of the run that a record was written in; outside of runs `agnt5` may be somebody's `extra=`."""
    run = record.__dict__.get("agnt5")
    return dict(run) if isinstance(run, dict) else {"agnt5": run} if run is not None else {}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """All fields of a record: its run's, then those of `extra=`, which win."""
    own = record.__dict__
    found = run_of(record)
    match own.get("fields"):
        case AllFields() as fields:  # what a filter changed or took away is so
            found |= {name: value for name, value in fields.items() if name in TAKEN or name in own}
        case None:
            pass
        case given:  # `extra={"fields": ...}` of another logger
            found["fields"] = given
    found |= {name: value for name, value in own.items() if name not in _NO_FIELDS}
    if str(record.name).startswith("celery."):
        found.pop("data", None)  # the message's arguments once more
    return found


def text_of(record: logging.LogRecord) -> str:
    """A record's message. One whose arguments do not fit it is told as it is, and raises nothing."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever an argument's __str__ raises
        return f"{shown(record.msg)} with {shown(record.args)} ({type(error).__name__}: {shown(error)})"


_TRACEBACKS = logging.Formatter()


def exception_of(record: logging.LogRecord) -> str:
    """A record's exception with its traceback, "" where there is none."""
    if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
        try:
            return _TRACEBACKS.formatException(record.exc_info)
        except Exception as error:  # noqa: BLE001 - whatever the exception's __str__ raises
            return f"{getattr(record.exc_info[0], '__name__', 'exc_info')} (not printable: {type(error).__name__})"
    return record.exc_text or ""


def shown(value: object) -> str:
    """The `repr` of a value, or its type where it has none. Never raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - user code
        return f"<{type(value).__name__}>"


class RunFields(logging.Filter):
    """For handlers of your own: gives each record its run's fields as attributes, where it has none of that name.

    So `%(run_id)s` or a JSON formatter sees them. Known secrets are masked in message and exception, and what a
    workflow's replay says again is left out. Our own set-up puts it on all handlers of the root logger.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """False for what a replay says again."""
        if is_repeated(record):
            return False
        for name, value in run_of(record).items():
            if name not in STANDARD:
                record.__dict__.setdefault(name, value)
        if MASKER.knows:
            record.msg, record.args = masked(text_of(record)), None
            if text := exception_of(record):
                record.exc_text = masked(text)  # what formatters write in place of `exc_info`
        return True


def is_repeated(record: logging.LogRecord) -> bool:
    """Whether a replay says again what was said before; what agnt5 itself has to say of it is news."""
    return is_silent() and (not record.name.startswith(OURS) or record.name.startswith(f"{RUN_LOGGER}."))


def add_run_fields(
    logger: Any,  # noqa: ARG001 - structlog's signature
    method_name: str,  # noqa: ARG001
    event_dict: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """A structlog processor: the fields of the run whose code runs now, where the event has none of that name."""
    for name, value in (run_fields() or {}).items():
        event_dict.setdefault(name, value)
    return event_dict

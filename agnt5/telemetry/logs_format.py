"""How log lines look: JSON for machines, text for people. Both are masked."""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.ids import CHILD
from agnt5.contracts.masking import masked, masked_json
from agnt5.telemetry.logs import (
    OF_A_RUN,
    RUN_LOGGER,
    RunFields,
    exception_of,
    fields_of,
    mark_records,
    run_of,
    shown,
    text_of,
)

FORMATS = ("console", "json")

_SHOWN = 200
"""Characters of a field's value on a console line."""

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_CONTROLS = {
    **{code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))},
    **{code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)},
    13: "\\r",
}


def formatter_of(kind: str, stream: Any = None) -> logging.Formatter:
    """The formatter of a format; in colours where the stream is a terminal and NO_COLOR is not set."""
    if kind == "json":
        return JsonLines()
    is_terminal = bool(getattr(stream, "isatty", bool)())
    return ConsoleLines(colours=is_terminal and not os.environ.get("NO_COLOR"))


def set_up(kind: str, level: str) -> None:
    """Have the root logger write to standard error, in a process where nobody else does it. Warnings are logged too.

    Raises `ConfigurationError` for a level that there is not.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigurationError(f"log level {level!r} (AGNT5_LOG_LEVEL): DEBUG, INFO, WARNING, ERROR or CRITICAL")
    mark_records()
    handler = logging.StreamHandler()
    handler.setFormatter(formatter_of(kind, handler.stream))
    handler.addFilter(RunFields())
    logging.basicConfig(level=number, handlers=[handler])
    logging.captureWarnings(capture=True)


class JsonLines(logging.Formatter):
    """One JSON object a line, in ASCII, whatever the message holds: timestamp, level, logger, message, then the fields.

    A field that is called as one of the line's own members has a `_` behind its name.
    """

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        line: dict[str, Any] = {
            "timestamp": utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": text_of(record),
        }
        end = {"exception": exception_of(record), "stack": record.stack_info}
        for name, value in fields_of(record).items():
            key = str(name)
            while key in line or key in end:
                key += "_"
            line[key] = value
        line.update({name: text for name, text in end.items() if text})
        return masked_json(to_json(line).encode()).decode()


class ConsoleLines(logging.Formatter):
    """For people: time, level, logger, message, then the run and the fields in short; exceptions follow."""

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line, or more where its message has several or there is an exception."""
        message = printable(text_of(record))
        told = _in_short(record, message)
        level = record.levelname
        clock = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created))}.{int(record.msecs):03d}"
        if self._colours:
            clock, told = f"\x1b[2m{clock}\x1b[0m", told and f"\x1b[2m{told}\x1b[0m"
            level = f"\x1b[{_COLOURS.get(level, '0')}m{level}\x1b[0m"
        text = f"{clock} {level} {record.name}: {message}" + (f"  {told}" if told else "")
        for more in (exception_of(record), record.stack_info or ""):
            if more:
                text += "\n" + printable(more)
        return masked(text)


def _in_short(record: logging.LogRecord, message: str) -> str:
    """`run=order-17 handler=orders.fulfil attempt=1 step=charge size=3`, without what the line says anyway."""
    fields = fields_of(record)
    run = run_of(record) or {name: fields[name] for name in OF_A_RUN if name in fields}
    parts: list[str] = []
    if (run_id := run.get("run_id")) and str(run_id) not in message:
        parts.append(f"run={field_word(run_id)}")
    handler = f"{run.get('service', '')}.{run.get('handler', '')}"
    if parts and handler not in message and not record.name.startswith(f"{RUN_LOGGER}.{handler}"):
        parts.append(f"handler={field_word(handler)}")
    if run.get("attempt"):
        parts.append(f"attempt={field_word(run['attempt'])}")
    if (step := run.get("step_id")) and not str(run_id).endswith(f"{CHILD}{step}"):
        parts.append(f"step={field_word(step)}")
    own = {name: value for name, value in fields.items() if name not in run or value != run[name]}
    parts += [f"{printable(_name(name))}={field_word(value)}" for name, value in own.items()]
    return " ".join(parts)


def field_word(value: Any) -> str:
    """A value as one word where it can be, else quoted; cut."""
    text = value if isinstance(value, str) else to_json(value)
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 3] + "..."
    if isinstance(value, str) and (not text or not text.isprintable() or any(c in text for c in ' "=')):
        text = json.dumps(text, ensure_ascii=False)
    return printable(text)


def printable(text: str) -> str:
    """A text that can be written anywhere and rewrites no terminal: control characters but tab and newline are told as
    escapes, and so are lone surrogates, as names of files have them.
    """
    return text.translate(_CONTROLS)


def utc(at_s: float) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    ms = int(at_s * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ms // 1000))}.{ms % 1000:03d}Z"


def to_json(value: Any) -> str:
    """JSON on one line, in ASCII; whatever has no JSON form becomes its `repr`. Never raises."""
    try:
        return _ENCODER.encode(value)
    except Exception:  # noqa: BLE001 - keys that are no text, or a thread that changes the value meanwhile
        if isinstance(value, dict):
            return _ENCODER.encode({_name(name): _plain(one) for name, one in list(value.items())})
        return _ENCODER.encode(shown(value))


def _plain(value: Any) -> Any:
    """A value that has a JSON form, or its `repr`."""
    try:
        _ENCODER.encode(value)
    except Exception:  # noqa: BLE001 - as above
        return shown(value)
    return value


def _name(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


_ENCODER = json.JSONEncoder(allow_nan=False, default=shown)

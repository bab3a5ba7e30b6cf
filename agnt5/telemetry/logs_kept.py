"""The latest log lines of runs on their way into the store: collected from all threads, written in batches."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from itertools import count
from typing import Any

from agnt5.contracts.masking import masked_json
from agnt5.telemetry.current import FIELDS, SINK
from agnt5.telemetry.logs import RUN_LOGGER, exception_of, fields_of, is_repeated, run_of, text_of
from agnt5.telemetry.logs_format import to_json

logger = logging.getLogger("agnt5.logs")

FLUSH_S = 0.2
"""How long a line waits for company before it is written. A worker that is killed loses so much."""

FLUSH_LINES = 100
"""So many lines wait no longer."""

MOST_LINES = 10_000
"""Lines that wait or are on their way; beyond it lines are dropped, and counted."""

LINE_BYTES = 4096

Write = Callable[[str, Sequence[tuple[int, bytes]]], Awaitable[Any]]
"""Puts a run's lines, each with its time in microseconds, on their way at once; awaited, they are there."""


class Keeper:
    """Keeps the latest lines of one host's runs. Calling it with a record is cheap, never waits and raises nothing.

    `most`: lines of one run, also of those that wait. `offset_ms`: what the store's clock is ahead of this machine's.
    """

    def __init__(
        self, write: Write, loop: asyncio.AbstractEventLoop, *, writer: str, most: int, offset_ms: Callable[[], int]
    ) -> None:
        self.dropped = 0
        self._write = write
        self._loop = loop
        self._writer = writer
        self._most = most
        self._offset_ms = offset_ms
        self._count = count(1)
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[tuple[int, bytes]]] = {}
        self._lines = 0
        self._away = 0
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._told = False

    # ---- from any thread

    def __call__(self, record: logging.LogRecord) -> None:
        """Keep a record with the run in whose code it was written."""
        fields = FIELDS.get()
        if fields is None or self._most == 0 or is_repeated(record):
            return
        if record.levelno < logging.INFO and not record.name.startswith(f"{RUN_LOGGER}."):
            return  # what libraries tell to those who mend them
        at_us = int(record.created * 1_000_000) + self._offset_ms() * 1000
        line = b"%s.%09d|%s" % (self._writer.encode(), next(self._count), line_of(record))
        with self._lock:
            if self._lines + self._away >= MOST_LINES:
                self.dropped += 1
                first, self._told = not self._told, True
            else:
                first = False
                self._add(str(fields["run_id"]), (at_us, line))
        if first:
            self._warn("the store takes no log lines of runs at the moment; more are dropped, and counted")

    def _add(self, run_id: str, line: tuple[int, bytes]) -> None:
        lines = self._waiting.get(run_id)
        if lines is None:
            lines = self._waiting[run_id] = deque(maxlen=self._most)
        self._lines += len(lines) < self._most
        lines.append(line)
        if not self._asked or self._lines == FLUSH_LINES:
            self._asked = True
            self._loop.call_soon_threadsafe(self._ask, context=Context())

    def _warn(self, text: str) -> None:
        Context().run(logger.warning, text)  # outside of the run: it would be a line to be kept

    # ---- on the loop

    def _ask(self) -> None:
        """Flush soon, or now if many lines wait."""
        if self._lines >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._due)

    def _due(self) -> None:
        self._timer, self._asked = None, False  # first, and also where nothing is left: the next line asks anew
        self.flush()

    def flush(self, run_id: str | None = None) -> None:
        """Put what waits (of one run) on its way now, before whatever is written next."""
        if not self._lines:
            return
        with self._lock:
            if run_id is None:
                taken, self._waiting = self._waiting, {}
                self._asked = False
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            else:
                found = self._waiting.pop(run_id, None)
                taken = {} if found is None else {run_id: found}
            size = sum(map(len, taken.values()))
            self._lines -= size
            self._away += size
        if taken:
            pending = [(self._begun(one, list(lines)), len(lines)) for one, lines in taken.items()]
            task = self._loop.create_task(self._written(pending), context=Context())
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    def _begun(self, run_id: str, lines: list[tuple[int, bytes]]) -> Awaitable[Any] | Exception:
        try:
            return self._write(run_id, lines)
        except Exception as error:  # noqa: BLE001 - a link that is closed
            return error

    async def _written(self, pending: list[tuple[Awaitable[Any] | Exception, int]]) -> None:
        failure: Exception | None = None
        for one, size in pending:
            try:
                if isinstance(one, Exception):
                    raise one  # noqa: TRY301
                await one
            except Exception as error:  # noqa: BLE001 - logs never stop anything
                failure = error
                self.dropped += size
            with self._lock:
                self._away -= size
        if failure is not None and not self._told:
            self._told = True
            self._warn(f"log lines of runs could not be kept: {failure}")
        elif failure is None and self._told:
            self._told = False
            self._warn(f"log lines of runs are kept again; {self.dropped} were not so far")

    async def close(self) -> None:
        """Write what waits."""
        self.flush()
        if self._writing:
            await asyncio.wait(self._writing, timeout=1.0)


class _KeepHandler(logging.Handler):
    """Gives each record to whoever keeps those of the run that it was written in."""

    def emit(self, record: logging.LogRecord) -> None:
        sink = SINK.get()
        if sink is None:
            return
        try:
            sink(record)
        except Exception:  # noqa: BLE001 - a handler's code must not see it
            self.handleError(record)


def listen() -> None:
    """Hear of what any logger of this process writes. May be called again, after loggers were set up anew."""
    for target in (logging.getLogger(), logging.getLogger("celery.task")):
        reached = target.parent is None or not target.propagate
        if reached and not any(isinstance(one, _KeepHandler) for one in target.handlers):
            target.addHandler(_KeepHandler())


def line_of(record: logging.LogRecord) -> bytes:
    """A record as JSON of at most `LINE_BYTES`: level, logger, message, attempt, and what there is of step_id, fields
    and exception; masked, then cut.
    """
    run = run_of(record) or FIELDS.get() or {}
    line: dict[str, Any] = {
        "level": record.levelname,
        "logger": record.name,
        "message": text_of(record),
        "attempt": run.get("attempt", 0),
        "step_id": run.get("step_id"),
        "fields": {name: value for name, value in fields_of(record).items() if name not in run or value != run[name]},
        "exception": exception_of(record),
    }
    data = masked_json(to_json(line).encode())
    return data if len(data) <= LINE_BYTES else _cut(json.loads(data))


def _cut(line: dict[str, Any]) -> bytes:
    """A long line within its limit: long texts lose their end, exceptions their beginning."""
    for most in (1500, 500, 150):
        short = {
            **line,
            "message": _head(line["message"], most),
            "exception": _tail(line["exception"], most),
            "fields": {_head(name, 60): _short(value, most // 4) for name, value in line["fields"].items()},
        }
        if len(data := json.dumps(short).encode()) <= LINE_BYTES:
            return data
    least = {name: _head(value, 150) for name, value in line.items() if isinstance(value, str)}
    return json.dumps({**least, "attempt": line["attempt"], "step_id": None, "fields": {}}).encode()


def _short(value: Any, most: int) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= most else _head(text, most)


def _head(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "..."


def _tail(text: str, most: int) -> str:
    return text if len(text) <= most else "..." + text[-most:]

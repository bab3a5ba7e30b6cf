"""The log lines that are kept with a run."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agnt5.contracts.errors import InvalidInputError
from agnt5.store import browse, keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store

_LEVELS = {logging.getLevelName(number): number for number in range(10, 60, 10)}
"""Lines of other levels, which somebody has made, are shown with every choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a run's code: what `ctx.log()` or any other logger wrote while it ran.

    `at` is the store's time, as well as the worker knew it. `fields` are those of `extra=`; `exception` is its
    traceback, "" where there is none. `place` tells lines of one run apart.
    """

    at: datetime
    level: str
    logger: str
    message: str
    attempt: int = 0
    step_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    exception: str = ""
    place: str = ""


async def read_logs(store: Store, run_id: str, *, limit: int | None, level: str) -> list[LogLine]:
    """A run's lines, oldest first; with `limit` only the latest so many. Raises as `AsyncClient.logs`."""
    least = _number(level)
    if limit is not None and limit < 1:
        raise InvalidInputError(f"limit {limit}: at least 1 is needed; leave it out for all lines")
    await browse.record(store, run_id)
    found = await store.link.call("ZRANGE", keys.logs(run_id, store.shards), 0, -1, "WITHSCORES")
    lines = [_line(store.sealer.shown(member, run_id), int(float(at_us))) for member, at_us in pairs(found)]
    if least:
        lines = [line for line in lines if _LEVELS.get(line.level, least) >= least]
    return lines if limit is None else lines[-limit:]


def _line(member: bytes, at_us: int) -> LogLine:
    place, _, data = member.decode().partition("|")
    told = json.loads(data)
    if "\\ud" in data:
        told = _encodable(told)
    if isinstance(told, str):  # sealed, and we do not have the key
        told = {"message": told}
    return LogLine(
        at=datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000),
        level=told.get("level", "INFO"),
        logger=told.get("logger", ""),
        message=told.get("message", ""),
        attempt=told.get("attempt", 0),
        step_id=told.get("step_id"),
        fields=told.get("fields") or {},
        exception=told.get("exception", ""),
        place=place,
    )


def _encodable(value: Any) -> Any:
    """JSON data in which lone surrogates, as names of files have them, are told as escapes: nothing could send them."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case list():
            return [_encodable(one) for one in value]
        case dict():
            return {_encodable(name): _encodable(one) for name, one in value.items()}
        case _:
            return value


def _number(level: str) -> int:
    if level and level.upper() not in _LEVELS:
        raise InvalidInputError(f"level {level!r}: {', '.join(_LEVELS)} are the levels")
    return _LEVELS.get(level.upper(), 0)

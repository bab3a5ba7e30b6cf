"""Keeps secrets out of the access log: tokens in paths, and query values that are not known to be harmless."""

from __future__ import annotations

import logging
import re
from urllib.parse import parse_qsl, quote, urlencode

HARMLESS = frozenset(
    {"after", "cursor", "fold", "handler", "limit", "mine", "role", "status", "type", "wait_s", "page", "kind"}
)
"""Query parameters whose values may stand in a log."""

_SECRET_PART = re.compile(r"(/(?:links|decide)/)[^/]+|\bagnt5_[\w%-]{16,}")
_PATH_AT = 2
"""Where uvicorn's access records have the path with its query."""


def masked(path: str) -> str:
    """A path with its query, for a log."""
    path, found, query = path.partition("?")
    path = _SECRET_PART.sub(lambda match: f"{match[1] or ''}***", path)
    if not found:
        return path
    shown = [(name, value if name in HARMLESS else "***") for name, value in parse_qsl(query, keep_blank_values=True)]
    return f"{path}?{_SECRET_PART.sub('***', urlencode(shown, safe='*', quote_via=quote))}"


class _Mask(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and len(record.args) > _PATH_AT:
            at = list(record.args)
            at[_PATH_AT] = masked(str(at[_PATH_AT]))
            record.args = tuple(at)
        return True


def mask_access_log() -> None:
    """Mask what uvicorn's access log says, once per process, however uvicorn was started."""
    log = logging.getLogger("uvicorn.access")
    if not any(isinstance(one, _Mask) for one in log.filters):
        log.addFilter(_Mask())

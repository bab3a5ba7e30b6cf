"""`ctx.trace_span()`: spans of a handler's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from agnt5.contracts.masking import masked
from agnt5.telemetry.spans import NO_SPAN, active

if TYPE_CHECKING:
    from agnt5.telemetry.spans_tracer import Tracing

logger = logging.getLogger("agnt5.telemetry")

_PLAIN = (str, bool, int, float)


class TraceSpans:
    """`ctx.trace_span()`. Made by the context; `attributes` are those that all spans of the run have."""

    def __init__(self, silent: Callable[[], bool], attributes: Mapping[str, Any]) -> None:
        self._silent = silent
        self._attributes = attributes

    def start(self, name: str, /, **attributes: Any) -> AbstractContextManager[Any]:
        """A span around a block: `with ctx.trace_span().start("charge", service="payments") as span:`.

        Gives OpenTelemetry's span, or, where no spans are made, an object that takes the same calls and does nothing.
        The span is the current one inside the block, so that what the block calls is below it. `attributes` are text,
        numbers, booleans or lists of these; anything else is noted as its text. What leaves the block is noted as
        the span's error, and goes on.

        In a workflow a block that began in a replay, or that was left because the run moved to another worker, makes
        no span. Times are those of this machine, not of the workflow's clock.
        """
        tracing = active()
        if tracing is None or self._silent():
            return NO_SPAN
        return self._block(tracing, str(name), {**self._attributes, **_cleaned(attributes)})

    @contextmanager
    def _block(self, tracing: Tracing, name: str, attributes: Mapping[str, Any]) -> Iterator[Any]:
        span, leave = tracing.begin_block(name, attributes)
        try:
            yield span
        except BaseException as error:
            if not self._silent():
                tracing.failed(span, error)
            raise
        finally:
            if not self._silent():  # else a workflow that is put away: its block goes on elsewhere
                leave()


def _cleaned(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that any exporter takes, without secrets."""
    return {name: cleaned for name, value in attributes.items() if (cleaned := _clean(value)) is not None}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(_text(one)) for one in value] if not _is_even(value) else list(value)
    return masked(_text(value))


def _is_even(values: Any) -> bool:
    """Whether all are numbers, or all booleans: what OpenTelemetry takes as a list without a change."""
    kinds = {type(one) for one in values}
    return len(kinds) == 1 and kinds <= {bool, int, float}


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the text of an attribute is its author's code
        return f"<{type(value).__qualname__}>"

"""`ctx.trace_span()`: spans of a handler's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from agnt5.contracts.masking import masked
from agnt5.sdk.port import CommandPort, RunInfo
from agnt5.telemetry.spans import NO_SPAN, active

if TYPE_CHECKING:
    from agnt5.telemetry.spans_tracer import Tracing

_PLAIN = (str, bool, int, float)


class TraceSpans:
    """`ctx.trace_span()`. Made by the context.

    A workflow's block has an id that follows from its place in the code (`numbers` counts them, also in a replay), as
    the run's own span has: its parts name it as their parent before it is recorded, by the worker on which it ends.
    """

    def __init__(self, info: RunInfo, port: CommandPort, numbers: Iterator[int] | None) -> None:
        self._info = info
        self._port = port
        self._numbers = numbers

    def start(self, name: str, /, **attributes: Any) -> AbstractContextManager[Any]:
        """A span around a block: `with ctx.trace_span().start("charge", service="payments") as span:`.

        Gives OpenTelemetry's span, or, where no spans are made, an object that takes the same calls and does nothing.
        The span is the current one inside the block, so that what the block calls is below it. `attributes` are text,
        numbers, booleans or lists of these; anything else is noted as its text. What leaves the block is noted as
        the span's error, and goes on.

        A workflow's block is recorded once, by the worker on which it ends, also when that has taken over in the
        middle of it. Times are those of workers, not of the workflow's clock; only where a block has to be begun again
        in a replay, its begin is the time of the event that led to it.
        """
        number = None if self._numbers is None else next(self._numbers)
        tracing = active()
        if tracing is None:
            return NO_SPAN
        return self._block(tracing, str(name), _cleaned(attributes), number)

    @contextmanager
    def _block(self, tracing: Tracing, name: str, attributes: Mapping[str, Any], number: int | None) -> Iterator[Any]:
        port, info = self._port, self._info
        block = tracing.begin_block(
            name,
            {"agnt5.run_id": info.run_id, **attributes},
            span_id="" if number is None else info.trace.part(f"block {number}"),
            begun_ms=port.now_ms() if port.replaying else None,
        )
        try:
            yield block.span
        except BaseException as error:
            block.leave(error, recorded=not port.replaying)
            raise
        block.leave(None, recorded=not port.replaying)


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

"""Context properties: what a handler can ask about its own run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agnt5.contracts.ids import CHILD
from agnt5.telemetry.current import STEP


class Headers(Mapping[str, str]):
    """Request headers: read only, names in any case. Names iterate in lower case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._headers

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"Headers({self._headers!r})"


def step_id(run_id: str) -> str | None:
    """The step that runs; outside of one, the run's own command number or key in its parent; None in a root."""
    if (name := STEP.get()) is not None:
        return name
    _, found, own = run_id.rpartition(CHILD)
    return own if found else None

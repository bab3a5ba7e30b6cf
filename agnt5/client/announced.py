"""Checks an input against what workers announced about a handler that this process does not have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from agnt5.contracts.errors import InvalidInputError


def check_announced(address: str, described: dict[str, Any], value: Any) -> None:
    """Raise `InvalidInputError` for an input whose parameters do not fit; their types the worker checks."""
    parameters = {p["name"]: p["required"] for p in described["parameters"]}
    required = {name for name, needed in parameters.items() if needed}
    if value is None and not required:
        return
    faults = _faults(value, parameters.keys(), required)
    if faults and len(parameters) != 1:
        takes = ", ".join(name if needed else f"{name}=..." for name, needed in parameters.items()) or "no input"
        raise InvalidInputError(f"{address}: {'; '.join(faults)}; it takes ({takes})")


def _faults(value: Any, parameters: Collection[str], required: Collection[str]) -> list[str]:
    if not isinstance(value, dict):
        return [f"expected an object, found {type(value).__name__}"]
    missing = [f"{name!r} is missing" for name in sorted(set(required) - value.keys())]
    return missing + [f"{name!r} is not a parameter" for name in sorted(map(str, value.keys() - set(parameters)))]

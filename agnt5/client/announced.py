"""Checks an input against what workers announced about a handler that this process does not have."""

from __future__ import annotations

from typing import Any

from agnt5.contracts.errors import InvalidInputError


def check_announced(address: str, described: dict[str, Any], value: Any) -> None:
    """Raise `InvalidInputError` for an input whose parameters do not fit; their types the worker checks."""
    parameters = {p["name"]: p["required"] for p in described["parameters"]}
    required = {name for name, needed in parameters.items() if needed}
    if isinstance(value, dict):
        missing, unknown = required - value.keys(), value.keys() - parameters.keys()
        if not missing and not unknown:
            return
    elif value is None and not required:
        return
    if len(parameters) == 1:
        return
    takes = ", ".join(name if needed else f"{name}=..." for name, needed in parameters.items()) or "no input"
    if isinstance(value, dict):
        faults = [f"{name!r} is missing" for name in sorted(missing)] + [
            f"{name!r} is not a parameter" for name in sorted(map(str, unknown))
        ]
        raise InvalidInputError(f"{address}: {'; '.join(faults)}; it takes ({takes})")
    raise InvalidInputError(f"{address}: expected an object with ({takes}), found {type(value).__name__}")

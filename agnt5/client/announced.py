"""Checks an input against what workers announced about a handler that this process does not have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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


def bind_announced(
    address: str, described: dict[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The input that a call with these arguments means. Raises `InvalidInputError` as Python raises TypeError."""
    names = [p["name"] for p in described["parameters"]]
    takes = ", ".join(names) or "no input"
    if len(args) > len(names):
        raise InvalidInputError(f"{address}: {len(args)} positional arguments were given, it takes ({takes})")
    given = dict(zip(names, args, strict=False))
    if twice := given.keys() & kwargs.keys():
        raise InvalidInputError(f"{address}: parameter {min(twice)!r} was given twice")
    bound = {**given, **kwargs}
    if faults := _faults(bound, names, {p["name"] for p in described["parameters"] if p["required"]}):
        raise InvalidInputError(f"{address}: {'; '.join(faults)}; it takes ({takes})")
    return bound


def _faults(value: Any, parameters: Collection[str], required: Collection[str]) -> list[str]:
    if not isinstance(value, dict):
        return [f"expected an object, found {type(value).__name__}"]
    missing = [f"{name!r} is missing" for name in sorted(set(required) - value.keys())]
    return missing + [f"{name!r} is not a parameter" for name in sorted(map(str, value.keys() - set(parameters)))]

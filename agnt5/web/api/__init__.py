"""The routes of the HTTP API, a module for each sort of thing."""

from __future__ import annotations

from importlib.util import find_spec

from fastapi import APIRouter

from agnt5.web.api import approvals, changes, entities, fleet, runs, stories, streams


def add_routes(api: APIRouter) -> None:
    """Add all routes. What is more specific comes first: ids may hold slashes."""
    if find_spec("ag_ui") is not None:
        from agnt5.web.api import agui  # noqa: PLC0415 - an extra

        agui.add_routes(api)
    for module in (stories, streams, changes, approvals, runs, entities, fleet):
        module.add_routes(api)

"""The routes of the HTTP API, a module for each sort of thing."""

from __future__ import annotations

from fastapi import APIRouter

from agnt5.web.api import approvals, changes, entities, fleet, runs, stories, streams


def add_routes(api: APIRouter) -> None:
    """Add all routes. What is more specific comes first: ids may hold slashes."""
    for module in (stories, streams, changes, approvals, runs, entities, fleet):
        module.add_routes(api)

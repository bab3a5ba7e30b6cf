"""What there is to run, who runs it, and whether this API can serve."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter

from agnt5.contracts.errors import Agnt5Error
from agnt5.web.access import Reader
from agnt5.web.api import models
from agnt5.web.api.common import TheWeb, problems
from agnt5.web.problems import RETRY_AFTER_S, Problem, logger

READY_S = 2.0
"""How long Redis may take to answer a readiness probe."""


def add_routes(api: APIRouter) -> None:
    """Handlers, workers, config, probes."""
    add = api.add_api_route
    add(
        "/handlers", list_handlers, methods=["GET"], tags=["fleet"], summary="List handlers",
        response_model=models.Handlers, responses=problems(),
    )  # fmt: skip
    add(
        "/workers", list_workers, methods=["GET"], tags=["fleet"], summary="List workers and queues",
        response_model=models.Workers, responses=problems(),
    )  # fmt: skip
    add(
        "/config", list_configs, methods=["GET"], tags=["fleet"], summary="List config values and feature flags",
        response_model=models.Configs, responses=problems(),
    )  # fmt: skip
    add(
        "/health", health, methods=["GET"], tags=["fleet"], summary="Liveness probe", response_model=models.Health,
    )  # fmt: skip
    add(
        "/ready", ready, methods=["GET"], tags=["fleet"], summary="Readiness probe", response_model=models.Health,
        responses=problems(guarded=False),
    )  # fmt: skip


async def list_handlers(_: Reader, web: TheWeb) -> dict[str, Any]:
    """What workers have announced, by address."""
    found = await web.client.handlers()
    return {"handlers": [{"address": address, **described} for address, described in sorted(found.items())]}


async def list_workers(_: Reader, web: TheWeb) -> Any:
    """Live workers, and how much waits for them in which queue."""
    return await web.client.fleet()


async def list_configs(_: Reader, web: TheWeb) -> dict[str, Any]:
    """What is set in Redis for the whole fleet, by key."""
    return {"configs": await web.client.configs()}


async def health() -> dict[str, Literal["ok"]]:
    """This process answers. Asks nobody else."""
    return {"status": "ok"}


async def ready(web: TheWeb) -> dict[str, Literal["ready"]]:
    """Redis answers, and workers have announced handlers."""
    try:
        async with asyncio.timeout(READY_S):
            found = await web.client.handlers()
    except (Agnt5Error, TimeoutError) as error:
        logger.warning("not ready: %r", error)
        raise _not_ready("Redis does not answer, or is not fit for use; the log tells more.") from None
    if not found:
        raise _not_ready("No worker has announced a handler yet.")
    return {"status": "ready"}


def _not_ready(detail: str) -> Problem:
    return Problem(503, "not-ready", "Not ready", detail, headers={"Retry-After": str(RETRY_AFTER_S)})

"""Starting runs, reading them, waiting for their results."""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from agnt5.client import AsyncRun
from agnt5.client.listing import RunPage
from agnt5.client.runs import RunState
from agnt5.contracts.errors import DuplicateRunError, InvalidInputError, ResultTimeoutError, RunFailedError
from agnt5.contracts.runs import RunStatus
from agnt5.web.access import Reader, Starter
from agnt5.web.api import models
from agnt5.web.api.common import (
    IdempotencyKey,
    Limit,
    RunId,
    TheWeb,
    Wait,
    free_id,
    kept_headers,
    key_of,
    problems,
    run_url,
)
from agnt5.web.identity import Identity
from agnt5.web.problems import Problem
from agnt5.web.stopping import ServerStops
from agnt5.web.wiring import Web


def add_routes(api: APIRouter) -> None:
    """Starting and reading."""
    add = api.add_api_route
    add(
        "/runs", start_run, methods=["POST"], tags=["runs"], summary="Start a run", status_code=201,
        response_model=models.Brief, responses={
            200: {"model": models.Brief, "description": "The run was there already, with the same input."},
            201: {
                "description": "The run is durable.",
                "headers": {"Location": {"description": "The run's address.", "schema": {"type": "string"}}},
            },
            **problems(400, 404, 409, 413),
        },
    )  # fmt: skip
    add(
        "/runs", list_runs, methods=["GET"], tags=["runs"], summary="List root runs", response_model=models.Runs,
        responses=problems(),
    )  # fmt: skip
    add(
        "/runs/{run_id:path}/result", read_result, methods=["GET"], tags=["runs"], summary="Wait for a result",
        response_model=models.Result, responses={
            200: {"description": "The run has ended: with a result, or with an error."},
            202: {"model": models.Result, "description": "It goes on; ask again."},
            **problems(404),
        },
    )  # fmt: skip
    add(
        "/runs/{run_id:path}", read_run, methods=["GET"], tags=["runs"], summary="Read a run",
        response_model=models.Run, responses=problems(404),
    )  # fmt: skip


async def start_run(
    body: models.StartRun, request: Request, response: Response, who: Starter, web: TheWeb,
    idempotency_key: IdempotencyKey = None,
) -> RunState:  # fmt: skip
    """Start a run of a handler. Once this answers, the run is durable.

    With an `id`, or an `Idempotency-Key` header, a repetition finds the run that is there. With another input it is
    refused: 409 for an `id`, 422 for an `Idempotency-Key`.
    """
    if body.id is not None and idempotency_key is not None:
        raise InvalidInputError("id: either an id or an Idempotency-Key can be given, not both")
    if idempotency_key is None:
        run = await _begin(web, request, who, body, free_id(body.id))
    else:
        run = await begin_with_key(web, request, who, body, idempotency_key)
    if not run.fresh:
        response.status_code = 200
    response.headers["Location"] = run_url(request, run.id)
    return await web.client.state(run.id)


async def begin_with_key(web: Web, request: Request, who: Identity, body: models.StartRun, key: str | None) -> AsyncRun:
    """Start what a body asks for, once per Idempotency-Key if there is one."""
    try:
        return await _begin(web, request, who, body, key_of(who, key))
    except DuplicateRunError:
        if key is None:
            raise
        raise Problem(
            422, "idempotency-key-reused", "The Idempotency-Key was used before",
            "It was used with another handler or input. Nothing was started.",
        ) from None  # fmt: skip


async def _begin(web: Web, request: Request, who: Identity, body: models.StartRun, run_id: str | None) -> AsyncRun:
    return await web.client.start(
        body.handler, body.input, id=run_id, key=body.key, headers=kept_headers(request, web), priority=body.priority,
        run_timeout=body.run_timeout_s, requester=who.requester, budget=[one.budget() for one in body.budget],
    )  # fmt: skip


async def list_runs(
    _: Reader,
    web: TheWeb,
    status: Annotated[RunStatus | None, Query(description="Only runs of this status.")] = None,
    handler: Annotated[str | None, Query(description="Only runs of this handler.", max_length=500)] = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(description="`cursor` of the page before.", max_length=2000)] = None,
) -> RunPage:
    """Root runs: those that have not ended, then the ended ones within retention; newest first.

    A page may hold fewer than `limit` runs, or none, and have a cursor still: so much was looked through.
    """
    return await web.client.run_page(status=status, handler=handler, limit=limit, cursor=cursor)


async def read_run(run_id: RunId, _: Reader, web: TheWeb) -> RunState:
    """All there is to know about a run, in one read."""
    return await web.client.state(run_id)


async def read_result(run_id: RunId, response: Response, _: Reader, web: TheWeb, wait_s: Wait = 0) -> RunState:
    """A run's result, waiting for its end up to `wait_s` seconds.

    A run that failed or was cancelled is a 200 too: asking was no mistake. Look at `status`.
    """
    return await outcome(web, run_id, response, wait_s)


async def outcome(web: Web, run_id: str, response: Response, wait_s: float) -> RunState:
    """A run once it has ended, or with status 202 as it is after `wait_s` seconds or when the server stops."""
    if wait_s:
        with contextlib.suppress(ResultTimeoutError, RunFailedError, ServerStops):
            await web.stopping.wait(web.client.wait(run_id, wait_s))
    state = await web.client.state(run_id)
    if not state.status.ended:
        response.status_code = 202
    return state

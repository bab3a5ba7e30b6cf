"""Signals, cancelling, retrying."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from agnt5.client.runs import RunState
from agnt5.contracts.errors import InvalidInputError
from agnt5.web.access import Signaller, Starter
from agnt5.web.api import models
from agnt5.web.api.common import IdempotencyKey, RunId, TheWeb, key_of, problems
from agnt5.web.problems import Problem

SignalName = Annotated[str, Path(description="The signal's name.", max_length=500, min_length=1, examples=["approved"])]


def add_routes(api: APIRouter) -> None:
    """What changes a run that is there."""
    add = api.add_api_route
    add(
        "/runs/{run_id:path}/signals/{name}", send_signal, methods=["POST"], tags=["runs"], summary="Send a signal",
        status_code=202, response_model=models.Brief, responses=problems(400, 404, 409, 413),
    )  # fmt: skip
    add(
        "/runs/{run_id:path}/cancel", cancel_run, methods=["POST"], tags=["runs"], summary="Ask a run to end",
        status_code=202, response_model=models.Brief, responses=problems(400, 404, 409, 413),
    )  # fmt: skip
    add(
        "/runs/{run_id:path}/retry", retry_run, methods=["POST"], tags=["runs"], summary="Retry a failed run",
        status_code=202, response_model=models.Brief, responses=problems(404, 409),
    )  # fmt: skip


async def send_signal(
    run_id: RunId, name: SignalName, who: Signaller, web: TheWeb, body: models.Signal | None = None,
    idempotency_key: IdempotencyKey = None,
) -> RunState:  # fmt: skip
    """Send a signal to a workflow. It is kept if it comes early; with an `Idempotency-Key` it is delivered once."""
    payload = body.payload if body else None
    await web.client.signal(run_id, name, payload, operation=key_of(who, idempotency_key))
    return await web.client.state(run_id)


async def cancel_run(run_id: RunId, _: Starter, web: TheWeb, body: models.Cancel | None = None) -> RunState:
    """Ask a run and its children to end. A workflow may clean up first; a run that completes first wins."""
    await web.client.cancel(run_id, body.reason if body else "")
    return await web.client.state(run_id)


async def retry_run(run_id: RunId, _: Starter, web: TheWeb) -> RunState:
    """Open a failed root run again: what succeeded stands, what failed is done again."""
    try:
        await web.client.retry(run_id)
    except InvalidInputError as error:  # the id was fine: the run is in no state for it
        raise Problem(409, "not-failed", "The run cannot be retried", str(error)) from None
    return await web.client.state(run_id)

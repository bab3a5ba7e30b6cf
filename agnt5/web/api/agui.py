"""Runs for front ends that speak AG-UI: start one and read it, or read one that is there, as Server-Sent Events."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from ag_ui.core import BaseEvent, RunAgentInput
from fastapi import APIRouter, Path, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from agnt5.contracts.errors import Agnt5Error
from agnt5.integrations import agui
from agnt5.web.access import Reader, Starter
from agnt5.web.api.common import RunId, TheWeb, kept_headers, key_of, problems, run_url
from agnt5.web.api.sse import event_stream, told_as
from agnt5.web.wiring import Web

Address = Annotated[
    str, Path(description="A handler's address.", examples=["support.answer"], min_length=3, max_length=500)
]


def add_routes(api: APIRouter) -> None:
    """Two ways to read a run as AG-UI events."""
    events = told_as("AG-UI events.")
    api.add_api_route(
        "/agui/{handler}", run_agent, methods=["POST"], tags=["runs"], summary="Run an agent for AG-UI",
        response_class=EventSourceResponse, responses={**events, **problems(400, 404, 409, 413)},
    )  # fmt: skip
    api.add_api_route(
        "/runs/{run_id:path}/agui", read_agent, methods=["GET"], tags=["runs"], summary="Read a run as AG-UI events",
        response_class=EventSourceResponse, responses={**events, **problems(404)},
    )  # fmt: skip


async def run_agent(
    handler: Address, body: RunAgentInput, request: Request, who: Starter, _: Reader, web: TheWeb
) -> Response:
    """Start a run of a handler with AG-UI's RunAgentInput, and tell it as AG-UI events. Needs `start` and `read`.

    The handler's parameters choose what it gets: `message`, `messages`, `thread_id` (also as `conversation`), `run_id`,
    `state`, `tools`, `context`, `forwarded_props`, `resume`; a single parameter of another name gets the text, or all
    as one object. A method of an entity is called on the entity of the thread. A repetition with the same `runId` and
    body finds the run that is there, and tells it from the start; it goes on when its reader leaves. `X-Agnt5-Run` has
    the run's own id.
    """
    described = await web.client.catalog.describe(handler)
    run = await web.client.start(
        handler,
        agui.input_for(body, described["parameters"]),
        id=key_of(who, f"agui-{hashlib.sha256(body.run_id.encode()).hexdigest()[:32]}"),
        key=body.thread_id if described.get("mode") else None,
        headers=kept_headers(request, web),
        requester=who.requester,
    )
    events = agui.events(web.client, run.id, thread_id=body.thread_id, agui_run_id=body.run_id)
    return await _told(web, events, {"X-Agnt5-Run": run.id, "Location": run_url(request, run.id)})


async def read_agent(run_id: RunId, _: Reader, web: TheWeb) -> Response:
    """Tell a run as AG-UI events, from its start, as they come, until it has ended."""
    return await _told(web, agui.events(web.client, run_id), {})


async def _told(web: Web, events: AsyncGenerator[BaseEvent], headers: dict[str, str]) -> Response:
    first = await anext(events)  # what is wrong is a problem, not a stream that breaks off
    return event_stream(web, _encoded(first, events), headers)


async def _encoded(first: BaseEvent, events: AsyncGenerator[BaseEvent]) -> AsyncGenerator[ServerSentEvent]:
    yield _event(first)
    try:
        async with aclosing(events):
            async for event in events:
                yield _event(event)
    except Agnt5Error:
        return  # without RUN_FINISHED: the reader knows that it has not heard all, and may ask again


def _event(event: BaseEvent) -> ServerSentEvent:
    return ServerSentEvent(event.model_dump_json(by_alias=True))

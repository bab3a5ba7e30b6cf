"""What happened in a run: its journal in pages, as a story, and as a stream of Server-Sent Events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from agnt5 import codec
from agnt5.client import AsyncClient
from agnt5.client.follow import Followed
from agnt5.client.moments import collapse
from agnt5.client.spending import spent_in
from agnt5.client.timeline import timeline
from agnt5.contracts.clock import at_ms
from agnt5.contracts.errors import Agnt5Error
from agnt5.replay import events as ev
from agnt5.web.access import Reader
from agnt5.web.api import models
from agnt5.web.api.common import Limit, RunId, TheWeb, problems
from agnt5.web.api.sse import FOLLOWING, LastEventId, event_stream, greeting

CHILDREN_LIMIT = 200
"""Open children whose status is looked up for a timeline."""

After = Annotated[
    str | None, Query(description="Place of the last event that is known, as `0.17`.", max_length=40, examples=["0.17"])
]


def add_routes(api: APIRouter) -> None:
    """Three ways to read a journal, and what was logged beside it."""
    add = api.add_api_route
    add(
        "/runs/{run_id:path}/history", read_history, methods=["GET"], tags=["runs"], summary="Read a journal",
        response_model=models.History, responses=problems(404),
    )  # fmt: skip
    add(
        "/runs/{run_id:path}/timeline", read_timeline, methods=["GET"], tags=["runs"], summary="Read a run's story",
        response_model=models.Timeline, responses=problems(404),
    )  # fmt: skip
    add(
        "/runs/{run_id:path}/logs", read_logs, methods=["GET"], tags=["runs"], summary="Read a run's log lines",
        response_model=models.Logs, responses=problems(404),
    )  # fmt: skip
    add(
        "/runs/{run_id:path}/events", stream_events, methods=["GET"], tags=["runs"], summary="Follow a run",
        response_class=EventSourceResponse, responses={**FOLLOWING, **problems(404)},
    )  # fmt: skip


async def read_history(
    run_id: RunId, _: Reader, web: TheWeb, after: After = None, limit: Limit = 100
) -> models.History:
    """A run's journal, oldest first. Without `after` it begins with the current generation."""
    page = await web.client.history_page(run_id, after=after, limit=limit)
    last = str(page.found[-1].place) if page.found else after
    return models.History(events=[told(one) for one in page.found], last=last, more=page.more)


async def read_timeline(
    run_id: RunId, _: Reader, web: TheWeb,
    fold: Annotated[bool, Query(description="Tell many like tasks in one line.")] = False,
) -> dict[str, Any]:  # fmt: skip
    """What happened when, and how long it took, in the run's current generation."""
    events = await web.client.history(run_id)
    answered = {event.seq for event in events if isinstance(event, ev.TaskCompleted | ev.TaskFailed)}
    open_ids = [e.id for e in events if isinstance(e, ev.TaskScheduled) and e.seq not in answered]
    children = await web.client.states(open_ids[:CHILDREN_LIMIT])
    moments = timeline(events, {child.id: child.status.value for child in children})
    return {"moments": collapse(moments) if fold else moments, "spent": spent_in(events)}


async def read_logs(
    run_id: RunId, _: Reader, web: TheWeb, limit: Limit = 100,
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Query(description="Only this level and above.")
    ] = "DEBUG",
) -> dict[str, Any]:  # fmt: skip
    """What the run's code has logged, of all attempts: the latest lines, as far as they are kept, oldest first."""
    return {"lines": await web.client.logs(run_id, limit=limit, level=level)}


async def stream_events(
    run_id: RunId, _: Reader, web: TheWeb, after: After = None,
    last_event_id: LastEventId = None,
) -> Response:  # fmt: skip
    """Each journal event as it comes: `event` is its type, `id` its place, `data` the event as JSON.

    `event: end` says that the run has ended, and how. Goes on after a lost connection where `Last-Event-ID` says.
    """
    start = last_event_id or after
    page = await web.client.history_page(run_id, after=start, limit=1)
    if page.ended and not page.found and last_event_id:
        return Response(status_code=204)
    return event_stream(web, _stream(web.client, run_id, start))


async def _stream(client: AsyncClient, run_id: str, start: str | None) -> AsyncGenerator[ServerSentEvent]:
    yield greeting(run_id)
    try:
        async with aclosing(client.follow(run_id, after=start)) as events:
            async for one in events:
                event = told(one)
                yield ServerSentEvent(event.model_dump_json(), event=event.type, id=event.place)
        state = await client.state(run_id)
    except Agnt5Error:
        return  # the client connects again, and is told by a problem what is wrong
    yield ServerSentEvent(json.dumps({"id": run_id, "status": state.status}), event="end")


def told(one: Followed) -> models.JournalEvent:
    """A journal entry in the API's form. One that a newer release wrote is told as well."""
    data = codec.loads(one.entry)
    kind, at = data.pop("e"), data.pop("at")
    return models.JournalEvent(place=str(one.place), type=kind, at=at_ms(at), data=data)

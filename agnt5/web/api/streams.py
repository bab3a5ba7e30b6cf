"""What running handlers yield, as Server-Sent Events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from agnt5.client import AsyncClient
from agnt5.client.streams import NOWHERE, StreamReset
from agnt5.contracts.errors import Agnt5Error, RunFailedError
from agnt5.web.access import Reader
from agnt5.web.api.common import RunId, TheWeb, problems
from agnt5.web.api.sse import FOLLOWING, LastEventId, event_stream, greeting

After = Annotated[
    str | None, Query(description="Place of the last chunk that is known, as `2-17`.", max_length=40, examples=["2-17"])
]


def add_routes(api: APIRouter) -> None:
    """One way to read a stream."""
    api.add_api_route(
        "/runs/{run_id:path}/stream", stream_chunks, methods=["GET"], tags=["runs"], summary="Read a run's stream",
        response_class=EventSourceResponse, responses={**FOLLOWING, **problems(404)},
    )  # fmt: skip


async def stream_chunks(
    run_id: RunId, _: Reader, web: TheWeb, after: After = None,
    last_event_id: LastEventId = None,
) -> Response:  # fmt: skip
    """What the run's handler yields, as it comes: `event: chunk`, `id` its place, `data` the chunk as JSON.

    `event: reset` says that all chunks before it are void: the run was tried again. `event: end` says that the run has
    ended, and how. Goes on after a lost connection where `Last-Event-ID` says.
    """
    start = last_event_id or after
    page = await web.client.chunk_page(run_id, after=start, limit=1)
    if page.ended and not page.found and page.reset is None and last_event_id:
        return Response(status_code=204)
    return event_stream(web, _stream(web.client, run_id, start))


async def _stream(client: AsyncClient, run_id: str, start: str | None) -> AsyncGenerator[ServerSentEvent]:
    yield greeting(run_id)
    place = start or str(NOWHERE)
    try:
        try:
            async with aclosing(client.chunks(run_id, after=start)) as chunks:
                async for one in chunks:
                    if isinstance(one, StreamReset):
                        place = f"{one.claim}-0"
                        yield ServerSentEvent(json.dumps({"claim": one.claim}), event="reset", id=place)
                    else:
                        place = str(one.place)
                        yield ServerSentEvent(one.data.decode(), event="chunk", id=place)
        except RunFailedError:
            pass  # told with the end
        state = await client.state(run_id)
    except Agnt5Error:
        return  # the client connects again, and is told by a problem what is wrong
    end: dict[str, Any] = {"id": run_id, "status": state.status}
    if state.error is not None:
        end["error"] = {name: state.error.get(name, "") for name in ("type", "message")}
    yield ServerSentEvent(json.dumps(end), event="end", id=place)  # an id also where nothing was yielded

"""A run as AG-UI events: what its journal tells and what its handler yields, for front ends that speak AG-UI 1.0."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ag_ui.core import BaseEvent

from agnt5.client import AsyncClient
from agnt5.client.follow import Followed
from agnt5.client.streams import Chunk, ChunkPlace, StreamReset
from agnt5.contracts.errors import RunFailedError
from agnt5.integrations.agui_input import input_for
from agnt5.integrations.agui_story import Story
from agnt5.replay import events as ev

__all__ = ["Story", "events", "input_for"]

PAGE = 100
AHEAD = 100
"""Events that are read before they are taken."""


async def events(
    client: AsyncClient, run_id: str, *, thread_id: str = "", agui_run_id: str = ""
) -> AsyncGenerator[BaseEvent]:
    """A run's AG-UI events from its start, as they come, until it has ended; late readers get all of them.

    They carry `thread_id` and `agui_run_id`; left out, those of the input that the run was started with by AG-UI, else
    the run's own id. `Story` says what becomes of what. What was there before the reader came is told stream first,
    journal then. Raises `RunNotFoundError`, and `StoreUnavailableError` after an outage that lasts: the events so far
    are no full story then.
    """
    first = (await client.history_page(run_id, limit=1)).found[0].event
    assert isinstance(first, ev.RunStarted)
    asked = first.input if isinstance(first.input, dict) else {}
    story = Story(
        run_id,
        thread_id=thread_id or _text(asked, "thread_id") or run_id,
        agui_run_id=agui_run_id or _text(asked, "run_id") or run_id,
    )
    for event in story.began(first):
        yield event
    place: ChunkPlace | None = None
    full = True
    while full:
        page = await client.chunk_page(run_id, after=place, limit=PAGE)
        known: list[Chunk | StreamReset] = [*([page.reset] if page.reset else []), *page.found]
        for one in known:
            for event in _told(story, one):
                yield event
        place, full = page.next, len(page.found) == PAGE
    async with aclosing(_merged(client.chunks(run_id, after=place), client.follow(run_id))) as merged:
        async for found in merged:
            for event in _told(story, found):
                yield event
    for event in story.ended():
        yield event


def _told(story: Story, one: Chunk | StreamReset | Followed) -> list[BaseEvent]:
    match one:
        case Chunk():
            return story.chunk(one.value, str(one.place))
        case StreamReset():
            return story.reset(one.claim)
        case Followed():
            return story.journal(one.event, str(one.place))


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if found is None and len(value) == 1 and isinstance(only := next(iter(value.values())), dict):
        found = only.get(name)  # a handler with one parameter for all
    return found if isinstance(found, str) else ""


async def _merged(*sources: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """What several generators yield, as it comes; ends with the last of them."""
    queue: asyncio.Queue[tuple[Any, Exception | None, bool]] = asyncio.Queue(AHEAD)

    async def pump(source: AsyncGenerator[Any]) -> None:
        failed: Exception | None = None
        try:
            async with aclosing(source) as found:
                async for one in found:
                    await queue.put((one, None, False))
        except RunFailedError:
            pass  # the journal tells it
        except Exception as error:  # noqa: BLE001 - raised where it is read
            failed = error
        await queue.put((None, failed, True))

    pumps = [asyncio.create_task(pump(source)) for source in sources]
    try:
        left = len(pumps)
        while left:
            one, failed, is_end = await queue.get()
            if failed is not None:
                raise failed
            if is_end:
                left -= 1
            else:
                yield one
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.wait(pumps)

"""A run as AG-UI events: what its journal tells and what its handler yields, for front ends that speak AG-UI 1.0."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ag_ui.core import BaseEvent

from agnt5.client import AsyncClient
from agnt5.client.follow import Followed
from agnt5.client.streams import Chunk, StreamReset
from agnt5.integrations.agui_input import input_for
from agnt5.integrations.agui_story import Story
from agnt5.replay import events as ev

__all__ = ["Story", "events", "input_for"]


async def events(
    client: AsyncClient, run_id: str, *, thread_id: str = "", agui_run_id: str = ""
) -> AsyncGenerator[BaseEvent]:
    """A run's AG-UI events from its start, as they come, until it has ended; late readers get all of them.

    They carry `thread_id` and `agui_run_id`; left out, those of the input that the run was started with by AG-UI, else
    the run's own id. `Story` says what becomes of what. Journal and chunks are told in the order in which they
    happened, the same to each reader. Raises `RunNotFoundError`, and `StoreUnavailableError` after an outage that
    lasts: the events so far are no full story then.
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
    async with aclosing(client.follow_with_chunks(run_id)) as both:
        async for one in both:
            for event in _told(story, one):
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

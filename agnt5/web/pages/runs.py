"""The list of runs, one run's page, and what is done to a run by buttons."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import JSONResponse

from agnt5.client.runs import RunState
from agnt5.contracts.errors import InvalidInputError, RunEndedError
from agnt5.contracts.ids import entity_of
from agnt5.contracts.runs import RunStatus
from agnt5.replay import journal as journals
from agnt5.web.access import Reader, identity
from agnt5.web.identity import Identity
from agnt5.web.pages.approvals import asked_in
from agnt5.web.pages.listing import Counter, Filters, list_runs
from agnt5.web.pages.pages import Fault, InPages, Pages, text_of
from agnt5.web.pages.story import Story, raw_of, story_of
from agnt5.web.problems import Problem

EVENT_NAMES = " ".join([*journals.KINDS, "end"])
"""What the stream of a run's events calls them."""

LAST_LINES_S = 2.0

EXAMPLE = "orders.fulfil"

_NEEDED = {"signal": "signal", "cancel": "start", "retry": "start"}
_SAID = {"signal": "signalled", "cancel": "cancelling", "retry": "retried"}


def add_routes(router: APIRouter) -> None:
    """Add the routes."""
    router.add_api_route("/", runs_page, methods=["GET"])
    router.add_api_route("/runs", runs_page, methods=["GET"])
    router.add_api_route("/runs/{run_id}", run_page, methods=["GET"])
    router.add_api_route("/runs/{run_id}", act, methods=["POST"])
    router.add_api_route("/runs/{run_id}/raw/{what}", raw, methods=["GET"])


async def runs_page(
    request: Request, who: Reader, pages: InPages, status: str = "", handler: str = "",
    q: Annotated[str, Query(max_length=200)] = "", page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:  # fmt: skip
    """Counts by status, filters, and a page of the list."""
    if status and status not in set(RunStatus):
        raise Problem(422, "invalid-input", "There is no such status", f"One of {', '.join(RunStatus)} is needed.")
    client = pages.web.client
    wanted = Filters(status=status, handler=handler, text=q.strip())
    handlers = await client.handlers()
    return pages.show(
        request, "runs.html", who=who, here="runs", live=True, filters=wanted,
        page=await list_runs(client, wanted, page), counts=await _counter(request).counts(client),
        handlers=sorted(handlers), example=_example(handlers), api_example=_api_example(pages, request, handlers),
    )  # fmt: skip


def _counter(request: Request) -> Counter:
    state = request.app.state
    if not hasattr(state, "agnt5_counter"):
        state.agnt5_counter = Counter()
    found: Counter = state.agnt5_counter
    return found


def _example(handlers: dict[str, dict[str, Any]]) -> str:
    return next((name for name, about in sorted(handlers.items()) if about.get("kind") == "workflow"), EXAMPLE)


def _api_example(pages: Pages, request: Request, handlers: dict[str, dict[str, Any]]) -> str:
    scheme = "https" if pages.sessions.is_secure(request) else "http"
    url = f"{scheme}://{request.url.netloc}{pages.link(request, 'api', 'v1', 'runs')}"
    body = json.dumps({"handler": _example(handlers), "input": {"key": "value"}})
    return f"{url} -H 'Content-Type: application/json' -d '{body}'"


async def run_page(
    request: Request, who: Reader, pages: InPages, run_id: str,
    every: bool = False, journal: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
) -> Response:  # fmt: skip
    """One run: where it stands, what happened when, input, result, journal, and what can be done."""
    return await show_run(request, pages, who, run_id, every=every, journal=journal)


async def show_run(
    request: Request, pages: Pages, who: Identity, run_id: str, *, every: bool = False, journal: int | None = None,
    problem: Fault | None = None, form: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    """A run's page; after a form was refused with the reason and what had been typed."""
    client = pages.web.client
    story = await story_of(client, run_id, journal_page=journal, every=every)
    run = story.run
    return pages.show(
        request, "run.html", who=who, here="runs", problem=problem, story=story, run=run, every=every,
        approvals=await asked_in(client, who, run_id), may_read=True, form=form or {},
        entity=entity_of(run_id), can=_can(who, run), live=not run.status.ended or _ends(run),
        events="" if run.status.ended else _events(request, pages, story),
        event_names=EVENT_NAMES,
    )  # fmt: skip


def _ends(run: RunState) -> bool:
    """Whether it has ended just now: its last log lines may be on their way."""
    return run.ended_at is not None and (datetime.now(UTC) - run.ended_at).total_seconds() < LAST_LINES_S


def _events(request: Request, pages: Pages, story: Story) -> str:
    """Where the events are followed that this page does not have yet."""
    after = f"{story.run.generation}.{story.length - 1}"
    return pages.link(request, "api", "v1", "runs", story.run.id, "events", query={"after": after})


def _can(who: Identity, run: RunState) -> set[str]:
    """What this person may do to this run now."""
    now = set()
    if not run.status.ended:
        now = {"cancel"} | ({"signal"} if run.kind != "function" else set())
    elif run.status is RunStatus.FAILED and run.parent is None:
        now = {"retry"}
    return {act for act in now if who.may(_NEEDED[act])}


async def act(request: Request, who: Annotated[Identity, Depends(identity)], pages: InPages, run_id: str) -> Response:
    """A button of a run's page."""
    form = await pages.form(request)
    wanted = text_of(form, "act")
    scope = _NEEDED.get(wanted)
    if scope is None:
        raise Problem(422, "invalid-input", "The form is not valid", "It asks for nothing that this page can do.")
    if not who.may(scope):
        raise Problem(403, "forbidden", "Forbidden", f"{who.name} has not the scope {scope!r}.")
    given = {name: text_of(form, name) for name in ("name", "payload", "reason")}
    try:
        await _do(pages, run_id, wanted, given)
    except (InvalidInputError, RunEndedError) as error:
        if not who.may("read"):
            raise
        status, title = (409, "The run has ended") if isinstance(error, RunEndedError) else (422, "That is not valid")
        return await show_run(request, pages, who, run_id, problem=Fault(status, title, str(error)), form=given)
    return pages.go(request, "runs", run_id, said=_SAID[wanted])


async def _do(pages: Pages, run_id: str, wanted: str, given: dict[str, str]) -> None:
    client = pages.web.client
    match wanted:
        case "signal":
            await client.signal(run_id, given["name"].strip(), _payload(given["payload"]))
        case "cancel":
            await client.cancel(run_id, given["reason"].strip())
        case _:
            await client.retry(run_id)


def _payload(text: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f'payload: no valid JSON ({error}); text needs quotes: "like this"') from None


async def raw(who: Reader, pages: InPages, run_id: str, what: str) -> Response:
    """Input, result, error, journal or log lines of a run as JSON, whole."""
    del who
    client = pages.web.client
    if what == "logs":
        return JSONResponse([{**asdict(one), "at": one.at.isoformat()} for one in await client.logs(run_id)])
    if what == "journal":
        return JSONResponse([raw_of(event) for event in await client.history(run_id)])
    if what not in {"input", "result", "error"}:
        raise Problem(404, "not-found", "Not found", "There are input, result, error, journal and logs.")
    return JSONResponse(getattr(await client.state(run_id), what))

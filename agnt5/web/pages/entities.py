"""Entities: the list, and one entity's state, lock and calls."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from agnt5.client.runs import RunState
from agnt5.contracts.errors import EntityBusyError, InvalidInputError
from agnt5.contracts.ids import check_name
from agnt5.web.access import Admin, Reader
from agnt5.web.identity import Identity
from agnt5.web.pages.pages import Fault, InPages, Pages
from agnt5.web.problems import Problem

LISTED = 200


def add_routes(router: APIRouter) -> None:
    """Add the routes."""
    router.add_api_route("/entities", entities_page, methods=["GET"])
    router.add_api_route("/entities/{sort}/{key}", entity_page, methods=["GET"])
    router.add_api_route("/entities/{sort}/{key}", delete, methods=["POST"])
    router.add_api_route("/entities/{sort}/{key}/raw", raw, methods=["GET"])


async def entities_page(request: Request, who: Reader, pages: InPages, type: str = "") -> Response:  # noqa: A002
    """Those that changed latest, of one type or of all."""
    client = pages.web.client
    if type:
        try:
            check_name(type, "entity type")
        except InvalidInputError as error:
            raise Problem(422, "invalid-input", "That is no entity type", str(error)) from None
    found = await client.entities(type or None, limit=LISTED)
    handlers = await client.handlers()
    announced = {name.partition(".")[0] for name, about in handlers.items() if about.get("kind") == "entity"}
    types = sorted(announced | {one.type for one in found} | ({type} if type else set()))
    return pages.show(
        request, "entities.html", who=who, here="entities", live=True, found=found, types=types, chosen=type,
        listed=LISTED,
    )  # fmt: skip


async def entity_page(request: Request, who: Reader, pages: InPages, sort: str, key: str) -> Response:
    """One entity."""
    return await _show(request, pages, who, sort, key)


async def _show(
    request: Request, pages: Pages, who: Identity, sort: str, key: str, problem: Fault | None = None
) -> Response:
    client = pages.web.client
    entity = await client.entity_state(sort, key)
    calls = [entity.holder, *entity.waiting, *entity.recent]
    states = {run.id: run for run in await client.states([call for call in calls if call])}
    return pages.show(
        request, "entity.html", who=who, here="entities", live=True, problem=problem, entity=entity,
        holder=states.get(entity.holder or ""), waiting=_known(entity.waiting, states),
        recent=_known(entity.recent, states), can_delete=who.may("admin"),
    )  # fmt: skip


def _known(run_ids: list[str], states: dict[str, RunState]) -> list[RunState]:
    """Calls whose records are still there."""
    return [states[run_id] for run_id in run_ids if run_id in states]


async def delete(request: Request, who: Admin, pages: InPages, sort: str, key: str) -> Response:
    """Delete an entity's state, when the form says so twice."""
    form = await pages.form(request)
    if form.get("sure") != "yes":
        fault = Fault(422, "Nothing was deleted", "Tick the box to say that you are sure.")
        return await _show(request, pages, who, sort, key, fault)
    try:
        await pages.web.client.delete_entity(sort, key)
    except EntityBusyError as error:
        return await _show(request, pages, who, sort, key, Fault(409, "The entity is busy", str(error)))
    return pages.go(request, "entities", said="deleted")


async def raw(who: Reader, pages: InPages, sort: str, key: str) -> Response:
    """The state as JSON, whole."""
    del who
    return JSONResponse((await pages.web.client.entity_state(sort, key)).state)

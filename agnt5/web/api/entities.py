"""Entities: their state, and calls of their methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from agnt5.client.entities import EntityState
from agnt5.client.runs import RunState
from agnt5.web.access import Admin, Reader, Starter
from agnt5.web.api import models
from agnt5.web.api.common import IdempotencyKey, Limit, TheWeb, Wait, problems, run_url
from agnt5.web.api.runs import begin_with_key, outcome

EntityType = Annotated[str, Path(description="The entity's type.", max_length=200, examples=["ChatAgent"])]
EntityKey = Annotated[str, Path(description="The entity's key, percent-encoded.", max_length=2000, min_length=1)]
TypeFilter = Annotated[str | None, Query(alias="type", description="Only entities of this type.", max_length=200)]
Method = Annotated[str, Path(description="A method of the type.", max_length=200, examples=["send_message"])]


@dataclass(frozen=True)
class _Entity:
    type: EntityType
    key: EntityKey


@dataclass(frozen=True)
class _Method(_Entity):
    method: Method


TheEntity = Annotated[_Entity, Depends()]
TheMethod = Annotated[_Method, Depends()]


def add_routes(api: APIRouter) -> None:
    """Reading, calling, deleting."""
    add = api.add_api_route
    add(
        "/entities", list_entities, methods=["GET"], tags=["entities"], summary="List entities",
        response_model=models.Entities, responses=problems(),
    )  # fmt: skip
    add(
        "/entities/{type}/{key:path}/{method}", call_method, methods=["POST"], tags=["entities"],
        summary="Call a method", response_model=models.Result, responses={
            200: {"description": "The call has ended: with a result, or with an error."},
            202: {"model": models.Result, "description": "It goes on; `Location` is its run."},
            **problems(400, 404, 409, 413),
        },
    )  # fmt: skip
    add(
        "/entities/{type}/{key:path}", read_entity, methods=["GET"], tags=["entities"], summary="Read an entity",
        response_model=models.Entity, responses=problems(404),
    )  # fmt: skip
    add(
        "/entities/{type}/{key:path}", delete_entity, methods=["DELETE"], tags=["entities"],
        summary="Delete an entity", status_code=204, response_class=Response, responses=problems(404, 409),
    )  # fmt: skip


async def list_entities(_: Reader, web: TheWeb, entity_type: TypeFilter = None, limit: Limit = 50) -> dict[str, Any]:
    """Entities, newest change first."""
    return {"entities": await web.client.entities(entity_type, limit=limit)}


async def read_entity(entity: TheEntity, _: Reader, web: TheWeb) -> EntityState:
    """An entity's state, who writes it now and who waits."""
    return await web.client.entity_state(entity.type, entity.key)


async def delete_entity(entity: TheEntity, _: Admin, web: TheWeb) -> Response:
    """Delete an entity's state. Refused while a method of it runs."""
    await web.client.delete_entity(entity.type, entity.key)
    return Response(status_code=204)


async def call_method(
    called: TheMethod, request: Request, response: Response, who: Starter, web: TheWeb,
    body: models.Call | None = None, wait_s: Wait = 30, idempotency_key: IdempotencyKey = None,
) -> RunState:  # fmt: skip
    """Call a method and wait for its result up to `wait_s` seconds. The call is a run: it goes on after that.

    Writes of one key happen one after the other, in order of arrival. With an `Idempotency-Key`, a repetition finds
    the call that is there.
    """
    asked = models.StartRun(
        handler=f"{called.type}.{called.method}", input=body.input if body else None, key=called.key
    )
    run = await begin_with_key(web, request, who, asked, idempotency_key)
    response.headers["Location"] = run_url(request, run.id)
    return await outcome(web, run.id, response, wait_s)

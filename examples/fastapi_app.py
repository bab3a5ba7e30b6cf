"""A shop on FastAPI: routes of its own that start workflows, and agnt5's whole HTTP API beside them.

    uvicorn examples.fastapi_app:app

Redis is where AGNT5_REDIS_URL says. The worker of `orders.fulfil` is another process: celery -A workers worker
"""

from contextlib import asynccontextmanager
from secrets import compare_digest
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Request
from pydantic import BaseModel

from agnt5 import AsyncClient, RunNotFoundError
from agnt5.web import Identity, api_router

client = AsyncClient()  # connects on first use


@asynccontextmanager
async def lifespan(_: FastAPI):
    yield
    await client.close()


async def who(request: Request) -> Identity | None:
    """Who uses agnt5's API. Here: the support team, by a header; in a real shop: your own users and sessions."""
    if compare_digest(request.headers.get("x-support-key", ""), "change me"):
        return Identity("support", roles=frozenset({"support"}), scopes=frozenset({"read", "signal", "decide"}))
    return None


app = FastAPI(lifespan=lifespan)
app.include_router(api_router(client, authenticate=who))  # /api/v1/runs, ...


class Order(BaseModel):
    items: list[dict]


@app.put("/orders/{order_id}", status_code=202)
async def place(order_id: str, order: Order, x_user: Annotated[str, Header()] = "") -> dict:
    """The order's number is the run's id: placed twice, it is one order."""
    given = {"order_id": order_id, "items": order.items}
    run = await client.start("orders.fulfil", given, id=f"order-{order_id}", requester=x_user)
    return {"run": run.id}


@app.get("/orders/{order_id}")
async def show(order_id: str) -> dict:
    try:
        state = await client.state(f"order-{order_id}")
    except RunNotFoundError:
        raise HTTPException(404, "no such order") from None
    return {"status": state.status, "result": state.result, "error": state.error and state.error["message"]}

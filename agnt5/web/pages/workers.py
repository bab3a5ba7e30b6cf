"""Workers, queues, beats; and what the doctor finds, when asked."""

from __future__ import annotations

import os

from fastapi import APIRouter, Request, Response

from agnt5.client import AsyncClient
from agnt5.client.doctor import examine_with
from agnt5.client.findings import Finding
from agnt5.contracts.errors import Agnt5Error
from agnt5.store import keys
from agnt5.web.access import Reader
from agnt5.web.identity import Identity
from agnt5.web.pages.pages import InPages, Pages

FLOWER = "AGNT5_FLOWER_URL"
SETTLE_S = 1.0
"""What looks wrong must stay so for this long to be told."""


def add_routes(router: APIRouter) -> None:
    """Add the routes."""
    router.add_api_route("/workers", workers_page, methods=["GET"])
    router.add_api_route("/workers", check, methods=["POST"])


async def workers_page(request: Request, who: Reader, pages: InPages) -> Response:
    """The fleet."""
    return await _page(request, who, pages, findings=None, live=True)


async def check(request: Request, who: Reader, pages: InPages) -> Response:
    """The fleet, and what the doctor finds in the whole store. It only reads, but it reads all: hence by a form."""
    await pages.form(request)
    findings = await examine_with(pages.web.client, settle_s=SETTLE_S)
    return await _page(request, who, pages, findings=findings, live=False)


async def _page(
    request: Request, who: Identity, pages: Pages, *, findings: list[Finding] | None, live: bool
) -> Response:
    client = pages.web.client
    announced = await client.handlers()
    return pages.show(
        request, "workers.html", who=who, here="workers", live=live, fleet=await client.fleet(),
        beats=await _beats(client), flower=_flower(), findings=findings,
        handlers=sorted((name, str(about.get("kind", ""))) for name, about in announced.items()),
    )  # fmt: skip


async def _beats(client: AsyncClient) -> int | None:
    """Beats that listen, None where the server does not tell."""
    store, _ = await client.opened()
    try:
        reply = await store.link.call("PUBSUB", "NUMSUB", keys.BEAT_CHANNEL)
    except Agnt5Error:
        return None
    return int(reply[1])


def _flower() -> str:
    """Where Flower is: an http address, or nothing."""
    url = os.environ.get(FLOWER, "").strip()
    return url if url.startswith(("http://", "https://")) else ""

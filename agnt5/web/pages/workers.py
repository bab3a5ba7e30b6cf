"""Workers, queues, beats; and what the doctor finds, when asked."""

from __future__ import annotations

import os

from fastapi import APIRouter, Request, Response

from agnt5.client.doctor import examine_with
from agnt5.web.access import Reader
from agnt5.web.pages.fleet import fleet_of
from agnt5.web.pages.pages import InPages

FLOWER = "AGNT5_FLOWER_URL"
SETTLE_S = 1.0
"""What looks wrong must stay so for this long to be told."""


def add_routes(router: APIRouter) -> None:
    """Add the routes."""
    router.add_api_route("/workers", workers_page, methods=["GET"])
    router.add_api_route("/workers", check, methods=["POST"])


async def workers_page(request: Request, who: Reader, pages: InPages) -> Response:
    """The fleet."""
    return pages.show(
        request, "workers.html", who=who, here="workers", live=True, fleet=await fleet_of(pages.web.client),
        flower=_flower(), findings=None,
    )  # fmt: skip


async def check(request: Request, who: Reader, pages: InPages) -> Response:
    """The fleet, and what the doctor finds in the whole store. It only reads, but it reads all: hence by a form."""
    await pages.form(request)
    findings = await examine_with(pages.web.client, settle_s=SETTLE_S)
    return pages.show(
        request, "workers.html", who=who, here="workers", fleet=await fleet_of(pages.web.client), flower=_flower(),
        findings=findings,
    )  # fmt: skip


def _flower() -> str:
    """Where Flower is: an http address, or nothing."""
    url = os.environ.get(FLOWER, "").strip()
    return url if url.startswith(("http://", "https://")) else ""

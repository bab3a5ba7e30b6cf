"""The page of a signed decision link: works without a login, for the one person that the link names.

Looking changes nothing, because mail scanners follow links; only the form decides.
"""

from __future__ import annotations

from typing import NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from agnt5.client.approvals import ApprovalState
from agnt5.contracts.errors import ConfigurationError
from agnt5.links import DecisionLink, DecisionLinks, LinkError
from agnt5.web.pages.approvals import Asked, request_of, sent_of, take
from agnt5.web.pages.forms import fields_of
from agnt5.web.pages.pages import Fault, InPages, Pages
from agnt5.web.problems import Problem


class _Opened(NamedTuple):
    link: DecisionLink
    state: ApprovalState


def add_routes(router: APIRouter) -> None:
    """Add the routes."""
    router.add_api_route("/decide/{token}", show, methods=["GET"])
    router.add_api_route("/decide/{token}", decide, methods=["POST"])


async def show(request: Request, pages: InPages, token: str) -> Response:
    """What is asked."""
    return _page(request, pages, token, await _open(pages, token))


async def decide(request: Request, pages: InPages, token: str) -> Response:
    """Decide, as the person that the link names."""
    form = await pages.form(request, anonymous=True)
    opened = await _open(pages, token)
    taken = await take(pages.web.client, opened.state, form, approver=opened.link.approver, roles=opened.link.roles)
    if isinstance(taken, Fault):
        return _page(request, pages, token, await _open(pages, token), problem=taken, form=form)
    said = taken.status if taken.status in {"approved", "rejected"} else "voted"
    return pages.go(request, "decide", token, said=said)


async def _open(pages: Pages, token: str) -> _Opened:
    try:
        link = DecisionLinks(pages.web.settings.link_secret).read(token)
    except ConfigurationError:
        raise Problem(404, "no-links", "Links are not served here", "AGNT5_LINK_SECRET is not set.") from None
    except LinkError as error:
        raise Problem(404, "link", "The link is not valid", f"{error}.".capitalize()) from None
    return _Opened(link, await request_of(pages.web.client, link.run_id, link.ref))


def _page(
    request: Request, pages: Pages, token: str, opened: _Opened, *, problem: Fault | None = None,
    form: FormData | None = None,
) -> Response:  # fmt: skip
    link, state = opened
    sent = None if form is None else sent_of(form)
    voted = any(vote.approver == link.approver for vote in state.votes)
    asked = Asked(
        state=state, id="ask-0", fields=fields_of(state.form, id="ask-0-f", given=sent),
        can=state.status == "open" and not voted, why_not="You have voted." if voted else "It is decided.",
        comment="" if sent is None else sent.get("comment", ""),
    )  # fmt: skip
    return pages.show(request, "decide.html", who=None, problem=problem, asked=asked, approver=link.approver,
                      token=token, expires_at=link.expires_at, may_read=False)  # fmt: skip

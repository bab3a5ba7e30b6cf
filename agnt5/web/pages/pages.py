"""`Pages`: what all pages of one app share - templates, links, sessions, how a page leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from agnt5.web.access import has_other_origin
from agnt5.web.identity import Identity
from agnt5.web.pages import filters
from agnt5.web.pages.assets import FAVICON, asset
from agnt5.web.pages.sessions import FIELD, FORM_COOKIE, SESSION_COOKIE, Sessions
from agnt5.web.problems import Problem
from agnt5.web.wiring import Web

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers send forms with the origin "null"
    "Cache-Control": "no-store",
}
NAV = (
    ("runs", "", "Runs", "read"), ("approvals", "approvals", "Approvals", "decide"),
    ("entities", "entities", "Entities", "read"), ("workers", "workers", "Workers", "read"),
)  # fmt: skip
SAID = {
    "signalled": "The signal was sent.",
    "cancelling": "The run was asked to end.",
    "retried": "The run was opened again.",
    "approved": "Approved. The decision is in the run's history.",
    "rejected": "Rejected. The decision is in the run's history.",
    "voted": "Your vote was counted; more are needed.",
    "deleted": "The entity was deleted.",
    "logged-out": "You are logged out.",
}
"""What a page says after a form was taken, by the `said` of its address: never text of the address itself."""

_SAFE = "~:@!$,"
_MOST_FIELDS = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a form was refused, told on the page that it came from."""

    status: int
    title: str
    detail: str


class Pages:
    """The pages of one app."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.sessions = Sessions(web)
        self._templates = Environment(
            loader=PackageLoader("agnt5.web", "templates"), autoescape=select_autoescape(default=True),
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters.update(filters.ALL)

    # ---- links

    def base(self, request: Request) -> str:
        """Where the pages begin, without a slash at the end."""
        return f"{request.scope.get('root_path', '')}{self.web.prefix}"

    def link(self, request: Request, *parts: str, query: dict[str, Any] | None = None) -> str:
        """The address of a page; each part is one segment, whatever characters it has."""
        path = "/".join(quote(part, safe=_SAFE) for part in parts)
        asked = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        return f"{self.base(request)}/{path}" + (f"?{urlencode(asked)}" if asked else "")

    def go(self, request: Request, *parts: str, **query: Any) -> Response:
        """Send the browser to another page, after a form was taken."""
        return RedirectResponse(self.link(request, *parts, query=query), 303, HEADERS)

    # ---- pages

    def show(
        self, request: Request, template: str, *, who: Identity | None, here: str = "", status: int = 200,
        problem: Fault | None = None, **context: Any,
    ) -> Response:  # fmt: skip
        """A page. `who` is the person that sees it, None for nobody in particular."""
        cookies: dict[str, str] = {}
        link = partial(self.link, request)

        def csrf_field() -> Markup:
            token = self.sessions.form_token(request, cookies, anonymous=who is None)
            return Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, token)

        given = {
            "person": who,
            "may": who.may if who else lambda _: False,
            "nav": [(name, path, title) for name, path, title, scope in NAV if who and _sees(who, scope)],
            "here": here,
            "link": link,
            "static": lambda name: f"{link('static', name)}?v={asset(name).version}",
            "favicon": FAVICON,
            "csrf_field": csrf_field,
            "can_log_out": SESSION_COOKIE in request.cookies,
            "said": SAID.get(request.query_params.get("said", ""), ""),
            "problem": problem,
            "live": False,
            "events": "",
            "event_names": "",
        }
        text = self._templates.get_template(template).render({**given, **context})
        response = HTMLResponse(text, problem.status if problem else status, HEADERS)
        if value := cookies.get(FORM_COOKIE):
            self.sessions.set_form_cookie(request, response, value)
        return response

    # ---- forms

    async def form(self, request: Request, *, anonymous: bool = False) -> FormData:
        """A form that a page of this browser's session sent; anything else is a 403 problem.

        `anonymous`: one of a page that was shown to nobody in particular.
        """
        if has_other_origin(request):
            raise Problem(403, "cross-site", "Refused", "Another site made the browser send this form.")
        form = await request.form(max_fields=_MOST_FIELDS, max_files=0)
        self.sessions.check_form(request, form.get(FIELD), anonymous=anonymous)
        return form


def _sees(who: Identity, scope: str) -> bool:
    return who.may(scope) or (scope == "decide" and who.may("read"))


def text_of(form: FormData, name: str) -> str:
    """A form's field as text; "" when it is not there."""
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def pages_of(request: Request) -> Pages:
    """The pages that a request came to."""
    found = request.app.state.agnt5_pages
    assert isinstance(found, Pages)
    return found


InPages = Annotated[Pages, Depends(pages_of)]

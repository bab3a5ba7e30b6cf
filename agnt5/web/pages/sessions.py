"""The session cookie of people who logged in with a token, and the form tokens that are bound to it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Literal

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from agnt5.web.identity import Identity
from agnt5.web.problems import Problem
from agnt5.web.tokens import Token, find
from agnt5.web.wiring import Web

SESSION_COOKIE = "agnt5_session"
FORM_COOKIE = "agnt5_form"
SESSION_S = 12 * 3600
"""A session ends so long after its login."""

FIELD = "csrf"


class Sessions:
    """Makes and reads the cookies of one app. Without AGNT5_LINK_SECRET its sessions end with this process."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._secret = (web.settings.link_secret or secrets.token_hex(32)).encode()
        self._signer = URLSafeTimedSerializer(self._secret, salt="agnt5.session")

    # ---- who

    async def identity(self, request: Request) -> Identity | None:
        """Who the session cookie stands for: None without one, past its time, or when its token is gone."""
        try:
            content = self._signer.loads(request.cookies.get(SESSION_COOKIE, ""), max_age=SESSION_S)
            key = str(content["token"])
        except (BadData, KeyError, TypeError):
            return None
        token = next((one for one in self._web.tokens if hmac.compare_digest(self._key(one), key)), None)
        return None if token is None else token.identity

    def log_in(self, request: Request, response: Response, secret: str) -> bool:
        """Set the session cookie if `secret` is a token; whether it is one."""
        token = find(self._web.tokens, secret.strip())
        if token is None:
            return False
        value = self._signer.dumps({"token": self._key(token), "nonce": secrets.token_hex(8)})
        assert isinstance(value, str)
        self._set(request, response, SESSION_COOKIE, value, SESSION_S)
        return True

    def log_out(self, request: Request, response: Response) -> None:
        """Remove the session cookie."""
        response.delete_cookie(SESSION_COOKIE, path=self._path(request))

    def _key(self, token: Token) -> str:
        """Names a token without telling it, or its hash, to who reads the cookie."""
        return hmac.new(self._secret, f"session:{token.sha256}".encode(), hashlib.sha256).hexdigest()[:32]

    # ---- forms

    def form_token(self, request: Request, response_cookies: dict[str, str], *, anonymous: bool) -> str:
        """What forms on a page bear. A browser without the form cookie gets one, in `response_cookies`.

        `anonymous`: the form does not ask who sends it. It is then not bound to the session, whose cookie a browser
        keeps back when a link in a mail leads to the page, and sends with the form.
        """
        key = request.cookies.get(FORM_COOKIE) or response_cookies.get(FORM_COOKIE)
        if not key:
            key = response_cookies[FORM_COOKIE] = secrets.token_urlsafe(24)
        return self._form_token(request, key, anonymous=anonymous)

    def check_form(self, request: Request, given: object, *, anonymous: bool) -> None:
        """Refuse a form that did not come from a page of this browser's session with a 403 problem."""
        key = request.cookies.get(FORM_COOKIE, "")
        right = self._form_token(request, key, anonymous=anonymous)
        if not key or not isinstance(given, str) or not hmac.compare_digest(right.encode(), given.encode()):
            raise Problem(
                403, "form-token", "The form is too old",
                "It was not made in this session. Go back, reload the page and send it again.",
            )  # fmt: skip

    def set_form_cookie(self, request: Request, response: Response, value: str) -> None:
        """For as long as the browser runs. Lax, because links on other sites lead to forms and must not renew it."""
        self._set(request, response, FORM_COOKIE, value, None, "lax")

    def _form_token(self, request: Request, key: str, *, anonymous: bool) -> str:
        bound = "anonymous" if anonymous else f"session:{request.cookies.get(SESSION_COOKIE, '')}"
        return hmac.new(self._secret, f"form:{key}:{bound}".encode(), hashlib.sha256).hexdigest()

    # ---- cookies

    def _set(
        self, request: Request, response: Response, name: str, value: str, age_s: int | None,
        same_site: Literal["strict", "lax"] = "strict",
    ) -> None:  # fmt: skip
        response.set_cookie(
            name, value, max_age=age_s, path=self._path(request), httponly=True, samesite=same_site,
            secure=self.is_secure(request),
        )  # fmt: skip

    def is_secure(self, request: Request) -> bool:
        """Whether the browser speaks https with us, or with the proxy before us."""
        return request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"

    def _path(self, request: Request) -> str:
        return f"{request.scope.get('root_path', '')}{self._web.prefix}/"

"""Signed links with which one named person decides one approval, without an account.

Whoever has a link decides as the person that it names: send it to nobody else. It is good for one request only, and
once: a person votes once, and a decided approval takes no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from agnt5.contracts.approvals import check_text, check_texts
from agnt5.contracts.clock import at_ms, now_ms
from agnt5.contracts.errors import Agnt5Error, ConfigurationError, InvalidInputError

_SALT = "agnt5.decision.1"


class LinkError(Agnt5Error):
    """A link that was not issued here, was changed, or is too old. Nothing was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionLink:
    """What a link says: this person, with these roles, may decide the request `ref` of a run until then."""

    run_id: str
    name: str
    ref: str
    approver: str
    roles: tuple[str, ...]
    expires_at: datetime


class DecisionLinks:
    """Makes and reads links. All workers and web servers need the same secret (AGNT5_LINK_SECRET, `link_secret`).

    Raises `ConfigurationError` where there is none.
    """

    def __init__(self, secret: str) -> None:
        if not secret:
            raise ConfigurationError(
                "links to decide approvals are signed, and there is no secret to do so: set AGNT5_LINK_SECRET"
                " (link_secret) to one long random text, the same for all workers and web servers"
            )
        self._signer = URLSafeSerializer(
            secret, salt=_SALT, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
        )

    def __repr__(self) -> str:
        return "<DecisionLinks>"

    def make(
        self, run_id: str, name: str, ref: str, *, approver: str, roles: Iterable[str] = (), expires_at: datetime
    ) -> str:
        """The token of a link, safe in a URL. `roles` are those that the issuer knows the approver to have.

        Raises `InvalidInputError` for an approver or role of the wrong form, or a time without a time zone.
        """
        if expires_at.tzinfo is None:
            raise InvalidInputError(f"expires_at: expected a time with a time zone, found {expires_at!r}")
        said = {
            "run": run_id,
            "name": name,
            "ref": ref,
            "as": check_text(approver, "approver", "a person's name"),
            "roles": check_texts(roles, "roles", "the name of a role"),
            "until": int(expires_at.timestamp() * 1000),
        }
        return str(self._signer.dumps(said))

    def read(self, token: str, *, now: datetime | None = None) -> DecisionLink:
        """What a token says. Raises `LinkError` that says whether it is forged, broken, or past its time."""
        try:
            said: Any = self._signer.loads(token)
            link = DecisionLink(
                run_id=said["run"],
                name=said["name"],
                ref=said["ref"],
                approver=said["as"],
                roles=tuple(said["roles"]),
                expires_at=at_ms(said["until"]),
            )
        except (BadData, KeyError, TypeError, ValueError):
            raise LinkError("this link is not valid: it was not issued here, or it is not complete") from None
        if link.expires_at <= (now or at_ms(now_ms())).astimezone(UTC):
            raise LinkError(f"this link was valid until {link.expires_at:%Y-%m-%d %H:%M} UTC")
        return link

"""Who makes a request, and what that one may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from agnt5.contracts.errors import ConfigurationError

Scope = Literal["read", "start", "signal", "decide", "admin"]

SCOPES: frozenset[str] = frozenset(get_args(Scope))
"""`read`: see runs, entities, workers. `start`: start, cancel and retry runs, call entities. `signal`: send signals.
`decide`: see and decide approvals. `admin`: all of that, and deleting entities."""

ANY_ROLE = "*"
"""Held only by who is alone on this machine with an API without tokens."""

LOCAL_NAME = "local"


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or program, as its credential says: never as a request's body says.

    `local`: nobody logged in, because no tokens are set and the request comes from this very machine. That one may
    do all and holds every role.
    """

    name: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    local: bool = False

    def may(self, scope: str) -> bool:
        """Whether a scope is granted; `admin` grants all."""
        return scope in self.scopes or "admin" in self.scopes

    def holds(self, role: str) -> bool:
        """Whether a role is held."""
        return role in self.roles or ANY_ROLE in self.roles

    def roles_for(self, required: Iterable[str]) -> list[str]:
        """The roles to decide with where these are required: one's own, and for the local identity those."""
        return sorted(set(required) if ANY_ROLE in self.roles else self.roles)

    @property
    def requester(self) -> str:
        """The name that a run is started under. Empty for the local identity: it stands for nobody in particular, so
        that who starts a run on a developer's machine may also approve it there.
        """
        return "" if self.local else self.name


def local_identity() -> Identity:
    """Who uses an API without tokens from its own machine."""
    return Identity(LOCAL_NAME, frozenset({ANY_ROLE}), frozenset({"admin"}), local=True)


def checked_scopes(scopes: Iterable[str], where: str) -> frozenset[str]:
    """Scopes as a set. Raises `ConfigurationError` for one that does not exist."""
    found = frozenset(scopes)
    if unknown := sorted(found - SCOPES):
        raise ConfigurationError(f"{where}: no scope {unknown[0]!r}; there are {', '.join(sorted(SCOPES))}")
    return found

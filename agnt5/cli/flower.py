"""Flower beside `agnt5 dev`: where it is, who may look, and how it is started."""

from __future__ import annotations

import os
import secrets
from importlib.util import find_spec

from agnt5.cli.embedded import default_port, is_taken
from agnt5.cli.processes import flower_command
from agnt5.contracts.errors import ConfigurationError

PORT = 5555
USER = "agnt5"
AUTH = "FLOWER_BASIC_AUTH"
COLUMNS = "name,uuid,state,kwargs,result,received,runtime,retries,worker"
"""Of the list of tasks; Flower's own are fewer and leave out what a run was asked for."""


class Flower:
    """One Flower of this machine, with a password of its own.

    Flower ends runs and workers on demand, and without a password it refuses to. A page of another site that sends
    a browser to this port must not be able to, so the password is a fresh one unless FLOWER_BASIC_AUTH has one.
    Raises `ConfigurationError` when Flower is not installed or the port that was asked for is taken.
    """

    def __init__(self, app: str, port: int | None) -> None:
        if find_spec("flower") is None:
            raise ConfigurationError("flower is not installed; pip install 'agnt5-celery[flower]'")
        if port is not None and is_taken(port):
            raise ConfigurationError(f"port {port} is in use; choose another with --flower-port, or leave it out")
        self._port = port or default_port(PORT)
        self._given = os.environ.get(AUTH, "")
        self._password = secrets.token_urlsafe(9)
        self.command = flower_command(app, self._port)

    @property
    def env(self) -> dict[str, str]:
        """What its process needs to know."""
        return {
            AUTH: self._given or f"{USER}:{self._password}",
            "FLOWER_TASKS_COLUMNS": os.environ.get("FLOWER_TASKS_COLUMNS", "") or COLUMNS,
        }

    @property
    def address(self) -> str:
        """Where it is, and how to log in."""
        who = f"as {AUTH} says" if self._given else f"as {USER} with password {self._password}"
        return f"http://127.0.0.1:{self._port} (log in {who})"

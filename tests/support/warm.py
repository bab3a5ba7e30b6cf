"""The command line in processes of their own that are forked from a warm one, which spares each its imports.

`python -m agnt5.cli` takes most of a second to import what a command needs, and a hundred commands are tested. What a
forked process does from there on is the same: its own arguments, folder, environment, input and exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from support.leaks import LEAKS

TIMEOUT_S = 60

COMMAND_NEEDS = [
    "agnt5.cli.main", "agnt5.cli.approvals", "agnt5.cli.commands", "agnt5.cli.config", "agnt5.cli.doctor",
    "agnt5.cli.entities", "agnt5.cli.logs", "agnt5.cli.output", "agnt5.cli.show", "agnt5.client", "agnt5.client.sync",
    "rich.console", "rich.table",
]  # fmt: skip


class WarmCommands:
    """A process that forks one for each command. Use it as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.warm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])},
        )  # fmt: skip

    def run(self, words: list[str], *, cwd: Path, env: dict[str, str], stdin: str = "") -> tuple[int, str, str]:
        """Exit code, output and errors of `agnt5 <words>`."""
        print(
            json.dumps({"words": words, "cwd": str(cwd), "env": env, "stdin": stdin}),
            file=self._process.stdin,
            flush=True,
        )
        answer = self._process.stdout.readline()
        assert answer, "the process that forks commands has ended"
        code, out, err = json.loads(answer)
        LEAKS.search(f"what `agnt5 {' '.join(words)}` wrote", out + err)
        return code, out, err

    def close(self) -> None:
        """End the warm process."""
        self._process.stdin.close()
        self._process.wait(TIMEOUT_S)


def serve() -> None:
    """Fork a command for each line of input, and print how it ended."""
    for name in COMMAND_NEEDS:
        import_module(name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_forked(json.loads(line))) + "\n")
        sys.stdout.flush()


def _forked(asked: dict[str, Any]) -> list[Any]:
    out, err, given = (os.memfd_create(name) for name in ("out", "err", "in"))
    os.write(given, asked["stdin"].encode())
    os.lseek(given, 0, os.SEEK_SET)
    if (pid := os.fork()) == 0:
        _become(asked, given, out, err)
    _, status = os.waitpid(pid, 0)
    texts = []
    for fd in (out, err):
        os.lseek(fd, 0, os.SEEK_SET)
        with os.fdopen(fd, "rb") as file:
            texts.append(file.read().decode(errors="replace"))
    os.close(given)
    return [os.waitstatus_to_exitcode(status), *texts]


def _become(asked: dict[str, Any], given: int, out: int, err: int) -> None:
    code = 70
    try:
        for number, fd in enumerate((given, out, err)):
            os.dup2(fd, number)
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        sys.path.insert(0, asked["cwd"])
        sys.argv = ["agnt5", *asked["words"]]
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        sys.modules["agnt5.cli.main"].app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()

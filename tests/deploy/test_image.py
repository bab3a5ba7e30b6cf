"""The Dockerfile and what it installs, as far as that can be seen without Docker."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from compose_kit import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCKS = {"requirements.lock": "image", "requirements-build.lock": ""}
PINNED = re.compile(r"^(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>[^ ;\\]+)(?: ; [^\\]+)? \\\n", re.MULTILINE)
"""`name==version`, perhaps with a marker; its hashes follow."""


def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with what follows them, lines joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def final() -> list[tuple[str, str]]:
    """The steps of the stage that becomes the image."""
    found = steps()
    return found[max(at for at, (word, _) in enumerate(found) if word == "FROM") :]


def pins(lock: str) -> dict[str, str]:
    """Versions by name."""
    return {found["name"]: found["version"] for found in PINNED.finditer((ROOT / lock).read_text())}


def wanted(extra: str) -> list[Requirement]:
    """What an extra needs directly, with the project's own dependencies; extras of ours are followed."""
    if not extra:
        return [Requirement(text) for text in PROJECT["build-system"]["requires"]]
    extras = PROJECT["project"]["optional-dependencies"]
    found, todo = [Requirement(text) for text in PROJECT["project"]["dependencies"]], [extra]
    while todo:
        for requirement in map(Requirement, extras[todo.pop()]):
            if requirement.name == PROJECT["project"]["name"]:
                todo += requirement.extras
            else:
                found.append(requirement)
    return found


def test_the_dockerfile_has_nothing_that_hadolint_would_change():
    linter = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert linter, "hadolint comes with the extra dev: make test installs it"
    assert ended([linter, "--no-color", "Dockerfile"], ROOT, dict(os.environ)) == (0, "")


def test_the_image_is_not_root_has_no_build_tools_and_stops_as_celery_wants_it():
    words = dict(final())
    assert words["USER"] == "10001:10001"
    assert words["STOPSIGNAL"] == "SIGTERM"
    assert [rest for word, rest in final() if word == "RUN" and re.search(r"pip|apt|hatch", rest)] == []
    assert "/build" not in "".join(rest for _, rest in final())
    assert len({rest.split(" ")[0] for word, rest in steps() if word == "FROM"}) == 1
    installs = [part for word, rest in steps() if word == "RUN" for part in rest.split("&&") if " install " in part]
    assert all("--require-hashes" in part or "--no-index" in part for part in installs), installs


def test_what_the_dockerfile_copies_is_sent_to_docker_and_no_more():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = set()
    for word, rest in steps():
        if word == "COPY" and not rest.startswith("--from"):
            copied |= set(shlex.split(rest)[:-1])
    assert copied == kept
    assert ignored[0] == "*"
    assert all((ROOT / name).exists() for name in copied)
    assert not any(fnmatch.fnmatch(name, "*.env*") or "token" in name for name in kept)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_fits_the_project(lock):
    versions = pins(lock)
    for requirement in wanted(LOCKS[lock]):
        if requirement.marker and not requirement.marker.evaluate({"sys_platform": "linux"}):
            continue
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{lock} lacks {name}: make lock"
        assert requirement.specifier.contains(versions[name], prereleases=True), f"{name} {versions[name]}: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_of_all_and_names_no_place(lock):
    text = (ROOT / lock).read_text()
    lines = text.splitlines()
    for line in lines:
        assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) or PINNED.match(line + "\n"), line
    for at, line in enumerate(lines):
        if not line.startswith(" "):
            assert lines[at + 1].startswith("    --hash"), line
    assert not re.search(r"://|file:|--index|--find-links|@ ", text)


@pytest.mark.chaos
def test_what_the_dockerfile_does_works_without_docker(tmp_path):
    """Its RUN steps in a folder of this machine, then the image's programs."""
    sources = tmp_path / "src"
    sources.mkdir()
    run = next(rest for word, rest in steps() if word == "RUN" and "--require-hashes" in rest)
    build = next(rest for word, rest in steps() if word == "RUN" and "hatchling build" in rest)
    for name in (*LOCKS, "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    shutil.copytree(ROOT / "agnt5", sources / "agnt5", ignore=shutil.ignore_patterns("__pycache__"))
    for place in ("/venv", "/build", "/dist"):
        run, build = (re.sub(rf"(?<![\w/]){place}\b", str(tmp_path) + place, text) for text in (run, build))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AGNT5"))}
    for step in (run, build):
        code, said = ended(["sh", "-ec", step], sources, {**env, "PATH": path})
        assert code == 0, said
    app = tmp_path / "app"
    for name in ("workers", "beat", "deploy"):
        shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns("__pycache__"))
    assert not (tmp_path / "venv/bin/pip").exists()
    image = {**env, "PATH": f"{tmp_path}/venv/bin:/usr/bin:/bin", "AGNT5_REDIS_URL": "redis://127.0.0.1:1/0"}
    for command in ("agnt5 --help", "celery -A workers report", "celery -A beat report"):
        code, said = ended(["sh", "-c", command], app, image)
        assert code == 0, said
    code, said = ended(["sh", "-c", "python deploy/beat_health.py"], app, image)
    assert code == 1, said
    assert "redis.exceptions.ConnectionError" in said


def ended(command: list[str], cwd: Path, env: dict[str, str]) -> tuple[int, str]:
    """The exit code of a command, and the end of what it wrote."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr)[-3000:]

"""docs/http-api.md says what is so: its routes, scopes, problems and code."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI
from starlette.testclient import TestClient
from test_http_access import GUARDED, NEEDS, OPEN
from web_kit import problem

from agnt5.web import ALLOWED_HEADERS, SCOPES, problems

TEXT = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]


def routes_told() -> dict[tuple[str, str], str]:
    found = {}
    for row in ROWS:
        for method, path in re.findall(r"`(GET|POST|DELETE) (/[^`]*)`", row[0]):
            found[method, path.replace("{id}", "{run_id}")] = row[1]
    return found


def test_every_route_is_told_with_its_scope():
    told = routes_told()
    assert set(told) == {*GUARDED, *OPEN}
    for route in GUARDED:
        assert set(told[route].split(" or ")) == NEEDS.get(route, {"read"}), route


def test_scopes_headers_and_problems_are_told():
    assert {row[0].strip("`") for row in ROWS if len(row) == 2 and row[0].strip("`") in SCOPES} == SCOPES
    assert all(f"`{name}`" in TEXT for name in ALLOWED_HEADERS)
    for cls, (status, _) in problems._TITLES.items():
        row = next(row for row in ROWS if row[0] == str(status))
        assert f"`{problems.kind_of(cls)}`" in row[1], cls


def test_its_code_runs():
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    space: dict = {}
    exec(compile(code, "docs/http-api.md", "exec"), space)
    assert isinstance(space["app"], FastAPI)
    with TestClient(space["app"]) as client:
        problem(client.get("/agnt5/api/v1/runs"), 401)
        problem(client.post("/agnt5/api/v1/runs", headers={"X-User": "ann"}, json={"handler": "a.b"}), 403)

"""The API inside other apps: as a router, mounted, with their users, under a prefix, and in their tests."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from support.server import Server
from support.waiting import until
from web_kit import problem

from agnt5 import AsyncClient, Client, ConfigurationError
from agnt5.web import Identity, api_router, create_api
from agnt5.web.tokens import new_token

HANDLER = '{"kind": "function", "parameters": []}'
HERE = {"base_url": "http://127.0.0.1", "client": ("127.0.0.1", 50000)}


@pytest.fixture
def announced(server: Server) -> str:
    server.admin.hset("agnt5:{s0}:handlers", "a.b", HANDLER)
    return server.url


async def by_header(request) -> Identity | None:
    name = request.headers.get("x-user")
    return Identity(name, scopes=frozenset({"read", "start"})) if name else None


def test_a_router_goes_by_the_users_of_its_app(announced: str):
    app = FastAPI()
    app.include_router(api_router(redis_url=announced, authenticate=by_header), prefix="/agnt5")

    @app.get("/own")
    async def own() -> str:
        return "own"

    with TestClient(app, **HERE) as client:
        assert client.get("/own").json() == "own"
        problem(client.post("/agnt5/api/v1/runs", json={"handler": "a.b"}), 401)
        started = client.post("/agnt5/api/v1/runs", json={"handler": "a.b", "id": "x/y"}, headers={"X-User": "ann"})
        assert started.status_code == 201
        at = started.headers["location"]
        assert at == "/agnt5/api/v1/runs/x%2Fy"
        assert client.get(at, headers={"X-User": "ann"}).json()["id"] == "x/y"
        problem(client.post(f"{at}/signals/go", headers={"X-User": "ann"}), 403)
        problem(client.get(at, headers={"Authorization": "Bearer x"}), 401)
        assert client.get("/agnt5/api/v1/nothing").json() == {"detail": "Not Found"}  # the app's own way of saying so
    with Client(announced) as ours:
        assert ours.history("x/y")[0].requester == "ann"


def test_two_apis_in_one_app_do_not_mix(announced: str):
    secret, token = new_token("ann", scopes=["admin"])
    app = FastAPI()
    app.include_router(api_router(redis_url=announced, tokens=[token]), prefix="/closed")
    app.include_router(api_router(redis_url=announced), prefix="/open")
    with TestClient(app, **HERE) as client:
        problem(client.get("/closed/api/v1/runs"), 401)
        assert client.get("/closed/api/v1/runs", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        assert client.get("/open/api/v1/runs").status_code == 200


@pytest.mark.parametrize("prefix", ["", "/inner"])
def test_a_mounted_app_knows_where_it_is(announced: str, prefix: str):
    api = create_api(redis_url=announced, pages=False, prefix=prefix)
    with TestClient(Starlette(routes=[Mount("/tools", api)]), **HERE) as client:
        started = client.post(f"/tools{prefix}/api/v1/runs", json={"handler": "a.b", "id": "x/y~z".replace("~", ":")})
        assert started.headers["location"] == f"/tools{prefix}/api/v1/runs/x%2Fy%3Az"
        assert client.get(started.headers["location"]).json()["id"] == "x/y:z"
        problem(client.get(f"/tools{prefix}/api/v1/nothing"), 404)
        assert client.get(f"/tools{prefix}/api/v1/openapi.json").status_code == 200


def test_an_app_is_tested_without_its_lifespan(announced: str):
    """A test client outside of `with` has a new event loop for each request."""
    client = TestClient(create_api(redis_url=announced, pages=False), **HERE)
    for at in range(3):
        assert client.post("/api/v1/runs", json={"handler": "a.b", "id": f"r{at}"}).status_code == 201
    assert len(client.get("/api/v1/runs").json()["runs"]) == 3


def connections(server: Server) -> set[str]:
    return {one["id"] for one in server.admin.client_list() if one["name"].startswith("agnt5:client")}


async def test_the_client_is_closed_when_the_app_shuts_down(server: Server, announced: str):
    before = connections(server)
    app = create_api(redis_url=announced, pages=False)
    async with app.router.lifespan_context(app):
        assert connections(server) <= before  # opened on first use
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            assert (await client.get("/api/v1/runs")).status_code == 200
        assert len(connections(server) - before) == 1
    await until(lambda: connections(server) <= before)  # the server notices a moment later


async def test_a_client_that_is_given_stays_open(server: Server, announced: str):
    async with AsyncClient(announced) as ours:
        app = create_api(ours, pages=False)
        async with app.router.lifespan_context(app):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                assert (await client.get("/api/v1/runs")).status_code == 200
        assert await ours.runs() == []


def test_an_unknown_error_of_a_users_own_code_is_logged_and_hidden(announced: str, caplog):
    async def broken(_):
        raise RuntimeError("password=hunter2")

    client = TestClient(create_api(redis_url=announced, pages=False, authenticate=broken), **HERE)
    answer = client.get("/api/v1/runs")
    problem(answer, 500, "internal-error")
    assert "hunter2" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize("path", ["/api/v1/runs/a%2Fresult", "/api/v1/runs/a%252Fresult"])
def test_a_path_that_was_rewritten_is_still_read(announced: str, path: str):
    """Some servers give no raw path: then a slash divides."""
    app = create_api(redis_url=announced, pages=False)

    async def without_raw_path(scope, receive, send):
        await app({key: value for key, value in scope.items() if key != "raw_path"}, receive, send)

    with TestClient(without_raw_path, **HERE) as client:
        problem(client.get(path), 404, "run-not-found")


def test_wrong_arguments_are_told():
    for wrong in ("agnt5", "/agnt5/"):
        with pytest.raises(ConfigurationError, match="prefix"):
            create_api(prefix=wrong)
    with pytest.raises(ConfigurationError, match="redis_url"):
        create_api(AsyncClient(), redis_url="redis://x")
    with pytest.raises(ConfigurationError, match="retention"):
        create_api(retentoin=5)

"""Who may do what: every route with every kind of credential, and what a refusal leaves behind."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from support.cluster import Cluster
from support.dump import dump
from support.server import Server
from support.waiting import until_sync
from web_kit import Api, listening, problem

from agnt5 import ConfigurationError
from agnt5.cli.web import serve
from agnt5.store import keys
from agnt5.web import create_api

OPEN = {("GET", "/health"), ("GET", "/ready"), ("POST", "/links/{token}")}
NEEDS = {
    ("POST", "/runs"): {"start"},
    ("POST", "/runs/{run_id}/cancel"): {"start"},
    ("POST", "/runs/{run_id}/retry"): {"start"},
    ("POST", "/runs/{run_id}/signals/{name}"): {"signal"},
    ("POST", "/runs/{run_id}/approvals/{name}/decision"): {"decide"},
    ("GET", "/runs/{run_id}/approvals"): {"read", "decide"},
    ("GET", "/approvals"): {"read", "decide"},
    ("DELETE", "/entities/{type}/{key}"): {"admin"},
    ("POST", "/entities/{type}/{key}/{method}"): {"start"},
    ("POST", "/agui/{handler}"): {"start"},
}
"""All others need `read`."""

BY_SCOPE = {"read": "reader", "start": "starter", "signal": "signaller", "decide": "decider"}
BODIES = {
    "/runs": {"handler": "web_shop.add", "input": {"a": 1}},
    "/runs/{run_id}/cancel": {"reason": "no"},
    "/runs/{run_id}/signals/{name}": {"payload": 1},
    "/runs/{run_id}/approvals/{name}/decision": {"decision": "approved"},
    "/entities/{type}/{key}/{method}": {"input": {}},
    "/agui/{handler}": {"threadId": "t", "runId": "r", "messages": []},
}
BOTH = "/agui/{handler}"
"""Needs `read` beside `start`: it tells what happens in the run; test_agui.py has more."""


def routes() -> list[tuple[str, str]]:
    found = create_api(pages=False).openapi()["paths"]
    return [
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in sorted(found.items())
        for method in sorted(methods)
    ]


GUARDED = [route for route in routes() if route not in OPEN]


@pytest.fixture(scope="module")
def victim(api: Api, cluster: Cluster) -> str:
    """A run that waits, and that nobody of this module may change."""
    with api.client("root") as root:
        run_id = root.post("/runs", json={"handler": "web_shop.trip", "input": {"to": "Rome"}}).json()["id"]
        listening(root, run_id)
    return run_id


def ask(client: httpx.Client, method: str, path: str, run_id: str) -> httpx.Response:
    url = path.format(run_id=run_id, name="go", type="Counter", key="c-1", method="add", handler="web_shop.add")
    return client.request(method, url, json=BODIES.get(path))


def standing(cluster: Cluster, run_id: str) -> object:
    """What a refused request might have changed: a run, its journal, and which root runs there are."""
    admin, places = cluster.admin, range(cluster.shards)
    roots = {
        one for at in places for name in (keys.open_runs(at), keys.ended_runs(at)) for one in admin.zrange(name, 0, -1)
    }
    ops = admin.smembers(keys.ops(run_id, cluster.shards))
    return roots, cluster.field(run_id, "status"), admin.lrange(keys.log(run_id, cluster.shards), 0, -1), ops


def test_every_route_is_guarded(api: Api):
    assert set(NEEDS) <= set(GUARDED)
    assert len(GUARDED) >= 17


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=lambda value: value)
def test_a_route_refuses_who_may_not_and_changes_nothing(api: Api, cluster: Cluster, victim: str, method, path):
    before = standing(cluster, victim)
    with api.client() as client:
        refused = ask(client, method, path, victim)
        problem(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == 'Bearer realm="agnt5"'
    secret = api.secrets["root"]
    for wrong in (
        f"Bearer {secret[:-1]}",
        f"Bearer {secret}x",
        "Bearer",
        f"Basic {secret}",
        f"Token {secret}",
        "Bearer é",
    ):
        with api.client(headers={"Authorization": wrong.encode()}) as client:
            refused = ask(client, method, path, victim)
            problem(refused, 401, "unauthorized")
            assert "invalid_token" in refused.headers["www-authenticate"]
    needed = NEEDS.get((method, path), {"read"})
    for scope, name in [*BY_SCOPE.items(), ("", "nobody")]:
        if scope not in needed:
            with api.client(name) as client:
                body = problem(ask(client, method, path, victim), 403, "forbidden")
                assert set(body["scopes"]) == needed
    assert standing(cluster, victim) == before


@pytest.mark.parametrize(("scope", "name"), BY_SCOPE.items())
def test_one_scope_is_enough_for_its_routes(api: Api, victim: str, scope, name):
    with api.client(name) as client:
        for method, path in GUARDED:
            if scope in NEEDS.get((method, path), {"read"}):
                if path.endswith(("/events", "/stream", "/agui")):
                    with client.stream("GET", path.format(run_id=victim)) as stream:
                        assert stream.status_code == 200
                elif not path.endswith("/cancel") and path != BOTH:
                    assert ask(client, method, path, victim).status_code not in {401, 403}, path


def test_who_asks_is_never_taken_from_the_body(api: Api, cluster: Cluster, victim: str):
    with api.client("ann") as ann:
        for more in ({"requester": "root"}, {"headers": {"a": "b"}}):
            problem(ann.post("/runs", json={"handler": "web_shop.add", "input": {"a": 1}, **more}), 422)
        decision = {"decision": "approved", "approver": "root"}
        problem(ann.post(f"/runs/{victim}/approvals/x/decision", json=decision), 422)
        problem(ann.post(f"/runs/{victim}/approvals/x/decision", json={"decision": "approved", "roles": ["x"]}), 422)


def test_no_token_is_ever_written_or_told(api: Api, cluster: Cluster):
    told = []
    for name, secret in api.secrets.items():
        with api.client(name) as client:
            told.append(client.get("/runs", params={"token": secret}).text)
            told.append(client.post(f"/links/{secret}", json={"decision": "approved"}).text)
            told.append(client.get(f"/runs/{secret}", headers={"X-Request-Id": "x"}).text.replace(f"run {secret}", ""))
            told.append(client.post("/runs", json={"handler": "web_shop.headers", "token": secret}).text)
            told.append(client.post("/runs", json={"handler": "web_shop.headers"}).text)
            told.append(client.post("/runs", content=f'{{"{secret}'.encode()).text)
    until_sync(lambda: "/links/***" in api.output())  # it has an access log, which is read on the side
    written = api.output() + "".join(told) + repr(dump(cluster.admin))
    assert "token=***" in written
    for secret in api.secrets.values():
        assert secret not in written


# ---- without tokens


@pytest.fixture(scope="module")
def alone(shared_server: Server) -> Iterator[Api]:
    """An API without tokens, on an empty store."""
    shared_server.admin.flushall()
    with Api(shared_server.url) as api:
        yield api


def test_without_tokens_this_machine_may_do_all(alone: Api):
    with alone.client() as client:
        assert client.get("/runs").json() == {"runs": [], "cursor": None}
        problem(client.post("/runs", json={"handler": "a.b"}), 404, "handler-not-found")
        assert client.get("/runs", headers={"Host": "localhost"}).status_code == 200
        assert client.get("/runs", headers={"Host": "[::1]:80"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": "evil.example:127.0.0.1"},
        {"Host": ""},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
    ],
    ids=str,
)
def test_without_tokens_others_are_told_to_set_some(alone: Api, headers):
    with alone.client() as client:
        body = problem(client.get("/runs", headers=headers), 403, "no-tokens")
        assert "AGNT5_API_TOKENS" in body["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_another_site_cannot_have_a_browser_act(alone: Api, headers):
    with alone.client() as client:
        problem(client.post("/runs", json={"handler": "a.b"}, headers=headers), 403, "cross-site")
        problem(client.post("/runs/x/cancel", headers=headers), 403, "cross-site")
        own = {"Origin": alone.url, "Sec-Fetch-Site": "same-origin"}
        problem(client.post("/runs/x/cancel", headers=own), 404, "run-not-found")


def test_readiness_waits_for_handlers(alone: Api):
    with alone.client() as client:
        answer = client.get("/ready")
        assert "handler" in problem(answer, 503, "not-ready")["detail"]
        assert answer.headers["retry-after"]
        assert client.get("/health").status_code == 200


# ---- the command


def agnt5(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agnt5.cli", *words], text=True, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_address_that_others_reach_needs_tokens(host):
    with pytest.raises(ConfigurationError, match="agnt5 tokens new"):
        serve("redis://localhost:1/0", host=host, port=0, tokens=None, pages=False)


def test_wrong_options_end_the_command():
    done = agnt5("web", "--host", "0.0.0.0", "--tokens", "/no/such/file")
    assert done.returncode == 1
    assert "/no/such/file" in done.stderr


def test_a_new_token_is_told_once_and_its_entry_fits_the_file(tmp_path, server):
    done = agnt5("tokens", "new", "carl", "--role", "ops", "--scope", "read")
    secret, entry = done.stdout.splitlines()
    assert secret not in entry
    assert json.loads(entry)["roles"] == ["ops"]
    path = tmp_path / "tokens.json"
    path.write_text(f"[{entry}]")
    with Api(server.url, env={"AGNT5_API_TOKENS": str(path)}, secrets={"carl": secret}) as api:
        with api.client("carl") as client:
            assert client.get("/runs").status_code == 200
        with api.client() as client:
            problem(client.get("/runs"), 401)
        assert api.end() in {0, -signal.SIGTERM}
        assert secret not in api.output()


def test_a_taken_port_is_told(api: Api):
    done = agnt5("web", "--port", api.url.rpartition(":")[2])
    assert done.returncode == 1
    assert "--port" in done.stderr


def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements(api: Api):
    host, port = api.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    took = []
    for _ in range(40):
        begun = time.monotonic()
        connection.request("GET", "/api/v1/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        took.append(time.monotonic() - begun)
    connection.close()
    assert sorted(took)[len(took) // 4] < 0.03  # 40 ms each without TCP_NODELAY

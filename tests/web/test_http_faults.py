"""What the API says when Redis is away, full, or too much is sent."""

from __future__ import annotations

import http.client
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from support.server import Server
from support.waiting import until_sync
from web_kit import Api, problem

from agnt5 import Client, InvalidInputError
from agnt5.store import keys

MOUNTED = [sys.executable, "-m", "uvicorn", "page_mounted:app", "--port", "0"]
BELOW = "/ops/agnt5"


def test_a_store_that_is_away_is_told_and_comes_back(own_server: Server):
    with Api(own_server.url) as api, api.client() as client:
        assert client.get("/runs").status_code == 200
        own_server.kill()
        answer = client.get("/ready")
        problem(answer, 503, "not-ready")
        with ThreadPoolExecutor(4) as pool:
            asked = [
                pool.submit(client.get, "/runs"),
                pool.submit(client.get, "/runs/x"),
                pool.submit(client.post, "/runs", json={"handler": "a.b"}),
                pool.submit(client.post, "/runs/x/cancel"),
            ]
            for one in asked:
                answer = one.result()
                body = problem(answer, 503, "store-unavailable")
                assert int(answer.headers["retry-after"]) > 0
                assert str(own_server.port) not in answer.text
                assert "safe" in body["detail"]
        assert client.get("/health").status_code == 200
        own_server.start()
        until_sync(lambda: client.get("/runs").status_code == 200, 15)
        assert "Traceback" not in api.output()


def test_a_store_that_never_was_there_is_told(own_server: Server):
    own_server.kill()
    with Api(own_server.url) as api, api.client() as client:
        begun = time.monotonic()
        problem(client.get("/runs"), 503, "store-unavailable")
        problem(client.get("/ready"), 503, "not-ready")
        assert time.monotonic() - begun < 5
        own_server.start()
        assert client.get("/runs").status_code == 200


def test_a_full_store_is_told_and_reads_go_on(own_server: Server):
    with Api(own_server.url) as api, api.client() as client, Client(own_server.url) as ours:
        own_server.admin.hset("agnt5:{s0}:handlers", "a.b", '{"kind": "function", "parameters": []}')
        assert client.post("/runs", json={"handler": "a.b", "id": "before"}).status_code == 201
        own_server.admin.config_set("maxmemory", 1)
        problem(client.post("/runs", json={"handler": "a.b", "id": "full"}), 503, "store-full")
        assert client.get("/runs/before").status_code == 200
        problem(client.get("/runs/full"), 404)
        own_server.admin.config_set("maxmemory", 0)
        assert client.post("/runs", json={"handler": "a.b", "id": "full"}).status_code == 201
        assert len(ours.runs()) == 2


def test_a_payload_over_the_limit_is_refused(ann: httpx.Client):
    much = "x" * (1_048_576 + 10)
    body = problem(ann.post("/runs", json={"handler": "web_shop.headers", "input": much}), 422)
    assert "expected an object" in body["detail"] or "no input" in body["detail"]
    big = {"handler": "web_shop.broken", "input": {"until": much}}
    problem(ann.post("/runs", json=big), 413, "payload-too-large")


def test_a_body_over_the_limit_is_not_read(api: Api):
    """16 GiB are announced and nothing is sent: the answer comes at once."""
    host, port = api.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    connection.putrequest("POST", "/api/v1/runs")
    connection.putheader("Authorization", f"Bearer {api.secrets['ann']}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(16 * 2**30))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert answer.headers["content-type"] == "application/problem+json"
    connection.close()


def test_a_body_without_a_length_is_read_up_to_the_limit(ann: httpx.Client):
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(2000):
            sent += 65_536
            yield b" " * 65_536

    try:
        answer = ann.post("/runs", content=chunks(), headers={"Content-Type": "application/json"})
        problem(answer, 413, "payload-too-large")
    except httpx.WriteError:
        pass  # the server hung up on us, as it may
    assert ann.get("/health").status_code == 200


@pytest.mark.parametrize("size", [-1, 0])
def test_the_limit_is_exact(ann: httpx.Client, size: int):
    limit = 1_048_576
    room = limit - len('{"until":""}') + size
    answer = ann.post("/runs", json={"handler": "web_shop.broken", "input": {"until": "x" * room}})
    assert answer.status_code == 201, answer.text
    over = ann.post("/runs", json={"handler": "web_shop.broken", "input": {"until": "x" * (room - size + 1)}})
    problem(over, 413, "payload-too-large")


def test_wrong_settings_end_the_command(own_server: Server):
    with pytest.raises(AssertionError, match="AGNT5_SHARDS"), Api(own_server.url, env={"AGNT5_SHARDS": "no"}):
        pass


def test_an_unknown_error_tells_nothing_but_its_request(own_server: Server):
    """A store of another shard count: only an operator can do something about that."""
    with Client(own_server.url) as ours, pytest.raises(InvalidInputError):
        ours.start("a.b")
    with Api(own_server.url, env={"AGNT5_SHARDS": "4"}) as api, api.client() as client:
        answer = client.get("/runs", headers={"X-Request-Id": "look-for-me"})
        body = problem(answer, 500, "internal-error")
        assert "shards" not in answer.text
        assert body["instance"] == "urn:agnt5:request:look-for-me"
        until_sync(lambda: "look-for-me" in api.output())
        until_sync(lambda: "AGNT5_SHARDS=16" in api.output())
        problem(client.get("/ready"), 503)


@contextmanager
def a_long_poll(server: Server, api: Api, below: str = "") -> Iterator[Future[httpx.Response]]:
    """Somebody waits for a run that nobody executes."""
    server.admin.hset("agnt5:{s0}:handlers", "a.b", '{"kind": "function", "parameters": []}')
    heard = keys.done_channel("polled")
    with httpx.Client(base_url=f"{api.url}{below}/api/v1", timeout=20) as client, ThreadPoolExecutor(1) as pool:
        assert client.post("/runs", json={"handler": "a.b", "id": "polled"}).status_code == 201
        answer = pool.submit(client.get, "/runs/polled/result", params={"wait_s": 60})
        until_sync(lambda: server.admin.pubsub_numsub(heard)[0][1] == 1)
        yield answer


def ended_by(api: Api, *signals: signal.Signals) -> int:
    """The exit code after these signals, each sent once the one before was taken."""
    for number in signals:
        api.process.send_signal(number)
        until_sync(lambda: "Shutting down" in api.output())
    return api.process.wait(20)


@pytest.mark.parametrize(
    ("command", "below", "number", "code"),
    [
        (None, "", signal.SIGTERM, -signal.SIGTERM),
        (None, "", signal.SIGINT, 0),
        (MOUNTED, BELOW, signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_a_server_that_stops_answers_who_waits(own_server: Server, command, below: str, number, code: int):
    """Long polls as if their time was up; streams come to their end, so that a client knows what it has."""
    with Api(own_server.url, command=command) as api, a_long_poll(own_server, api, below) as answer:
        with ThreadPoolExecutor(3) as pool, httpx.Client(base_url=f"{api.url}{below}/api/v1", timeout=20) as client:
            begun: list[str] = []

            def follow(path: str) -> str:
                with client.stream("GET", f"/runs/polled/{path}") as stream:
                    chunks = stream.iter_text()
                    text = next(chunks)
                    begun.append(path)
                    return text + "".join(chunks)

            streams = [pool.submit(follow, path) for path in ("events", "stream", "agui")]
            until_sync(lambda: len(begun) == len(streams))
            assert ended_by(api, number) == code
            assert [one.result().endswith("\r\n\r\n") for one in streams] == [True] * 3
        assert answer.result().status_code == 202
        assert answer.result().json()["status"] == "queued"
        assert "Traceback" not in api.output()
        assert "ASGI callable" not in api.output()


def test_a_request_that_a_stopping_server_breaks_off_may_be_repeated(own_server: Server):
    command = [*MOUNTED, "--timeout-graceful-shutdown", "1"]
    with Api(own_server.url, command=command) as api, a_long_poll(own_server, api, BELOW) as answer:
        own_server.kill()
        ended_by(api, signal.SIGTERM)
        problem(answer.result(), 503, "server-stops")
        assert int(answer.result().headers["retry-after"]) > 0
        assert "Traceback" not in api.output()


def test_a_second_interrupt_ends_the_server_at_once(own_server: Server):
    with Api(own_server.url) as api, a_long_poll(own_server, api) as answer:
        own_server.kill()
        assert ended_by(api, signal.SIGINT, signal.SIGINT) == -signal.SIGINT
        assert isinstance(answer.exception(), httpx.RemoteProtocolError)
        assert "Traceback" not in api.output()

"""AG-UI over HTTP: runs that a front end starts, as events that it understands, from a real worker."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import httpx
import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter
from web_kit import ended, problem

AGUI = TypeAdapter(Event)


def asked(text: str = "hi", **more: Any) -> dict[str, Any]:
    message = {"id": "1", "role": "user", "content": text}
    return {"threadId": "t-1", "runId": uuid.uuid4().hex, "messages": [message], "state": {"n": 1}, **more}


@contextmanager
def told(client: httpx.Client, method: str, path: str, **more: Any) -> Iterator[tuple[httpx.Response, Iterator[Any]]]:
    with client.stream(method, path, **more) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
        yield response, (AGUI.validate_python(json.loads(line)) for line in lines)


def run(client: httpx.Client, handler: str, body: dict[str, Any]) -> tuple[str, list[Any]]:
    with told(client, "POST", f"/agui/web_shop.{handler}", json=body) as (response, events):
        return response.headers["X-Agnt5-Run"], list(events)


def without_steps(events: list[Any]) -> list[Any]:
    return [event for event in events if not event.type.value.startswith("STEP")]


def texts(events: list[Any]) -> list[str]:
    return [event.delta for event in events if event.type == "TEXT_MESSAGE_CONTENT"]


def plain(event: Any) -> dict[str, Any]:
    """All of an event but the names that its reader gave to the run."""
    return event.model_dump(mode="json", exclude={"thread_id", "run_id"})


def test_a_run_is_started_and_told_and_read_again_the_same(ann):
    body = asked()
    run_id, events = run(ann, "assistant", body)
    kinds = [event.type.value for event in without_steps(events)]
    message = ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"]
    assert [kind for at, kind in enumerate(kinds) if kinds[at - 1 : at] != [kind]] == [
        "RUN_STARTED", "CUSTOM", *message, "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT",
        *message, "RUN_FINISHED",
    ]  # fmt: skip
    assert (events[0].thread_id, events[0].run_id) == ("t-1", body["runId"])
    assert events[1].value == {"id": run_id, "handler": "web_shop.assistant"}
    assert texts(events) == ["t-1: ", "hi", "found 7"]
    assert events[-1].result == {"text": "all", "state": {"n": 1}}
    assert run(ann, "assistant", body)[0] == run_id
    with told(ann, "GET", f"/runs/{run_id}/agui") as (_, again):
        found = list(again)
    assert [plain(event) for event in found] == [plain(event) for event in events]
    assert (found[0].thread_id, found[0].run_id) == ("t-1", run_id)


def test_an_agent_of_agnt5_is_told_with_its_tools(ann):
    _, events = run(ann, "desk", asked("which colour?"))
    assert "".join(texts(events)) == "It is green."
    started = [event for event in events if event.type == "TOOL_CALL_START"]
    assert [event.tool_call_name for event in started] == ["find"]
    results = [event for event in events if event.type == "TOOL_CALL_RESULT"]
    assert [json.loads(event.content) for event in results] == [{"word": "pear", "colour": "green"}]
    assert [event.tool_call_id for event in results] == [event.tool_call_id for event in started]
    assert events[-1].result["text"] == "It is green."


def test_an_attempt_that_failed_resets_its_messages(ann):
    _, events = run(ann, "assistant", asked("again"))
    resets = [at for at, event in enumerate(events) if event.type == "CUSTOM" and event.name == "reset"]
    assert len(resets) == 1
    before, after = events[: resets[0]], events[resets[0] :]
    assert texts(before) == ["t-1: ", "again"]
    assert texts(after) == ["t-1: ", "again", "found 7"]
    starts = [event.message_id for event in events if event.type == "TEXT_MESSAGE_START"]
    assert len(set(starts)) == len(starts) == 3
    assert events[-1].type == "RUN_FINISHED"


def test_people_are_asked_in_between_and_the_run_goes_on_without_a_reader(ann, api):
    with told(ann, "POST", "/agui/web_shop.clerk", json=asked("my money")) as (response, events):
        run_id = response.headers["X-Agnt5-Run"]
        list(takewhile(lambda event: getattr(event, "name", "") != "approval", events))
    with api.client("bob") as bob:  # who started a run does not approve what it asks for
        answer = bob.post(f"/runs/{run_id}/approvals/refund/decision", json={"decision": "approved"})
        assert answer.status_code == 200, answer.text
    assert ended(ann, run_id)["result"] == "my money: approved"
    with told(ann, "GET", f"/runs/{run_id}/agui") as (_, again):
        found = list(again)
    approval = next(event for event in found if getattr(event, "name", "") == "approval")
    assert approval.value["payload"] == {"said": "my money"}
    assert found[0].thread_id == "t-1"
    assert texts(found) == ["my money: approved"]


def test_a_run_that_fails_ends_with_its_error(ann):
    _, events = run(ann, "broken", asked())
    assert events[-1].type == "RUN_ERROR"
    assert (events[-1].code, events[-1].message) == ("ValueError", "this is broken")


def test_an_entity_of_the_thread_is_called(ann):
    body = asked("5")
    with told(ann, "POST", "/agui/AguiChat.say", json=body) as (response, events):
        assert response.headers["X-Agnt5-Run"].startswith("AguiChat/t-1~@")
        assert texts(list(events)) == ["1: 5"]


def test_it_needs_both_scopes_and_keeps_ids_apart(api):
    body = asked()
    with api.client("starter") as client:
        assert problem(client.post("/agui/web_shop.assistant", json=body), 403)["scopes"] == ["read"]
    with api.client("reader") as client:
        assert problem(client.post("/agui/web_shop.assistant", json=body), 403)["scopes"] == ["start"]
    runs = set()
    for name in ("ann", "bob"):
        with api.client(name) as client:
            runs.add(run(client, "assistant", body)[0])
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/agui/web_shop.nothing", asked(), 404, "handler-not-found"),
        ("/agui/web_shop.assistant", {"threadId": "t"}, 422, "invalid-input"),
        ("/agui/web_shop.add", asked(), 422, "invalid-input"),
    ],
)
def test_what_cannot_be_started_is_a_problem(ann, path, body, status, kind):
    problem(ann.post(path, json=body), status, kind)


def test_another_input_under_the_same_run_id_is_refused_and_an_unknown_run_is_not_found(ann):
    body = asked()
    run(ann, "assistant", body)
    problem(ann.post("/agui/web_shop.assistant", json={**body, "state": {}}), 409, "duplicate-run")
    problem(ann.get("/runs/nowhere/agui"), 404, "run-not-found")

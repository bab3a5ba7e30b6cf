"""What `agnt5 entities` does. Each command opens a client, acts, and prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from agnt5.cli.output import Cell, as_json, columns, hint, line, print_json
from agnt5.cli.place import chosen_url
from agnt5.cli.values import pairs, read_input, text_parameters
from agnt5.client import Client
from agnt5.client.entities import EntityState
from agnt5.client.moments import span


def list_entities(url: str | None, entity_type: str | None, *, limit: int, json: bool) -> None:
    """`agnt5 entities list`."""
    with _client(url) as client:
        found: list[EntityState] = client.entities(entity_type, limit=limit)
    if json:
        for state in found:
            print_json(asdict(state), indent=None)
    elif found:
        titles: list[str | Cell] = [(title, "bold") for title in ("TYPE", "KEY", "WRITES", "WAITING", "CHANGED")]
        columns([titles, *(_row(state) for state in found)])
    else:
        line("no entities")


def show_entity(url: str | None, entity_type: str, key: str, *, json: bool) -> None:
    """`agnt5 entities show`."""
    with _client(url) as client:
        state: EntityState = client.entity_state(entity_type, key)
    if json:
        print_json(asdict(state))
        return
    columns(_facts(state), indent="")
    line()
    line(("state: ", "dim"), as_json(state.state))


def call(
    url: str | None, target: tuple[str, str, str], words: Sequence[str], *, run_id: str | None,
    timeout: float | None, headers: Sequence[str],
) -> None:  # fmt: skip
    """`agnt5 entities call`; `target` is type, key and method."""
    entity_type, key, method = target
    handler = f"{entity_type}.{method}"
    given = pairs(headers)
    with _client(url) as client:
        value = read_input(words, lambda: text_parameters(client.handlers().get(handler)))
        run = client.start(handler, value, id=run_id, key=key, headers=given)
        hint(f"run {run.id}; Ctrl-C ends the wait, not the call")
        print_json(run.result(timeout))


def delete(url: str | None, entity_type: str, key: str) -> None:
    """`agnt5 entities delete`."""
    with _client(url) as client:
        client.delete_entity(entity_type, key)
    hint(f"{entity_type}/{key} is deleted")


def _client(url: str | None) -> Client:
    return Client(chosen_url(url))


def _row(state: EntityState) -> list[str | Cell]:
    return [state.type, state.key, str(state.writes), str(len(state.waiting)), _changed(state)]


def _facts(state: EntityState) -> list[list[str | Cell]]:
    rows: list[list[str | Cell]] = [
        [("entity", "dim"), (f"{state.type}/{state.key}", "bold")],
        [("changed", "dim"), f"{_changed(state)}, by {state.writes} writes so far"],
    ]
    if state.holder:
        rows.append([("held by", "dim"), (state.holder, "running")])
    rows += [[("waiting" if at == 0 else "", "dim"), (run, "waiting")] for at, run in enumerate(state.waiting)]
    rows += [[("latest calls" if at == 0 else "", "dim"), run] for at, run in enumerate(state.recent)]
    return rows


def _changed(state: EntityState) -> str:
    if state.updated_at is None:
        return "never"
    return f"{span(max(0.0, (datetime.now(UTC) - state.updated_at).total_seconds() * 1000))} ago"

"""`agnt5 config`: values and feature flags of the whole fleet."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import typer

from agnt5.cli.output import Cell, as_json, columns, cut, hint, line, print_json
from agnt5.cli.place import chosen_url
from agnt5.cli.values import pairs
from agnt5.client import Client, ConfigChange, ConfigState
from agnt5.client.configuration import NewRule
from agnt5.client.moments import span
from agnt5.contracts.errors import ConfigNotFoundError
from agnt5.contracts.fitting import parsed
from agnt5.contracts.flags import Rule, check_key, described, variable_of

_WIDTH = 60


def set_config(  # noqa: PLR0913 - what there is to say about a value
    url: str | None, key: str, value: str | None, *, variants: str | None, rollout: float | None, otherwise: str | None,
    when: Sequence[str], comment: str, by: str | None,
) -> None:  # fmt: skip
    """`agnt5 config set`."""
    given = NewRule(
        value=None if value is None else parsed(value),
        rollout=rollout,
        otherwise=None if otherwise is None else parsed(otherwise),
        variants=None if variants is None else _weights(variants),
        when=_conditions(when),
    )
    rule: Rule = given.read(check_key(key))[0]
    with Client(chosen_url(url)) as client:
        client.set_config(
            key, given.value, rollout=given.rollout, otherwise=given.otherwise, variants=given.variants,
            when=given.when, by=by or getpass.getuser(), comment=comment,
        )  # fmt: skip
    line((key, "bold"), f" is {rule}")
    hint("each worker has it within about a second; workflows keep what they have read")


def show_config(url: str | None, key: str, *, json: bool) -> None:
    """`agnt5 config get`."""
    variable = variable_of(check_key(key))
    here = os.environ.get(variable)
    with Client(chosen_url(url)) as client:
        try:
            state: ConfigState | None = client.config(key)
        except ConfigNotFoundError:
            if here is None:
                raise
            state = None
    if json:
        print_json({"key": key, "redis": None if state is None else asdict(state), "environment": here})
        return
    rows: list[list[str | Cell]] = [[("key", "bold"), key]]
    if state is not None:
        rows += [[("value", "bold"), _shown(state)], [("from", "bold"), "Redis"]]
        if state.changed_at is not None:
            rows.append([("changed", "bold"), f"{_ago(state.changed_at)} by {state.changed_by or 'somebody'}"])
        if state.comment:
            rows.append([("comment", "bold"), state.comment])
    if here is not None:
        over = "" if state is None else ", which Redis overrides"
        rows.append([("environment", "bold"), f"{variable}={cut(here, _WIDTH)} in this shell{over}"])
    columns(rows)


def list_configs(url: str | None, *, json: bool) -> None:
    """`agnt5 config list`."""
    with Client(chosen_url(url)) as client:
        states: list[ConfigState] = client.configs()
    if json:
        for state in states:
            print_json(asdict(state), indent=None)
        return
    if not states:
        line("nothing is set")
        return
    titles = ["KEY", "CHANGED", "BY", "VALUE"]
    rows: list[list[str | Cell]] = [[(title, "bold") for title in titles]]
    rows += [
        [state.key, "" if state.changed_at is None else _ago(state.changed_at), state.changed_by, _shown(state)]
        for state in states
    ]
    columns(rows)


def unset_config(url: str | None, key: str, *, comment: str, by: str | None) -> None:
    """`agnt5 config unset`."""
    with Client(chosen_url(url)) as client:
        was = client.unset_config(key, by=by or getpass.getuser(), comment=comment)
        known = [] if was else [state.key for state in client.configs()]
    if was:
        line(("unset", "ok"))
        hint("environment and defaults count again")
        return
    line(("it was not set", "note"))
    if close := get_close_matches(key, known, n=3, cutoff=0.5):
        hint(f"did you mean {' or '.join(close)}?")


def show_history(url: str | None, key: str | None, *, limit: int, json: bool) -> None:
    """`agnt5 config history`."""
    with Client(chosen_url(url)) as client:
        changes: list[ConfigChange] = client.config_history(key, limit=limit)
    if json:
        for change in changes:
            print_json(asdict(change), indent=None)
        return
    if not changes:
        line("no changes")
        return
    titles = ["WHEN", "KEY", "BY", "FROM", "TO", "COMMENT"]
    rows: list[list[str | Cell]] = [[(title, "bold") for title in titles]]
    for one in changes:
        at = f"{one.at:%Y-%m-%d %H:%M:%S}"
        rows.append([at, one.key, one.by, _rule(one.old), _rule(one.new), cut(one.comment, _WIDTH)])
    columns(rows)


def explain_config(url: str | None, key: str, *, unit: str | None, headers: Sequence[str], json: bool) -> None:
    """`agnt5 config explain`."""
    given = pairs(headers)
    with Client(chosen_url(url)) as client:
        answer = client.explain_config(key, unit=unit, headers=given)
    if json:
        print_json(asdict(answer))
        return
    value = "the default of whoever asks" if answer.value is None else described(answer.value)
    columns([[("value", "bold"), value], [("from", "bold"), answer.source], [("why", "bold"), answer.why]])


def _weights(text: str) -> dict[str, float]:
    """`control=50,treatment=50` as weights."""
    found: dict[str, float] = {}
    parts = [part.strip() for part in text.split(",") if part.strip()]
    given = pairs(parts, expected="variants with their weights, as control=50,treatment=50")
    for name, weight in given.items():
        try:
            found[name] = float(weight)
        except ValueError:
            raise typer.BadParameter(f"--variants: the weight of {name!r} is a number, found {weight!r}") from None
    return found


def _conditions(words: Sequence[str]) -> dict[str, Any]:
    """`tenant=acme` words, the same header with several values where it is repeated."""
    found: dict[str, Any] = {}
    for word in words:
        for name, value in pairs([word], expected="--when HEADER=VALUE").items():
            found.setdefault(name.lower(), []).append(value)
    return found


def _shown(state: ConfigState) -> str:
    return cut(f"unreadable, and left out: {state.wrong}" if state.wrong else state.text, 2 * _WIDTH)


def _rule(data: dict[str, Any] | None) -> str:
    if data is None:
        return "-"
    return cut(as_json(data["value"] if list(data) == ["value"] else data, indent=None), _WIDTH)


def _ago(at: datetime) -> str:
    return f"{span(max(0.0, (datetime.now(UTC) - at).total_seconds() * 1000))} ago"

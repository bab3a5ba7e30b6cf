"""`agnt5 config`: what people type, and what they are told."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from agnt5 import Client
from agnt5.cli.main import app
from agnt5.store import keys


@pytest.fixture
def agnt5(redis_url, monkeypatch):
    """Runs a command; gives what it printed, and fails where it fails unless `code` says so."""
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["--redis-url", redis_url, "config", *words])
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.mark.parametrize(
    ("words", "says", "rule"),
    [
        (["true"], "k is true (true or false)", {"value": True}),
        (["25"], "k is 25 (a number)", {"value": 25}),
        (["1.10"], "k is 1.1 (a number)", {"value": 1.1}),
        (['"1.10"'], 'k is "1.10" (text)', {"value": "1.10"}),
        (["fast lane"], 'k is "fast lane" (text)', {"value": "fast lane"}),
        (["True"], 'k is "True" (text)', {"value": "True"}),
        (["[1, 2]"], "k is a list of 2", {"value": [1, 2]}),
        (['{"a": 1}'], "k is an object with 1 fields", {"value": {"a": 1}}),
        (["true", "--rollout", "12.5"], "k is true (true or false) for 12.5 %", {"value": True, "rollout": 12.5}),
        (
            ["fast", "--rollout", "10", "--otherwise", "slow", "--when", "tenant=acme", "--when", "Tenant=beta"],
            'k is "fast" (text) for 10 %, else "slow" (text), only where tenant is acme or beta',
            {"value": "fast", "rollout": 10.0, "otherwise": "slow", "when": {"tenant": ["acme", "beta"]}},
        ),
        (
            ["--variants", "control=3, treatment=1"],
            "k is an experiment: control 75 %, treatment 25 %",
            {"variants": {"control": 3.0, "treatment": 1.0}},
        ),
    ],
)
def test_set_tells_what_a_value_was_taken_for(agnt5, redis_url, words, says, rule):
    assert agnt5("set", "k", *words).strip() == says
    with Client(redis_url) as client:
        assert client.config("k").rule == rule


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["k"], 1, "either a value or variants are needed"),
        (["k", "null"], 1, "unset the key"),
        (["k", "1", "--rollout", "200"], 1, "from 0 to 100"),
        (["k", "--variants", "a=x"], 2, "weight of 'a' is a number"),
        (["k", "--variants", "a"], 2, "expected variants with their weights"),
        (["k", "--variants", "a=50,a=60"], 2, "there is a value for 'a' already, '50'"),
        (["k", "1", "--when", "tenant"], 2, "expected --when HEADER=VALUE"),
        (["a b", "1"], 1, "config key 'a b'"),
    ],
)
def test_set_refuses_what_makes_no_sense(agnt5, words, code, says):
    assert says in " ".join(agnt5("set", *words, code=code).replace("│", " ").split())


def test_get_list_history_explain_and_unset(agnt5, monkeypatch):
    assert agnt5("list") == "nothing is set\n"
    agnt5("set", "tax.rate", "0.25", "--comment", "new law")
    agnt5("set", "tax.rate", "0.5", "--by", "bob")
    agnt5("set", "group", "--variants", "control=1,treatment=1")
    shown = agnt5("get", "tax.rate").splitlines()
    assert [line.split(maxsplit=1) for line in shown][:3] == [
        ["key", "tax.rate"], ["value", "0.5 (a number)"], ["from", "Redis"],
    ]  # fmt: skip
    assert shown[3].startswith("changed")
    assert shown[3].endswith("ago by bob")
    monkeypatch.setenv("AGNT5_FLAG_TAX_RATE", "0.1")
    assert "AGNT5_FLAG_TAX_RATE=0.1 in this shell, which Redis overrides" in agnt5("get", "tax.rate")
    assert json.loads(agnt5("get", "tax.rate", "--json"))["redis"]["rule"] == {"value": 0.5}
    titles, *rows = agnt5("list").splitlines()
    assert titles.split() == ["KEY", "CHANGED", "BY", "VALUE"]
    assert [row.split()[0] for row in rows] == ["group", "tax.rate"]
    assert len(agnt5("list", "--json").splitlines()) == 2
    _, newest, oldest = agnt5("history", "tax.rate").splitlines()
    assert newest.split()[2:] == ["tax.rate", "bob", "0.25", "0.5"]
    assert oldest.split()[2:] == ["tax.rate", "ann", "-", "0.25", "new", "law"]
    explained = json.loads(agnt5("explain", "group", "--unit", "u1", "--json"))
    assert explained["value"] in {"control", "treatment"}
    assert "u1 is at" in explained["why"]
    assert "no unit was given" in agnt5("explain", "group")
    assert agnt5("unset", "tax.rate") == "unset\n"
    assert agnt5("unset", "tax.rate") == "it was not set\n"
    assert "AGNT5_FLAG_TAX_RATE=0.1 in this shell" in agnt5("get", "tax.rate")
    assert "environment (AGNT5_FLAG_TAX_RATE) is set" in agnt5("explain", "tax.rate")
    assert "did you mean 'group'?" in agnt5("get", "groups", code=1)
    assert [json.loads(line)["key"] for line in agnt5("history", "--json").splitlines()] == [
        "tax.rate", "group", "tax.rate", "tax.rate",
    ]  # fmt: skip


def test_what_was_written_by_hand_is_shown_as_left_out(agnt5, admin):
    admin.hset(keys.config(), "bad", "{")
    assert "unreadable, and left out: " in agnt5("list")
    assert "cannot be read" in agnt5("explain", "bad")
    agnt5("set", "bad", "1")
    assert json.loads(agnt5("history", "bad", "--json"))["old"] == {"unreadable": "{"}

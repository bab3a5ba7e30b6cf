"""Data against a form."""

from __future__ import annotations

import socket

import pytest

from agnt5 import forms

SPEND = {
    "type": "object",
    "properties": {
        "euros": {"type": "integer", "maximum": 500},
        "lines": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["euros"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("data", [{"euros": 1}, {"euros": 500, "lines": ["a"]}])
def test_what_fits_has_no_faults(data):
    assert forms.faults(SPEND, data) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "data: None is not of type 'object'"),
        ({}, "data: 'euros' is a required property"),
        ({"euros": 501}, "data.euros: 501 is greater than the maximum of 500"),
        ({"euros": 1, "lines": ["a", 2]}, "data.lines[1]: 2 is not of type 'string'"),
        ({"euros": 1, "more": 1}, "data: Additional properties are not allowed ('more' was unexpected)"),
    ],
)
def test_a_fault_names_its_field(data, says):
    assert forms.faults(SPEND, data) == [says]


def test_of_many_faults_some_are_told_and_a_long_one_is_cut():
    data = {"euros": 1, "lines": list(range(50))}
    assert len(forms.faults(SPEND, data)) == 5
    (fault,) = forms.faults({"const": 1}, "x" * 10_000)
    assert len(fault) < 400


def test_no_request_leaves_for_a_schema_elsewhere(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a connection was opened"))
    (fault,) = forms.faults({"$ref": "http://192.0.2.1/schema.json"}, 1)
    assert fault == "the form refers to 'http://192.0.2.1/schema.json', which it does not hold"

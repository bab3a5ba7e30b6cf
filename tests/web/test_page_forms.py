"""JSON Schema as form fields, and sent forms as data."""

from __future__ import annotations

import pytest

from agnt5.contracts.errors import InvalidInputError
from agnt5.web.pages.forms import data_of, fields_of

SCHEMA = {
    "type": "object",
    "properties": {
        "note": {"type": "string"},
        "long": {"type": "string", "maxLength": 4000},
        "count": {"type": "integer", "minimum": 1, "maximum": 5},
        "ratio": {"type": "number"},
        "yes": {"type": "boolean"},
        "when": {"enum": ["now", "later", 3, None], "title": "When?"},
        "day": {"type": "string", "format": "date", "description": "The day"},
        "more": {"type": "object"},
    },
    "required": ["count", "when"],
}


def test_each_type_has_its_input():
    fields = {field.name: field for field in fields_of(SCHEMA, id="f")}
    assert {name: field.sort for name, field in fields.items()} == {
        "form.note": "line", "form.long": "text", "form.count": "number", "form.ratio": "number",
        "form.yes": "boolean", "form.when": "choice", "form.day": "line", "form.more": "json",
    }  # fmt: skip
    assert dict(fields["form.count"].limits) == {"min": "1", "max": "5", "step": "1"}
    assert (fields["form.day"].input, fields["form.day"].help) == ("date", "The day")
    assert fields["form.when"].choices == (('"now"', "now"), ('"later"', "later"), ("3", "3"), ("null", "None"))
    assert [field.label for field in fields.values() if field.required] == ["Count", "When?"]
    assert len({field.id for field in fields.values()}) == 8


def test_a_sent_form_becomes_data_of_the_right_types():
    sent = {"form.note": "a", "form.count": "3", "form.ratio": "0.5", "form.yes": "true", "form.when": "3"}
    sent |= {"form.day": "2030-01-02", "form.more": '{"a": [1]}', "csrf": "x", "comment": "y"}
    assert data_of(SCHEMA, sent) == {
        "note": "a", "count": 3, "ratio": 0.5, "yes": True, "when": 3, "day": "2030-01-02", "more": {"a": [1]},
    }  # fmt: skip


def test_what_was_left_empty_is_left_out_and_an_empty_box_is_false():
    assert data_of(SCHEMA, {"form.note": " ", "form.count": "1", "form.when": '"now"'}) == {
        "count": 1, "yes": False, "when": "now",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("form.count", "three", "Count: a whole number is needed, found 'three'"),
        ("form.count", "1.5", "whole number"),
        ("form.ratio", "x", "Ratio: a number"),
        ("form.more", "{", "More: no valid JSON"),
    ],
)
def test_what_does_not_fit_is_told_by_the_fields_label(name, text, says):
    with pytest.raises(InvalidInputError, match=says):
        data_of(SCHEMA, {name: text})


def test_any_other_schema_is_filled_in_as_json():
    (field,) = fields_of({"type": "array"}, id="f")
    assert (field.sort, field.name) == ("json", "form")
    assert data_of({"type": "array"}, {"form": "[1, 2]"}) == [1, 2]
    assert data_of(None, {}) is None
    assert fields_of(None, id="f") == []


def test_what_was_typed_before_is_kept():
    given = {"form.note": "kept", "form.when": "3", "form.yes": "true"}
    values = {field.name: field.value for field in fields_of(SCHEMA, id="f", given=given)}
    assert (values["form.note"], values["form.when"], values["form.yes"]) == ("kept", "3", "true")


def test_defaults_are_filled_in_until_something_else_was_typed():
    schema = {"properties": {"when": {"enum": ["a", "b"], "default": "b"}, "note": {"type": "string", "default": "n"}}}
    assert [field.value for field in fields_of(schema, id="f")] == ['"b"', "n"]
    assert [field.value for field in fields_of(schema, id="f", given={})] == ["", ""]

"""The buffered state of an entity: what a call sees, and what is committed of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from contexts import buffer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from agnt5 import codec
from agnt5.contracts.errors import (
    ConfigurationError,
    InvalidInputError,
    PayloadTooLargeError,
    SerializationError,
    WrongContextError,
)


def plain(data: dict[str, bytes]) -> dict[str, Any]:
    return {key: codec.loads(value) for key, value in data.items()}


def changes(state) -> tuple[dict[str, Any], list[str]]:
    sets, deletes = state.changes()
    return plain(sets), deletes


# ---- without a model


def test_a_call_sees_what_it_wrote_and_only_that_is_committed():
    state = buffer({"a": 1, "b": [1, 2], "c": "old"})
    assert (state.get("a"), state.get("nope"), state.get("nope", 7)) == (1, None, 7)
    state.set("d", {"x": 1})
    state.set("a", 2)
    state.delete("c")
    state.delete("never there")
    assert (state.get("a"), state.get("c", "gone"), state.get("d")) == (2, "gone", {"x": 1})
    assert state.keys() == ["a", "b", "d"]
    assert changes(state) == ({"a": 2, "d": {"x": 1}}, ["c"])
    assert plain(state.after()) == {"a": 2, "b": [1, 2], "d": {"x": 1}}


def test_a_value_counts_as_it_was_when_it_was_set():
    state = buffer({"list": [1]})
    found = state.get("list")
    found.append(2)
    assert state.get("list") == [1]
    state.set("list", found)
    found.append(3)
    assert changes(state) == ({"list": [1, 2]}, [])


def test_what_is_set_back_is_no_change():
    state = buffer({"a": 1, "b": 2})
    state.set("a", 1)
    state.set("b", 3)
    state.set("b", 2)
    state.set("new", 1)
    state.delete("new")
    assert changes(state) == ({}, [])
    state.clear()
    state.set("a", 1)
    assert changes(state) == ({}, ["b"])


def test_null_is_a_value_and_no_absence():
    state = buffer()
    state.set("a", None)
    assert state.keys() == ["a"]
    assert state.get("a", "default") is None
    assert changes(state) == ({"a": None}, [])


KEYS = st.sampled_from(["a", "b", "c", "ü", "a b"])
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")), st.lists)
WRITES = st.one_of(
    st.tuples(st.just("set"), KEYS, VALUES), st.tuples(st.just("delete"), KEYS), st.tuples(st.just("clear"))
)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.lists(WRITES, max_size=20))
def test_any_writes_leave_what_a_dict_would_hold(committed, writes):
    state = buffer(committed, limit=10**6, total_limit=10**6)
    model = dict(committed)
    for write in writes:
        match write:
            case ("set", key, value):
                state.set(key, value)
                model[key] = value
            case ("delete", key):
                state.delete(key)
                model.pop(key, None)
            case _:
                state.clear()
                model.clear()
        assert state.keys() == sorted(model)
        assert all(state.get(key, "absent") == model.get(key, "absent") for key in ["a", "b", "c", "ü", "a b"])
    sets, deletes = changes(state)
    assert {key: value for key, value in {**committed, **sets}.items() if key not in deletes} == model
    assert plain(state.after()) == model
    assert all(key not in committed or repr(committed[key]) != repr(value) for key, value in sets.items())
    assert set(deletes) <= committed.keys() - model.keys()


@pytest.mark.parametrize(
    "write",
    [lambda s: s.set("a", 2), lambda s: s.delete("a"), lambda s: s.clear(), lambda s: s.set("a", 1)],
)
def test_a_read_method_may_not_write(write):
    state = buffer({"a": 1}, writable=False)
    with pytest.raises(WrongContextError, match=r"Counter/c-1: ctx\.\w+\(.*a read method may not write; make it @Cou"):
        write(state)
    assert state.get("a") == 1
    assert changes(state) == ({}, [])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "a state key is a non-empty string, found ''"),
        (7, "a state key is a non-empty string, found 7"),
        (None, "a state key is a non-empty string, found None"),
        ("k" * 201, "has 201 characters, at most 200 are allowed"),
        ("a\nb", r"the character '\n' is not allowed"),
        ("a\x85b", r"the character '\x85' is not allowed"),
        ("a\ud800", "is not allowed"),
    ],
)
def test_keys_are_short_printable_text(key, message):
    state = buffer()
    for use in (lambda: state.get(key), lambda: state.set(key, 1), lambda: state.delete(key)):
        with pytest.raises(InvalidInputError) as caught:
            use()
        assert message in str(caught.value)
        assert "Counter/c-1" in str(caught.value)
    assert changes(state) == ({}, [])


def test_a_value_without_json_form_is_refused_where_it_is_set():
    state = buffer({"a": 1})
    with pytest.raises(SerializationError, match=r"Counter/c-1: state 'a'\.x\[0\]: a .*object has no JSON form"):
        state.set("a", {"x": [object()]})
    assert state.get("a") == 1


def test_a_large_value_is_refused_where_it_is_set():
    state = buffer({"a": 1}, limit=10)
    state.set("a", "x" * 8)
    with pytest.raises(PayloadTooLargeError, match="Counter/c-1: state 'a' has 11 bytes of JSON, at most 10 are"):
        state.set("a", "x" * 9)
    assert state.get("a") == "x" * 8


def test_a_large_state_is_refused_when_it_is_committed():
    state = buffer({"a": "x" * 6}, total_limit=20)
    state.set("b", "y" * 8)
    assert len(plain(state.after())) == 2  # 1 + 8 + 1 + 10 bytes
    state.set("b", "y" * 9)
    for end in (state.changes, state.after):
        with pytest.raises(PayloadTooLargeError, match=r"would have 21 bytes, at most 20 .*before this call it had 9"):
            end()
    state.delete("a")
    assert changes(state) == ({"b": "y" * 9}, ["a"])


def test_a_state_that_is_over_a_lowered_limit_may_shrink_and_stay():
    committed = {"a": "x" * 20, "b": "y" * 20}
    state = buffer(committed, total_limit=20)
    assert changes(state) == ({}, [])
    state.set("a", "x" * 19)
    assert changes(state) == ({"a": "x" * 19}, [])
    state.set("a", "x" * 21)
    with pytest.raises(PayloadTooLargeError):
        state.changes()


# ---- with a model


class Line(BaseModel):
    sku: str
    qty: int = 1


class Cart(BaseModel):
    owner: str = ""
    lines: list[Line] = []
    seen: datetime | None = None
    limit: int = Field(default=5, ge=0, alias="maximum")
    tags: set[str] = set()

    @field_validator("owner")
    @classmethod
    def _tidy(cls, value: str) -> str:
        return value.strip()

    @model_validator(mode="after")
    def _few(self):
        if len(self.lines) > self.limit:
            raise ValueError("more lines than the limit")
        return self


def cart(committed=None, **options):
    return buffer(committed, model=Cart, what="Cart/c-1", **options)


def test_a_new_entity_has_the_defaults_of_its_model():
    state = cart()
    assert state.state == Cart()
    assert state.state is state.state
    assert (state.keys(), changes(state)) == ([], ({}, []))


def test_changes_of_attributes_are_committed_field_by_field():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    state = cart({"owner": "ann", "limit": 3})
    state.state.lines.append(Line(sku="a"))
    state.state.seen = at
    assert changes(state) == ({"lines": [{"sku": "a", "qty": 1}], "seen": "2026-01-02T00:00:00Z"}, [])
    again = cart(plain(state.after()))
    assert again.state == Cart(owner="ann", maximum=3, lines=[Line(sku="a")], seen=at)
    assert changes(again) == ({}, [])


def test_an_attribute_that_is_set_back_is_no_change():
    state = cart({"owner": "ann"})
    state.state.owner = "bob"
    assert state.get("owner") == "bob"
    state.state.owner = "ann"
    assert changes(state) == ({}, [])


def test_the_later_of_set_and_attribute_counts():
    state = cart({"owner": "ann"})
    kept = state.state
    kept.owner = "bob"
    state.set("owner", "cid")
    assert kept.owner == "cid"
    assert changes(state) == ({"owner": "cid"}, [])
    kept.owner = "dan"
    assert changes(state) == ({"owner": "dan"}, [])


def test_set_leaves_other_attributes_alone():
    state = cart()
    lines = state.state.lines
    state.set("owner", "ann")
    lines.append(Line(sku="a"))
    assert changes(state) == ({"owner": "ann", "lines": [{"sku": "a", "qty": 1}]}, [])


def test_deleted_fields_have_their_defaults_again():
    state = cart({"owner": "ann", "limit": 3, "tags": ["a"]})
    kept = state.state
    state.delete("owner")
    assert (kept.owner, kept.limit) == ("", 3)
    assert changes(state) == ({}, ["owner"])
    state.clear()
    assert kept == Cart()
    assert changes(state) == ({}, ["limit", "owner", "tags"])


def test_values_are_brought_into_the_form_of_their_field():
    state = cart()
    state.set("owner", "  ann ")
    state.set("limit", "7")
    assert (state.get("owner"), state.get("limit")) == ("ann", 7)
    state.state.owner = " bob "
    assert changes(state) == ({"owner": "bob", "limit": 7}, [])


@pytest.mark.parametrize("use", [lambda s: s.get("size"), lambda s: s.set("size", 1), lambda s: s.delete("maximum")])
def test_a_key_that_is_no_field_is_refused_with_the_fields(use):
    with pytest.raises(InvalidInputError, match="no field of the state model Cart; there are owner, lines, seen, limi"):
        use(cart())


def test_what_does_not_fit_the_model_is_refused_and_leaves_the_state_alone():
    state = cart({"limit": 1})
    kept = state.state
    with pytest.raises(InvalidInputError, match=r"Cart/c-1: the new state at state.limit: input should be a valid int"):
        state.set("limit", "many")
    with pytest.raises(InvalidInputError, match="more lines than the limit"):
        state.set("lines", [{"sku": "a"}, {"sku": "b"}])
    assert (kept.limit, kept.lines, changes(state)) == (1, [], ({}, []))


def test_fields_that_depend_on_each_other_are_changed_on_the_object():
    state = cart({"limit": 1})
    state.state.lines = [Line(sku="a"), Line(sku="b")]
    with pytest.raises(InvalidInputError, match="Cart/c-1: the new state: value error, more lines than the limit"):
        state.changes()
    state.state.limit = 2
    assert changes(state)[0]["limit"] == 2
    state.state.limit = 3
    state.set("lines", [{"sku": sku} for sku in "abc"])
    assert len(changes(state)[0]["lines"]) == 3


def test_an_attribute_of_a_wrong_type_is_found_at_commit():
    state = cart()
    state.state.limit = "many"
    with pytest.raises(InvalidInputError, match=r"state.limit: input should be a valid integer.*its model is Cart"):
        state.changes()
    state.state.limit = object()
    with pytest.raises(SerializationError, match=r"Cart/c-1: ctx.state.limit: a builtins.object has no JSON form"):
        state.after()


def test_stored_fields_that_do_not_fit_name_the_entity_and_the_field():
    state = cart({"limit": "many", "lines": [{"qty": 1}]})
    with pytest.raises(InvalidInputError) as caught:
        _ = state.state
    assert "Cart/c-1: the stored state at state.lines[0].sku: field required" in str(caught.value)
    assert "the stored state at state.limit: input should be a valid integer" in str(caught.value)
    assert state.get("limit") == "many"


def test_a_stored_key_that_is_no_field_any_more_stays_and_reaches_the_models_own_conversion():
    class Renamed(BaseModel):
        title: str = ""

        @model_validator(mode="before")
        @classmethod
        def _old(cls, data):
            return {**data, "title": data.get("title", data.get("name", ""))}

    state = buffer({"name": "old"}, model=Renamed)
    assert state.state.title == "old"
    assert (state.keys(), changes(state)) == (["name"], ({}, []))
    state.state.title = "new"
    assert plain(state.after()) == {"name": "old", "title": "new"}
    state = buffer({"name": "old"}, model=Renamed)
    kept = state.state
    state.clear()
    assert (kept.title, changes(state)) == ("", ({}, ["name"]))


def test_a_read_method_may_look_at_the_object_and_not_change_it():
    state = cart({"owner": " ann "}, writable=False)
    assert state.state.owner == "ann"
    assert changes(state) == ({}, [])
    state.state.tags.add("x")
    with pytest.raises(WrongContextError, match=r"a change of ctx.state.tags: a read method may not write; make it @C"):
        state.changes()


def test_a_large_attribute_is_refused():
    state = cart(limit=20)
    state.state.owner = "x" * 30
    with pytest.raises(PayloadTooLargeError, match="Cart/c-1: state 'owner' has 32 bytes"):
        state.changes()


def test_without_a_model_there_is_no_object():
    with pytest.raises(ConfigurationError, match=r"ctx.state needs a model of the state, as in entity\('Counter', st"):
        _ = buffer().state


def test_a_frozen_model_is_changed_by_set_only():
    class Frozen(BaseModel):
        model_config = ConfigDict(frozen=True)
        count: int = 0

    state = buffer({"count": 1}, model=Frozen)
    kept = state.state
    state.set("count", 2)
    assert kept.count == 2
    assert changes(state) == ({"count": 2}, [])

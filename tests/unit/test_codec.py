from __future__ import annotations

import enum
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from agnt5.codec import NEST_ROOM, dumps, loads
from agnt5.contracts.errors import PayloadTooLargeError, SerializationError

text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(text, inner, max_size=6),
    max_leaves=40,
)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Line:
    sku: str
    price: Decimal


class Order(BaseModel):
    id: uuid.UUID
    at: datetime
    day: date
    colour: Colour
    lines: list[Line]
    tags: set[str] = set()
    wait: timedelta = timedelta(0)
    meta: Any = None


def exact(value: Any) -> Any:
    """Equality that tells 1 from 1.0 and True, and 0.0 from -0.0."""
    if isinstance(value, dict):
        return {key: exact(part) for key, part in value.items()}
    if isinstance(value, list):
        return [exact(part) for part in value]
    return repr(value)


@given(plain)
def test_plain_data_comes_back_exactly(value):
    data = dumps(value, what="input")
    assert exact(loads(data)) == exact(value)
    assert exact(json.loads(data)) == exact(value)


@given(st.integers(-(10**400), 10**400))
def test_integers_keep_every_digit(number):
    assert loads(dumps({"n": number}, what="input")) == {"n": number}


@given(st.binary() | st.text() | st.floats() | st.lists(st.floats() | st.text() | st.binary()))
@settings(max_examples=300)
def test_a_value_is_either_readable_or_refused(value):
    try:
        data = dumps(value, what="input")
    except SerializationError:
        return
    json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    loads(data)


@given(
    st.builds(
        Order,
        id=st.uuids(),
        at=st.datetimes(timezones=st.just(UTC)),
        day=st.dates(),
        colour=st.just(Colour.RED),
        lines=st.lists(st.builds(Line, sku=text, price=st.decimals(allow_nan=False, allow_infinity=False)), max_size=3),
        tags=st.sets(text, max_size=3),
        wait=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=900)),
    )
)
def test_models_dataclasses_dates_enums_and_numbers_come_back_by_annotation(order):
    assert Order.model_validate(loads(dumps(order, what="input"))) == order


def test_what_json_calls_natural():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    value = {"at": at, "t": time(3, 4), "id": uuid.UUID(int=7), "c": Colour.RED, "b": b"hi"}
    assert loads(dumps(value, what="input")) == {
        "at": "2026-01-02T00:00:00Z",
        "t": "03:04:00",
        "id": "00000000-0000-0000-0000-000000000007",
        "c": "red",
        "b": "hi",
    }


def test_keys_become_text_and_an_annotation_brings_them_back():
    data = dumps({1: "a", 2: "b"}, what="input")
    assert loads(data) == {"1": "a", "2": "b"}
    assert TypeAdapter(dict[int, str]).validate_python(loads(data)) == {1: "a", 2: "b"}


class Conn:
    pass


@dataclass
class Holder:
    conn: Any


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (Conn(), "result", "Conn has no JSON form"),
        ({"items": [1, 2, 3, Holder(Conn())]}, "result.items[3].conn", "Conn has no JSON form"),
        ({"a b": (Conn(),)}, "result['a b'][0]", "Conn has no JSON form"),
        (Order.model_construct(lines=[], meta={"x": Conn()}), "result.meta.x", "Conn has no JSON form"),
        ({"x": [float("nan")]}, "result.x[0]", "nan has no JSON form; use None"),
        ({"x": float("-inf")}, "result.x", "-inf has no JSON form"),
        ({"x": "a\ud800"}, "result.x", "lone surrogate"),
        ({"\udfff": 1}, "result, key '\\udfff'", "lone surrogate"),
        ({"x": b"\xff"}, "result.x", "base64"),
        ({"x": 10**5000}, "result.x", "4,300 digits"),
        ({"f": print}, "result.f", "has no JSON form"),
        ({"t": Conn}, "result.t", "has no JSON form"),
        ({Conn(): 1}, "result, key", "Conn has no JSON form"),
    ],
)
def test_what_has_no_json_form_is_named_with_its_path_and_a_remedy(value, path, reason):
    with pytest.raises(SerializationError) as caught:
        dumps(value, what="result")
    assert str(caught.value).startswith(path)
    assert reason in str(caught.value)


def test_a_forgotten_await_is_called_so():
    async def fetch(): ...

    coro = fetch()
    with pytest.raises(SerializationError, match=r"^result\.page: a coroutine .* `await` is missing"):
        dumps({"page": coro}, what="result")
    coro.close()


def test_a_value_that_contains_itself_is_refused():
    value: list[Any] = [0]
    value.append({"again": value})
    with pytest.raises(SerializationError, match=r"^input\[1\]\.again: the value contains itself"):
        dumps(value, what="input")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_what_is_written_can_be_read_when_it_is_wrapped():
    deepest = max(depth for depth in range(100, 240) if accepted(nested(depth)))
    assert deepest >= 150
    data = dumps(nested(deepest), what="input")
    assert loads(b"[" * NEST_ROOM + data + b"]" * NEST_ROOM)
    with pytest.raises(SerializationError, match="levels deep; flatten"):
        dumps(nested(deepest + 5), what="input")


def accepted(value: Any) -> bool:
    try:
        dumps(value, what="input")
    except SerializationError:
        return False
    return True


def test_the_words_nan_and_infinity_are_welcome_in_text():
    value = ["NaN", "Infinity", "-Infinity", "7" * 9000, {"NaN": "1" * 5000}]
    assert loads(dumps(value, what="input")) == value


def test_a_long_number_is_found_wherever_it_stands():
    for offset in range(0, 5000, 377):
        with pytest.raises(SerializationError):
            dumps(["x" * offset, 10**4300], what="input")
        assert loads(dumps(["x" * offset, 10**4299], what="input"))


def test_a_value_over_its_limit_is_refused_with_both_sizes_and_a_remedy():
    assert dumps("x" * 8, what="input", limit=10) == b'"xxxxxxxx"'
    with pytest.raises(PayloadTooLargeError, match=r"^input: 1,002 bytes .* at most 1,001 .* pass its address"):
        dumps("x" * 1000, what="input", limit=1001)


@pytest.mark.parametrize("data", [b"", b"{", b"[NaN]", b"nul", b'"\xff"', b"\x80\x04K\x01."])
def test_broken_data_is_never_read(data):
    with pytest.raises(SerializationError, match="stored data is not JSON"):
        loads(data)

"""The rule of a flag: who gets what of it, for ever the same; and what is no rule."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.fitting import MisfitError, fit, parsed, plain
from agnt5.contracts.flags import check_key, check_unit, read_rule, share, variable_of

UNITS = [f"user-{number}" for number in range(20_000)]
NOBODY: dict[str, str] = {}


def rule(**data):
    return read_rule(data, "k")


def answers(key="k", units=UNITS, **data):
    made = read_rule(data, key)
    return [made.answer(key, unit, NOBODY) for unit in units]


# ---- who gets what

units = st.text(min_size=1, max_size=30)
percents = st.one_of(st.integers(0, 100), st.floats(0, 100))


@given(st.text(min_size=1, max_size=20), units, percents, percents)
def test_a_rollout_that_grows_keeps_those_that_were_in(key, unit, one, other):
    low, high = sorted([one, other])
    if rule(value=True, rollout=low).answer(key, unit, NOBODY):
        assert rule(value=True, rollout=high).answer(key, unit, NOBODY)


@given(units, st.lists(st.integers(0, 50), min_size=2, max_size=5), st.integers(1, 50))
def test_a_variant_that_grows_into_the_next_one_keeps_its_units(unit, weights, more):
    before = {f"v{n}": weight for n, weight in enumerate(weights)}
    before["v1"] += more
    after = before | {"v0": before["v0"] + more, "v1": before["v1"] - more}
    if rule(variants=before).answer("k", unit, NOBODY) == "v0":
        assert rule(variants=after).answer("k", unit, NOBODY) == "v0"


@given(
    units,
    st.dictionaries(st.text(min_size=1, max_size=200).filter(str.strip), st.floats(0, 1e6), min_size=1, max_size=8),
)
def test_a_variant_without_weight_is_nobodys(unit, variants):
    if sum(variants.values()):
        assert variants[rule(variants=variants).answer("k", unit, NOBODY)] > 0


def test_shares_are_even():
    """Chi-square over 20 cells: 43.8 is exceeded by one in a thousand sources of chance."""
    cells = Counter(int(share("experiment", unit) * 20) for unit in UNITS)
    expected = len(UNITS) / 20
    assert sum((cells[n] - expected) ** 2 / expected for n in range(20)) < 43.8


def test_experiments_are_independent_of_each_other():
    """Chi-square of two experiments on the same units, 4 x 4: 37.7 with 15 degrees of freedom."""
    cells = Counter((int(share("one", unit) * 4), int(share("two", unit) * 4)) for unit in UNITS)
    expected = len(UNITS) / 16
    assert sum((cells[a, b] - expected) ** 2 / expected for a in range(4) for b in range(4)) < 37.7


def test_units_keep_their_place_over_releases():
    assert share("checkout", "user-1") == pytest.approx(0.10459018, abs=1e-8)
    assert answers("experiment", ["a", "b", "c", "d"], variants={"control": 1, "treatment": 1}) == [
        "control", "treatment", "control", "treatment",
    ]  # fmt: skip


@pytest.mark.parametrize(("percent", "inside"), [(0, 0), (100, 20_000), (25, 5000), (0.5, 100)])
def test_a_rollout_is_as_large_as_it_says(percent, inside):
    found = Counter(answers(value="on", rollout=percent, otherwise="off"))
    assert abs(found["on"] - inside) < 0.03 * len(UNITS) * (0 < percent < 100) + 1
    assert found["on"] + found["off"] == len(UNITS)


def test_without_an_otherwise_those_outside_look_on():
    assert set(answers(value=True, rollout=50)) == {True, None}


def test_a_condition_wants_one_of_the_values_of_each_header():
    made = rule(value=1, when={"Tenant": ["acme", "beta"], "plan": "gold"})
    assert made.answer("k", "u", {"tenant": "beta", "plan": "gold"}) == 1
    assert made.answer("k", "u", {"tenant": "beta"}) is None
    assert made.answer("k", "u", {"tenant": "other", "plan": "gold"}) is None


def test_a_rule_is_its_data_again():
    for data in (
        {"value": False},
        {"value": {"a": [1, None]}},
        {"value": 2, "rollout": 12.5, "otherwise": 3, "when": {"tenant": ["acme"]}},
        {"variants": {"control": 50, "treatment": 50}},
    ):
        assert read_rule(data, "k").data() == data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "a rule is a JSON object"),
        ({}, "either a value or variants"),
        ("true", "a rule is a JSON object"),
        ({"valeu": 1}, "no 'valeu'; known are"),
        ({"value": None}, "unset the key"),
        ({"value": 1, "variants": {"a": 1}}, "either a value or variants"),
        ({"value": 1, "rollout": 101}, "from 0 to 100, found 101"),
        ({"value": 1, "rollout": True}, "from 0 to 100"),
        ({"value": 1, "rollout": "25"}, "from 0 to 100"),
        ({"value": 1, "otherwise": 2}, "needs a rollout"),
        ({"rollout": 5}, "either a value or variants"),
        ({"variants": {}}, "names with their weights"),
        ({"variants": ["a"]}, "names with their weights"),
        ({"variants": {"a": -1}}, "weight of variant 'a'"),
        ({"variants": {"a": True}}, "weight of variant 'a'"),
        ({"variants": {"a": float("inf")}}, "weight of variant 'a'"),
        ({"variants": {" ": 1}}, "name of a variant"),
        ({"variants": {"a": 0, "b": 0}}, "weight above 0"),
        ({"variants": {"a": 1}, "rollout": 5}, "neither a rollout"),
        ({"value": 1, "when": {"tenant": []}}, "when"),
        ({"value": 1, "when": {"tenant": [1]}}, "when"),
        ({"value": 1, "when": "acme"}, "when is at most"),
        ({"variants": {f"v{n}": 1 for n in range(101)}}, "1 to 100"),
    ],
)
def test_what_is_no_rule_is_told_by_name(data, says):
    with pytest.raises(InvalidInputError, match="config 'k'") as told:
        read_rule(data, "k")
    assert says in str(told.value)


@pytest.mark.parametrize("key", ["", "a b", "~version", "a\nb", "x" * 201, None, 7, "\ud800", "a|b", "a\u200bb"])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(InvalidInputError, match="config key"):
        check_key(key)


def test_keys_may_be_in_any_language():
    assert check_key("größe.東京/v1:x-y") == "größe.東京/v1:x-y"
    assert variable_of("checkout.new-tax") == "AGNT5_FLAG_CHECKOUT_NEW_TAX"
    assert variable_of("größe") == "AGNT5_FLAG_GRÖSSE"


@pytest.mark.parametrize("unit", ["", True, 1.5, b"u", "x" * 1001])
def test_a_unit_that_is_none_is_refused(unit):
    with pytest.raises(InvalidInputError, match="config unit"):
        check_unit(unit)


def test_a_number_and_its_text_are_one_unit():
    assert check_unit(17) == check_unit("17") == "17"


# ---- types


@pytest.mark.parametrize(
    ("value", "default", "fitting"),
    [
        ("true", False, True),
        (" On ", False, True),
        ("1", False, True),
        (1, False, True),
        ("off", True, False),
        (0, True, False),
        ("17", 1, 17),
        (17.0, 1, 17),
        ("-3", 1, -3),
        (3, 1.5, 3.0),
        ("2.5", 1.5, 2.5),
        ("text", "", "text"),
        ("[1, 2]", [], [1, 2]),
        ([1], (), [1]),
        ('{"a": 1}', {}, {"a": 1}),
        ("90s", timedelta(1), timedelta(seconds=90)),
        (1.5, timedelta(1), timedelta(seconds=1.5)),
        ({"a": [1]}, None, {"a": [1]}),
    ],
)
def test_a_value_is_read_as_the_type_of_the_default(value, default, fitting):
    found = fit(value, default)
    assert found == fitting
    assert type(found) is type(fitting)
    assert found is not value or not isinstance(value, list | dict)


@pytest.mark.parametrize(
    ("value", "default"),
    [
        ("maybe", False), (2, False), (1.0, False), ([], False), ("1.5", 1), (1.5, 1), (True, 1), ("x", 1),
        ("nan", 1.0), ("1e999", 1.0), (10**400, 1.0), (False, 1.0), (7, ""), (True, ""), ("{}", []), ({}, []),
        ("[1", []), ([1], {}), ("soon", timedelta(1)), (-1, timedelta(1)), (True, timedelta(1)),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_no_value(value, default):
    with pytest.raises(MisfitError):
        fit(value, default)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", "yes", "0x10", "[" * 100_000])
def test_what_is_no_json_is_text(text):
    assert parsed(text) == text


def test_a_duration_is_recorded_in_seconds():
    assert plain(timedelta(minutes=1.5)) == 90.0
    assert fit(plain(timedelta(minutes=1.5)), timedelta(0)) == timedelta(minutes=1.5)

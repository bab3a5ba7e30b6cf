"""When a failed attempt is tried again."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnt5.contracts.errors import (
    InvalidInputError,
    LLMError,
    LLMRequestError,
    NonRetryableError,
    SerializationError,
    TaskFailedError,
)
from agnt5.retry import BackoffPolicy, RetryPolicy


class CardDeclined(Exception):
    pass


class Stolen(CardDeclined):
    pass


def delays(policy: RetryPolicy, count: int = 6) -> list[int | None]:
    return [policy.delay_ms(failures, ValueError(), 0.0) for failures in range(1, count + 1)]


def test_the_default_is_three_attempts_with_doubling_waits():
    assert delays(RetryPolicy()) == [1000, 2000, None, None, None, None]


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (BackoffPolicy(), [500, 1000, 2000, 3000, 3000, 3000]),
        (BackoffPolicy("exponential", 3), [500, 1500, 3000, 3000, 3000, 3000]),
        (BackoffPolicy("linear"), [500, 1000, 1500, 2000, 2500, 3000]),
        (BackoffPolicy("constant"), [500] * 6),
    ],
)
def test_growth_up_to_the_longest_interval(backoff, expected):
    policy = RetryPolicy(max_attempts=None, initial_interval=0.5, max_interval=timedelta(seconds=3))
    assert delays(policy.with_backoff(backoff)) == expected


def test_one_attempt_is_no_retry():
    assert delays(RetryPolicy(max_attempts=1), 1) == [None]


def test_jitter_shortens_a_wait_by_its_share():
    policy = RetryPolicy(jitter=0.5)
    assert [policy.delay_ms(1, "ValueError", fraction) for fraction in (0.0, 0.5, 1.0)] == [1000, 750, 500]


@pytest.mark.parametrize(
    "error", [NonRetryableError("x"), SerializationError("x"), "InvalidInputError", "NonRetryableError"]
)
def test_some_errors_are_never_retried(error):
    assert RetryPolicy(max_attempts=None).delay_ms(1, error, 0.0) is None


@pytest.mark.parametrize(
    "listed", [CardDeclined, "CardDeclined", f"{__name__}.CardDeclined", "other.place.CardDeclined"]
)
def test_errors_that_are_listed_are_not_retried(listed):
    policy = RetryPolicy(non_retryable=(listed,))
    assert policy.delay_ms(1, "CardDeclined", 0.0) is None
    assert policy.delay_ms(1, TaskFailedError("x", type="CardDeclined"), 0.0) is None
    assert policy.delay_ms(1, ValueError(), 0.0) == 1000
    assert policy.delay_ms(1, "ValueError", 0.0) == 1000
    if listed != "other.place.CardDeclined":
        assert policy.delay_ms(1, Stolen(), 0.0) is None
        assert RetryPolicy.from_data(policy.to_data()).delay_ms(1, Stolen(), 0.0) is None


def test_a_single_class_may_stand_without_a_tuple():
    assert RetryPolicy(non_retryable=CardDeclined).non_retryable == (CardDeclined,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": 2.5}, "max_attempts"),
        ({"initial_interval": -1}, "initial_interval"),
        ({"initial_interval": None}, "initial_interval"),
        ({"max_interval": "1m"}, "max_interval"),
        ({"initial_interval": 61}, "shorter than initial_interval"),
        ({"jitter": 1.5}, "jitter"),
        ({"jitter": float("nan")}, "jitter"),
        ({"non_retryable": (int,)}, "non_retryable"),
        ({"non_retryable": ("",)}, "non_retryable"),
        ({"backoff": "linear"}, "BackoffPolicy"),
    ],
)
def test_wrong_policies_are_refused_with_what_is_wrong(options, message):
    with pytest.raises(InvalidInputError, match=message):
        RetryPolicy(**options)


@pytest.mark.parametrize("options", [{"type": "quadratic"}, {"multiplier": 0.5}, {"multiplier": float("nan")}])
def test_wrong_backoffs_are_refused(options):
    with pytest.raises(InvalidInputError, match="backoff"):
        BackoffPolicy(**options)


def test_seconds_and_timedeltas_are_one():
    assert RetryPolicy(initial_interval=1.5) == RetryPolicy(initial_interval=timedelta(seconds=1.5))


policies = st.builds(
    RetryPolicy,
    max_attempts=st.none() | st.integers(1, 50),
    initial_interval=st.integers(0, 60),
    max_interval=st.integers(60, 3600),
    jitter=st.floats(0, 1),
    backoff=st.builds(
        BackoffPolicy, st.sampled_from(["exponential", "linear", "constant"]), st.floats(1, 1000, allow_nan=False)
    ),
)


@given(policies, st.integers(1, 10_000), st.floats(0, 1))
def test_a_wait_is_never_over_the_longest_and_the_policy_survives_json(policy, failures, fraction):
    assert RetryPolicy.from_data(json.loads(json.dumps(policy.to_data()))) == policy
    delay = policy.delay_ms(failures, "ValueError", fraction)
    if delay is None:
        assert policy.max_attempts is not None and failures >= policy.max_attempts
    else:
        assert 0 <= delay <= policy.max_ms
        assert delay >= int(min(policy.initial_ms, policy.max_ms) * (1 - policy.jitter))


def test_an_error_that_asks_for_a_wait_is_waited_for_at_least_so_long():
    policy = RetryPolicy(max_interval=5)
    assert policy.delay_ms(1, LLMError("busy", retry_after=90.5), 1.0) == 90_500
    assert policy.delay_ms(1, LLMError("busy", retry_after=0.2), 0.0) == 1000
    assert policy.delay_ms(1, LLMError("busy"), 0.0) == 1000
    assert policy.delay_ms(3, LLMError("busy", retry_after=90), 0.0) is None
    assert policy.delay_ms(1, LLMRequestError("no", retry_after=90), 0.0) is None


@pytest.mark.parametrize("asked", ["3", None, -1, True, float("nan"), float("inf"), 1e12])
def test_an_attribute_of_that_name_that_is_no_wait_counts_for_nothing(asked):
    error = CardDeclined()
    error.retry_after = asked
    assert RetryPolicy().delay_ms(1, error, 0.0) == 1000

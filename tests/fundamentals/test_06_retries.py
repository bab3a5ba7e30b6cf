"""Lesson 6. What fails is tried again, as its policy says; what cannot succeed is not."""

import asyncio

import pytest

from agnt5 import (
    BackoffPolicy,
    Client,
    Context,
    NonRetryableError,
    RetryPolicy,
    RunTimeoutError,
    TaskFailedError,
    function,
    workflow,
)

SOON = RetryPolicy(max_attempts=4, initial_interval=0.02, backoff=BackoffPolicy("constant"))


@function(retries=SOON)
async def works_the_third_time(ctx: Context) -> int:
    if ctx.attempt < 2:
        raise ConnectionError("not yet")
    return ctx.attempt


@function(retries=SOON)
async def never_works(ctx: Context) -> None:
    raise ConnectionError(f"attempt {ctx.attempt}")


@function(retries=SOON)
async def cannot_work(ctx: Context) -> None:
    raise NonRetryableError(f"attempt {ctx.attempt}")


@function(retries=RetryPolicy(max_attempts=4, non_retryable=(KeyError,)))
async def missing_key(ctx: Context) -> None:
    {}["key"]


@function(retries=1, timeout=0.1)
async def takes_too_long(ctx: Context) -> None:
    await asyncio.sleep(60)


@workflow(run_timeout=0.3)
async def waits_too_long(ctx: Context) -> None:
    await ctx.signal("never")


@workflow
async def asks_for_more(ctx: Context) -> int:
    return await ctx.task(works_the_third_time, retries=SOON)


@workflow
async def asks_for_less(ctx: Context) -> int:
    return await ctx.task(works_the_third_time, retries=1)


def test_a_function_is_tried_again(client: Client):
    run = client.start(works_the_third_time)
    assert run.result(timeout=20) == 2
    assert run.state().attempt == 2


def test_a_function_fails_after_its_last_attempt(client: Client):
    with pytest.raises(TaskFailedError, match="ConnectionError: attempt 3"):
        client.start(never_works).result(timeout=20)


def test_some_errors_are_final(client: Client):
    with pytest.raises(TaskFailedError, match="NonRetryableError: attempt 0"):
        client.start(cannot_work).result(timeout=20)
    with pytest.raises(TaskFailedError, match="KeyError: 'key'"):
        client.start(missing_key).result(timeout=20)


def test_an_attempt_has_a_timeout(client: Client):
    with pytest.raises(RunTimeoutError, match="attempt 0 took longer than 100 ms"):
        client.start(takes_too_long).result(timeout=20)


def test_a_run_has_a_timeout_over_all(client: Client):
    with pytest.raises(RunTimeoutError, match="run timeout"):
        client.start(waits_too_long).result(timeout=20)


def test_a_caller_has_a_say(client: Client):
    assert client.start(asks_for_more).result(timeout=20) == 2
    with pytest.raises(TaskFailedError, match="not yet"):
        client.start(asks_for_less).result(timeout=20)

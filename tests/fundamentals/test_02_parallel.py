"""Lesson 2. A task starts when it is called; await several together, by order, by name, or with asyncio."""

import asyncio

import pytest

from agnt5 import Client, Context, TaskFailedError, function, workflow


@function(retries=1)
async def square(ctx: Context, number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


@workflow
async def in_order(ctx: Context, numbers: list[int]) -> list[int]:
    return await ctx.parallel(*(ctx.task(square, number=number) for number in numbers))


@workflow
async def by_name(ctx: Context) -> dict:
    return await ctx.gather(two=ctx.task(square, number=2), three=ctx.task(square, number=3))


@workflow
async def with_asyncio(ctx: Context) -> list[int]:
    first = ctx.task(square, number=4)
    second = asyncio.create_task(twice(ctx))
    return await asyncio.gather(first, second)


async def twice(ctx: Context) -> int:
    once = await ctx.task(square, number=2)
    return await ctx.task(square, number=once)


@workflow
async def with_errors(ctx: Context) -> list:
    results = await ctx.parallel(ctx.task(square, number=2), ctx.task(square, number=-1), return_exceptions=True)
    return [str(result) if isinstance(result, TaskFailedError) else result for result in results]


@workflow
async def with_default(ctx: Context) -> int:
    return await ctx.task(square, number=-1, default=0)


def test_parallel_gives_results_in_order(client: Client):
    assert client.start(in_order, {"numbers": list(range(50))}).result(timeout=20) == [n * n for n in range(50)]


def test_gather_gives_results_by_name(client: Client):
    assert client.start(by_name).result(timeout=20) == {"two": 4, "three": 9}


def test_asyncio_works_in_workflows(client: Client):
    assert client.start(with_asyncio).result(timeout=20) == [16, 16]


def test_the_first_error_is_raised_once_all_have_ended(client: Client):
    run = client.start(in_order, {"numbers": [1, -2, -3]})
    with pytest.raises(TaskFailedError, match="-2 is negative"):
        run.result(timeout=20)


def test_errors_can_be_results(client: Client):
    four, error = client.start(with_errors).result(timeout=20)
    assert four == 4
    assert "ValueError: -1 is negative" in error


def test_a_default_takes_the_place_of_a_failed_task(client: Client):
    assert client.start(with_default).result(timeout=20) == 0

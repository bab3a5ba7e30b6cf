"""Lesson 14. A workflow may live forever: `ctx.continue_as_new` begins its next life with a short memory."""

import pytest

from agnt5 import Client, Context, InvalidInputError, workflow


@workflow
async def counter(ctx: Context, total: int = 0) -> int:
    """Adds up signals, three in each life, until it gets a zero."""
    for _ in range(3):
        number = await ctx.signal("add")
        if number == 0:
            return total
        total += number
    return ctx.continue_as_new(total=total)


@workflow
async def chain(ctx: Context, left: int, names: list[str]) -> list[str]:
    names.append(await ctx.task(name_of, left=left))
    if left:
        ctx.continue_as_new(left=left - 1, names=names)
    return names


@workflow
async def name_of(ctx: Context, left: int) -> str:
    return ctx.run_id.rpartition("~")[2]


def test_a_run_keeps_its_id_and_its_signals_over_its_lives(client: Client):
    run = client.start(counter)
    for number in [*range(1, 11), 0]:
        run.signal("add", number)
    assert run.result(timeout=20) == 55
    assert run.state().generation == 3


def test_children_of_each_life_have_ids_of_their_own(client: Client):
    run = client.start(chain, {"left": 2, "names": []})
    assert run.result(timeout=20) == ["1", "1.1", "2.1"]


def test_arguments_of_the_next_life_are_checked(client: Client):
    with pytest.raises(InvalidInputError):
        client.start(counter, {"total": "many"})

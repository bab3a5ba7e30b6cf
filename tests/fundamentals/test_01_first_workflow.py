"""Lesson 1. A workflow is an `async def` that calls functions; a client starts it and gets its result."""

from dataclasses import dataclass
from datetime import date

import pytest

from agnt5 import Client, Context, InvalidInputError, function, workflow


@function
async def greet(ctx: Context, name: str) -> str:
    return f"Hello, {name}!"


@workflow
async def welcome(ctx: Context, name: str) -> dict:
    greeting = await ctx.task(greet, name=name)
    return {"greeting": greeting, "run": ctx.run_id}


def test_a_workflow_calls_a_function_and_gives_a_result(client: Client):
    run = client.start(welcome, {"name": "Ann"})
    assert run.result(timeout=20) == {"greeting": "Hello, Ann!", "run": run.id}
    assert run.status() == "completed"


def test_a_handler_has_an_address_by_which_programs_without_its_code_start_it(client: Client):
    run = client.start("test_01_first_workflow.welcome", {"name": "Bob"})
    assert run.result(timeout=20)["greeting"] == "Hello, Bob!"


def test_a_function_is_a_run_of_its_own_when_it_is_started_so(client: Client):
    assert client.start(greet, "Cem").result(timeout=20) == "Hello, Cem!"


# A function may be a plain `def`: it runs in a thread, so that it may block.


@function
def count_letters(ctx: Context, text: str) -> int:
    return len(text)


@function
def countdown(ctx: Context, start: int):
    yield from range(start, 0, -1)


def test_a_plain_def_is_a_function_too(client: Client):
    assert client.start(count_letters, {"text": "hello"}).result(timeout=20) == 5


def test_a_generator_results_in_the_list_of_what_it_yields(client: Client):
    assert client.start(countdown, 3).result(timeout=20) == [3, 2, 1]


# Annotations are kept: what comes in and what goes out has the type that is written there.


@dataclass
class Invoice:
    number: int
    due: date


@function
async def move_due_date(ctx: Context, invoice: Invoice, days: int = 7) -> Invoice:
    assert isinstance(invoice, Invoice)
    return Invoice(invoice.number, date.fromordinal(invoice.due.toordinal() + days))


def test_annotations_say_what_types_values_have(client: Client):
    run = client.start(move_due_date, {"invoice": {"number": 1, "due": "2026-01-30"}})
    assert run.result(timeout=20) == Invoice(1, date(2026, 2, 6))


def test_input_that_does_not_fit_starts_nothing(client: Client):
    with pytest.raises(InvalidInputError, match="'days'.*integer"):
        client.start(move_due_date, {"invoice": {"number": 1, "due": "2026-01-30"}, "days": "many"})
    with pytest.raises(InvalidInputError, match="nobody"):
        client.start(greet, {"name": "Ann", "nobody": 1})


def test_runs_can_be_listed(client: Client):
    run = client.start(welcome, {"name": "Dora"})
    run.result(timeout=20)
    newest = client.runs(status="completed", handler=welcome, limit=1)[0]
    assert (newest.id, newest.input) == (run.id, {"name": "Dora"})

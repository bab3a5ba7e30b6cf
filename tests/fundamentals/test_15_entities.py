"""Lesson 15. Entities keep state under a key. Writes of one entity run one after the other; reads wait for nobody."""

import asyncio

import pytest
from pydantic import BaseModel

from agnt5 import (
    Client,
    Context,
    EntityDeadlockError,
    EntityNotFoundError,
    InvalidInputError,
    NonRetryableError,
    TaskFailedError,
    entity,
    function,
    workflow,
)

Account = entity("Account")


@Account.write
async def deposit(ctx: Context, amount: int) -> int:
    balance = await ctx.get("balance", 0)
    await asyncio.sleep(0)  # others run here, but no other write of this account
    ctx.set("balance", balance + amount)
    return balance + amount


@Account.write
async def withdraw(ctx: Context, amount: int) -> int:
    balance = await ctx.get("balance", 0)
    ctx.set("balance", balance - amount)
    if amount > balance:
        raise NonRetryableError(f"only {balance} left")
    return balance - amount


@Account.read
async def balance(ctx: Context) -> int:
    return await ctx.get("balance", 0)


@Account.read
async def forgetful_read(ctx: Context) -> None:
    ctx.set("balance", 0)


@Account.write
async def close(ctx: Context) -> list[str]:
    keys = await ctx.keys()
    ctx.clear()
    return keys


@Account.write
async def pay(ctx: Context, to: str, amount: int) -> int:
    """Holds its own lock while it calls: two accounts that pay each other at once are noticed."""
    ctx.set("balance", await ctx.get("balance", 0) - amount)
    return await ctx.entity("Account", to).deposit(amount)


@entity
class Basket:
    """A class may be a type of entities too; its `State` is one object."""

    class State(BaseModel):
        lines: dict[str, int] = {}
        discount: int = 0

    @entity.write
    async def put(self, ctx: Context, sku: str, quantity: int = 1) -> int:
        ctx.state.lines[sku] = ctx.state.lines.get(sku, 0) + quantity
        return self.count(ctx.state)

    @entity.write
    async def reduce(self, ctx: Context, percent: str) -> None:
        ctx.state.discount = percent

    @entity.read
    async def lines(self, ctx: Context) -> dict[str, int]:
        return ctx.state.lines

    def count(self, state: State) -> int:
        return sum(state.lines.values())


@entity.write
async def note(ctx: Context, text: str) -> dict:
    """Belongs to the type that is named after this module: Test15Entities."""
    ctx.set("notes", [*await ctx.get("notes", []), text])
    return {"key": ctx.object_id, "method": ctx.method_name, "type": ctx.component_type}


@entity.write
async def flaky(ctx: Context) -> int:
    ctx.set("attempts", await ctx.get("attempts", 0) + 1)
    if ctx.attempt == 0:
        raise ConnectionError("try again")
    return await ctx.get("attempts")


@function
async def shop(ctx: Context, basket: str) -> dict:
    await ctx.entity(Basket, basket).put("tea", quantity=2)
    await ctx.entity("Basket", basket).put("milk")
    return await ctx.entity(Basket, basket).lines()


@workflow
async def move(ctx: Context, source: str, target: str, amount: int) -> list[int]:
    await ctx.entity(Account, source).withdraw(amount)
    return await ctx.parallel(ctx.entity(Account, target).deposit(amount), ctx.entity(Account, source).balance())


def test_an_entity_keeps_its_state_between_calls(client: Client):
    account = client.entity("Account", "ann")
    assert account.balance() == 0
    assert [account.deposit(5), account.deposit(amount=7)] == [5, 12]
    assert account.balance() == 12
    assert client.entity("Account", "bob").balance() == 0


def test_writes_of_one_entity_take_turns(client: Client):
    runs = [client.start(deposit, {"amount": 1}, key="crowd") for _ in range(50)]
    assert sorted(run.result(timeout=30) for run in runs) == list(range(1, 51))
    assert client.entity("Account", "crowd").balance() == 50


def test_a_method_that_fails_changes_nothing(client: Client):
    account = client.entity("Account", "cid")
    account.deposit(5)
    with pytest.raises(TaskFailedError, match="only 5 left"):
        account.withdraw(9)
    assert account.balance() == 5


def test_a_method_that_is_tried_again_begins_with_the_old_state(client: Client):
    assert client.entity("Test15Entities", "f-1").flaky() == 1


def test_a_read_cannot_write(client: Client):
    with pytest.raises(TaskFailedError, match="a read method may not write; make it @Account.write"):
        client.start(forgetful_read, key="dan").result(timeout=20)


def test_functions_and_workflows_call_entities(client: Client):
    assert client.start(shop, {"basket": "b-1"}).result(timeout=20) == {"tea": 2, "milk": 1}
    client.entity("Account", "eve").deposit(10)
    moved = client.start(move, {"source": "eve", "target": "fay", "amount": 4})
    assert moved.result(timeout=20) == [4, 6]


def test_a_class_has_its_state_as_one_object_that_is_checked(client: Client):
    basket = client.entity(Basket, "b-2")
    assert [basket.put("tea"), basket.put("tea", 3)] == [1, 4]
    with pytest.raises(TaskFailedError, match=r"Basket/b-2: the new state at state.discount: input should be a valid"):
        basket.reduce("a lot")
    assert client.entity_state(Basket, "b-2").state == {"lines": {"tea": 4}}


def test_a_method_of_a_module_belongs_to_the_type_of_its_name(client: Client):
    told = client.entity("Test15Entities", "n-1").note("hello")
    assert told == {"key": "n-1", "method": "note", "type": "entity"}


def test_a_chain_of_calls_that_comes_back_is_noticed_at_once(client: Client):
    with pytest.raises(EntityDeadlockError, match="Account/gus"):
        client.start(pay, {"to": "gus", "amount": 1}, key="gus").result(timeout=20)
    assert client.entity("Account", "gus").balance() == 0


def test_state_can_be_looked_at_and_deleted(client: Client):
    account = client.entity("Account", "hal")
    account.deposit(3)
    state = client.entity_state("Account", "hal")
    assert (state.type, state.key, state.state, state.writes, state.holder) == (
        "Account",
        "hal",
        {"balance": 3},
        1,
        None,
    )
    assert "hal" in [one.key for one in client.entities("Account")]
    client.delete_entity("Account", "hal")
    with pytest.raises(EntityNotFoundError):
        client.entity_state("Account", "hal")
    account.deposit(4)
    assert account.close() == ["balance"]
    assert account.balance() == 0


def test_arguments_are_checked_before_anything_starts(client: Client):
    with pytest.raises(InvalidInputError, match=r"Account.deposit: parameter 'amount'"):
        client.entity("Account", "ida").deposit("much")
    with pytest.raises(InvalidInputError):
        client.entity("Account", "").deposit(1)

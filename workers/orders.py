"""Orders: reserve, wait for the payment, ship; and take back what was done when a later step fails for good."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from agnt5 import Context, NonRetryableError, RetryPolicy, TaskFailedError, function, workflow

PATIENT = RetryPolicy(max_attempts=5)
PAYMENT_TIMEOUT_MS = 15 * 60 * 1000

STOCK = {"book": 20, "lamp": 3, "sofa": 0}
"""What a real service would ask its warehouse for."""


class Item(BaseModel):
    """A line of an order."""

    sku: str
    quantity: int = Field(gt=0, le=1000)


class OutOfStockError(NonRetryableError):
    """There is not enough of an article; trying again makes no more of it."""


@workflow
async def fulfil(ctx: Context, order_id: str, items: list[Item], hold_ms: int = 0) -> dict[str, Any]:
    """Reserve each item, wait for the signal `paid` (at most 15 minutes), ship; else release what was reserved.

    `hold_ms` delays the shipping, durably: the time in which a customer may still call it off.
    """
    reserved = await ctx.parallel(
        *(ctx.task(reserve, order_id=order_id, item=item) for item in items), return_exceptions=True
    )
    try:
        for one in reserved:
            if isinstance(one, BaseException):
                raise one
        payment = await ctx.signal("paid", timeout_ms=PAYMENT_TIMEOUT_MS)
        if payment is None:
            await release_all(ctx, reserved)
            return {"order_id": order_id, "status": "expired"}
        await ctx.timer(delay_ms=hold_ms)
        tracking = await ctx.task(ship, order_id=order_id, reservations=reserved)
    except (TaskFailedError, asyncio.CancelledError):
        await release_all(ctx, reserved)
        raise
    return {"order_id": order_id, "status": "shipped", "tracking": tracking, "payment": payment}


async def release_all(ctx: Context, reserved: list[Any]) -> None:
    """Compensate: give back every reservation that was made."""
    made = [one for one in reserved if isinstance(one, str)]
    await ctx.parallel(*(ctx.task(release, reservation=reservation) for reservation in made))


@function(retries=PATIENT, timeout=timedelta(seconds=30))
async def reserve(ctx: Context, order_id: str, item: Item) -> str:
    """Reserve one item. The reservation's name is the same in every attempt, so that it is made once."""
    if STOCK.get(item.sku, 0) < item.quantity:
        raise OutOfStockError(f"{item.sku}: {item.quantity} wanted, {STOCK.get(item.sku, 0)} in stock")
    ctx.log().info("reserved %d x %s", item.quantity, item.sku)
    return f"{order_id}:{item.sku}:{item.quantity}"


@function(retries=PATIENT, timeout=timedelta(seconds=30))
async def release(ctx: Context, reservation: str) -> None:
    """Give a reservation back; doing it twice does no harm."""
    ctx.log().info("released %s", reservation)


@function(retries=PATIENT, timeout=timedelta(minutes=2))
async def ship(ctx: Context, order_id: str, reservations: list[str]) -> str:
    """Hand the parcel over. The label is a step: a later attempt prints none anew."""
    label: str = await ctx.step("print label", lambda: f"LABEL-{order_id}-{ctx.uuid().hex[:8]}")
    ctx.log().info("shipped %d reservations as %s", len(reservations), label)
    return label

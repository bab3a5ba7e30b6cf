"""The workflows that made the journals of format 1. They never change: they stand for users' code of that time."""

from __future__ import annotations

import asyncio

from agnt5.contracts.approvals import ApprovalTerms
from agnt5.contracts.errors import RunCancelledError, RunNotFoundError, StepFailedError, TaskFailedError


async def order(machine, started):
    """Tasks, steps, timers, signals, a patch, values by chance."""
    ref = machine.start_task("stock.reserve", started.input, key="reserve")
    charge = machine.start_task("pay.charge", {"sum": 5}, options={"priority": 3})
    reserved, charged = await asyncio.gather(ref.future, charge.future)
    rate = await machine.step("rate", lambda: 1.5)
    try:
        await machine.step("check", lambda: None)
    except StepFailedError as error:
        checked = error.type
    await asyncio.sleep(0.5)
    async with asyncio.timeout(60):
        paid = await machine.await_signal("paid")
    try:
        await asyncio.wait_for(machine.await_signal("reviewed"), 30)
    except TimeoutError:
        reviewed = None
    await machine.emit_signal("shipped", "audit-1", {"order": 17})
    try:
        await machine.emit_signal("shipped", "audit-2", None)
    except RunNotFoundError as error:
        audit = str(error)
    patched = machine.patched("new-tax")
    await machine.start_timer(machine.now_ms() + 1_000, "cool-off")
    drawn = [machine.random().random(), str(machine.uuid())]
    return [reserved, charged, rate, checked, paid, reviewed, audit, patched, drawn, machine.now_ms()]


async def cancelled(machine, _started):
    """A cancel, its clean-up, and a child that is cancelled."""
    long = machine.start_task("video.encode", None)
    try:
        await asyncio.shield(long.future)
    except asyncio.CancelledError:
        machine.cancel_task(long)
        try:
            await long.future
        except RunCancelledError:
            await machine.start_task("video.clean", None).future
        raise


async def reopened(machine, _started):
    """Failed, and re-opened by an operator; an earlier failure was handled."""
    try:
        await machine.start_task("pay.charge", "card 1").future
    except TaskFailedError:
        await machine.start_task("pay.charge", "card 2").future
    loaded = await machine.step("load", lambda: 7)
    return loaded, await machine.start_task("orders.ship", None, key="7").future


async def rounds(machine, started):
    """A later generation, with signals carried over, that goes on as new."""
    total = started.input["total"]
    for _ in range(2):
        total += await machine.await_signal("add")
    machine.continue_as_new({"total": total})


async def approvals(machine, _started):
    """Two people approve, one wait is taken back, one runs out of time."""
    both = ApprovalTerms(
        name="deploy",
        payload={"version": 7},
        required_roles=["admin", "ops"],
        quorum=2,
        form={"type": "object"},
        due_ms=machine.now_ms() + 3_600_000,
        requester="rob",
    )
    decided = await machine.request_approval(both).future
    try:
        async with asyncio.timeout(1):
            await machine.request_approval(ApprovalTerms(name="quick", assignees=["ann"], self_approval=True)).future
    except TimeoutError:
        late = await machine.request_approval(ApprovalTerms(name="late", due_ms=machine.now_ms() + 1)).future
    return [(vote["approver"], vote["at_ms"]) for vote in decided["votes"]], decided["data"], late["decision"]


async def configured(machine, _started):
    """Config values, of the run's tree, of a unit, of nothing, and a fresh one."""
    read = [
        machine.read_config("new_tax", "", lambda: None),
        machine.read_config("group", "user-7", lambda: None),
        machine.read_config("limits", "", lambda: None),
        machine.read_config("nothing", "", lambda: 1),
    ]
    await asyncio.sleep(0.5)
    again = machine.read_config("new_tax", "", lambda: None)
    return [*read, again, machine.read_config("new_tax", "", lambda: None, fresh=True)]

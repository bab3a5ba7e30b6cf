"""`AsyncClient`: start runs, read them, signal them. For web apps, scripts and tests on asyncio."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import repeat
from typing import Any

from agnt5 import codec
from agnt5.client import approvals as asked
from agnt5.client import budgets as spending
from agnt5.client import configuration as configured
from agnt5.client import entities as stored
from agnt5.client.approvals import ApprovalState
from agnt5.client.budgets import BudgetState
from agnt5.client.catalog import Budgets, HandlerLike, address_of
from agnt5.client.configuration import ConfigAnswer, ConfigChange, ConfigState
from agnt5.client.entities import EntityCaller, EntityState
from agnt5.client.reader import RunReader
from agnt5.client.run import AsyncRun
from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import entity_name
from agnt5.contracts.traces import TRACEPARENT
from agnt5.replay.events import SignalReceived
from agnt5.runtime.encoding import encode_checked
from agnt5.runtime.starting import start_run
from agnt5.sdk.entities import type_name
from agnt5.telemetry.spans import outgoing

BATCH = 1000


class AsyncClient(RunReader):
    """Starts and reads runs. Connects on first use; one for each event loop and process is enough.

    `redis_url` and `broker_url` default to AGNT5_REDIS_URL and AGNT5_BROKER_URL; other keyword arguments are those
    of `Settings`. Use it in `async with`, or call `close()`.

    Every change it makes is safe to repeat: a call whose answer was lost can be made again.
    """

    # ---- starting

    async def start(  # noqa: PLR0913 - what there is to say about a start
        self,
        handler: HandlerLike,
        input: Any = None,  # noqa: A002 - one word for one thing
        *,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        priority: int | None = None,
        run_timeout: float | timedelta | None = None,
        requester: str = "",
        budget: Budgets = (),
    ) -> AsyncRun:
        """Start a run of a handler: a decorated function, or `"service.handler"`.

        `id` makes it idempotent: the same id with the same input is the same run, also much later; with another
        input or handler `DuplicateRunError` is raised. Once this returns, the run is durable. `requester` is the
        person who asks for it: whoever that is does not approve what the run asks approval for. `budget` limits what
        all calls of language models in its tree may spend together: its own, its children's, and those of entities.

        A method of an entity (`"Counter.add"`) needs the `key` of the entity; its run's id is `Counter/<key>~@<id>`.

        Raises `HandlerNotFoundError` when neither this process nor any worker has the handler, `InvalidInputError`,
        `SerializationError`, `PayloadTooLargeError`; nothing was started then. `StoreUnavailableError`: unknown
        whether it was; repeat with the same id.
        """
        store, dispatcher, _ = await self._open()
        known = await self.catalog.check(handler, input)
        request = self.catalog.request(
            handler, input, run_id=id, key=key, headers=headers, priority=priority, run_timeout=run_timeout,
            requester=requester, budget=budget,
        )  # fmt: skip
        created = await start_run(store, self.settings, request, known)
        dispatcher.send(created.out)
        return AsyncRun(self, request.run_id, known, fresh=created.fresh)

    async def start_many(
        self,
        handler: HandlerLike,
        inputs: Iterable[Any],
        *,
        ids: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
        priority: int | None = None,
        budget: Budgets = (),
    ) -> list[AsyncRun]:
        """Start a run for each input, thousands a second. `ids`, where given, has one id for each.

        As `start` in all else; a `budget` without a key limits each run's tree by itself. All inputs are checked before
        the first run starts; when the connection fails half-way, repeating the call with the same ids starts what is
        missing.
        """
        store, dispatcher, _ = await self._open()
        inputs = list(inputs)
        if ids is not None and len(ids) != len(inputs):
            raise InvalidInputError(f"start_many: {len(inputs)} inputs and {len(ids)} ids; one id for each is needed")
        known = None
        what, limit = f"input of {address_of(handler)}", self.settings.payload_limit
        for value in inputs:
            known = await self.catalog.check(handler, value)
            codec.dumps(value, what=what, limit=limit)
        requests = [
            self.catalog.request(handler, value, run_id=run_id, headers=headers, priority=priority, budget=budget)
            for value, run_id in zip(inputs, ids if ids is not None else repeat(None, len(inputs)), strict=True)
        ]
        for at in range(0, len(requests), BATCH):
            pending = [start_run(store, self.settings, request, known) for request in requests[at : at + BATCH]]
            for created in await asyncio.gather(*pending):
                dispatcher.send(created.out)
        return [AsyncRun(self, request.run_id, known) for request in requests]

    async def handlers(self) -> dict[str, dict[str, Any]]:
        """What workers have announced: address -> `{kind, doc, parameters: [{name, required, schema}], ...}`."""
        return await self.catalog.learn()

    async def get(self, run_id: str) -> AsyncRun:
        """The run of an id. Raises `RunNotFoundError`."""
        await self.state(run_id)
        return AsyncRun(self, run_id)

    # ---- entities

    def entity(
        self, entity_type: Any, key: str, *, timeout: float | timedelta | None = None
    ) -> EntityCaller[Awaitable[Any]]:
        """An entity to call: `await client.entity("Counter", "c-1").add(5)` is the method's result.

        `entity_type` is a name, an `EntityType` or a class decorated with @entity. Each call is a run of its own;
        writes of one key are done one after the other, in the order in which they came. `timeout` bounds the wait for
        a result, in seconds. Raises what `start` and `AsyncRun.result` raise.
        """
        return stored.caller(self, entity_type, key, timeout)

    async def entities(self, entity_type: Any = None, *, limit: int = 50) -> list[EntityState]:
        """Entities that have state, of one type or of all, the latest change first."""
        store, _, _ = await self._open()
        return await stored.newest(store, None if entity_type is None else type_name(entity_type), limit)

    async def entity_state(self, entity_type: Any, key: str) -> EntityState:
        """What an entity holds, and who holds it. Raises `EntityNotFoundError`."""
        store, _, _ = await self._open()
        return await stored.one(store, entity_type, key)

    async def delete_entity(self, entity_type: Any, key: str) -> None:
        """Delete an entity's state. Raises `EntityBusyError` while a call has its lock, `EntityNotFoundError`."""
        store, _, _ = await self._open()
        await store.erase(entity_name(type_name(entity_type), key))

    # ---- approvals

    async def approvals(
        self, *, run_id: str | None = None, role: str | None = None, status: str | None = "open", limit: int = 50
    ) -> list[ApprovalState]:
        """Requests for people's decision, oldest first: open ones of all runs, or those of one run.

        `role`: only what its holders may decide. `status` "decided", or None for all, needs a `run_id`.
        """
        store, _, _ = await self._open()
        return await asked.listed(store, run_id=run_id, role=role, status=status, limit=limit)

    async def approval(self, run_id: str, name: str, *, ref: str | None = None) -> ApprovalState:
        """The open request of this name, else its latest; or the very one `ref`. Raises `ApprovalNotFoundError`."""
        store, _, _ = await self._open()
        return await asked.found_by(store, run_id, name, ref)

    async def decide(  # noqa: PLR0913 - what there is to say about a decision
        self, run_id: str, name: str, decision: str, *, approver: str, roles: Iterable[str] = (), comment: str = "",
        data: Any = None, ref: str | None = None, operation: str | None = None,
    ) -> ApprovalState:  # fmt: skip
        """Decide a request, "approved" or "rejected", as `approver` with `roles`: the caller vouches for both.

        The first valid decision wins. `data` fills in the request's form. Raises `ApprovalRefusedError` (its `reason`
        says why; the wait goes on), `ApprovalDecidedError`, `ApprovalNotFoundError`, `RunNotFoundError`,
        `RunEndedError`, `InvalidInputError`. `ref` is the request that the approver saw: a later one of the same name
        is not decided in its place. Repeated with the same `operation` it is one decision, with the same answer.
        """
        store, dispatcher, _ = await self._open()
        return await asked.decide(
            store, dispatcher, run_id, name, decision, approver=approver, roles=roles, comment=comment, data=data,
            ref=ref, operation=operation, limit=self.settings.payload_limit,
        )  # fmt: skip

    # ---- budgets

    async def budgets(self, *, limit: int = 50) -> list[BudgetState]:
        """Budgets that have been drawn on, the latest use first."""
        store, _, _ = await self._open()
        return await spending.newest(store, limit)

    async def budget(self, key: str = "", *, run: str = "", per: timedelta | None = None) -> BudgetState:
        """What a budget has spent: that of a `key`, or of the tree of a root run; with `per` in its window of now.

        One that was never drawn on has spent nothing. Raises `InvalidInputError`.
        """
        store, _, _ = await self._open()
        return await spending.one(store, spending.scope(key, run, per))

    async def reset_budget(self, key: str = "", *, run: str = "", per: timedelta | None = None) -> bool:
        """Let a budget count from zero again; False where it was never drawn on.

        Calls on their way are no longer counted in it. Raises `InvalidInputError`.
        """
        store, _, _ = await self._open()
        return await store.reset(spending.scope(key, run, per))

    # ---- config

    async def set_config(  # noqa: PLR0913 - what there is to say about a value
        self, key: str, value: Any = None, *, rollout: float | None = None, otherwise: Any = None,
        variants: Mapping[str, float] | None = None, when: Mapping[str, str | list[str]] | None = None, by: str = "",
        comment: str = "", operation: str | None = None,
    ) -> None:  # fmt: skip
        """Set a key of config for the whole fleet; every worker has it within about a second.

        A `value` (any JSON but null); with `rollout` for that percentage of units, and `otherwise` for the others,
        where that is given; or `variants`, names with weights. `when` names headers and their values: runs without
        them look on, in the environment and to the default. `by` and `comment` stay in the history. Repeated with the
        same `operation` it is one change of the key. Raises `InvalidInputError`, `SerializationError`.
        """
        rule = configured.NewRule(value=value, rollout=rollout, otherwise=otherwise, variants=variants, when=when or {})
        store, _, _ = await self._open()
        await configured.change(store, key, rule, by=by, comment=comment, operation=operation)

    async def unset_config(self, key: str, *, by: str = "", comment: str = "", operation: str | None = None) -> bool:
        """Take a key out of Redis: environment and defaults count again. False where it was not set."""
        store, _, _ = await self._open()
        return await configured.change(store, key, None, by=by, comment=comment, operation=operation)

    async def config(self, key: str) -> ConfigState:
        """What is set for a key. Raises `ConfigNotFoundError`, `InvalidInputError`."""
        store, _, _ = await self._open()
        return await configured.state(store, key)

    async def configs(self) -> list[ConfigState]:
        """All that is set, by key."""
        store, _, _ = await self._open()
        return await configured.states(store)

    async def config_history(self, key: str | None = None, *, limit: int = 50) -> list[ConfigChange]:
        """The latest changes, of one key or of all, newest first; the last 10,000 are kept."""
        store, _, _ = await self._open()
        return await configured.history(store, key, limit)

    async def explain_config(
        self, key: str, *, unit: str | int | None = None, headers: Mapping[str, str] | None = None, default: Any = None
    ) -> ConfigAnswer:
        """What a unit (a run's root id, or a user) gets of a key now, and why; with the environment of this process."""
        store, _, _ = await self._open()
        return await configured.explain(store, key, unit=unit, headers=headers or {}, default=default)

    # ---- acting

    async def signal(self, run_id: str, name: str, payload: Any = None, *, operation: str | None = None) -> None:
        """Send a signal to a workflow run. Kept if it comes early; each is taken by one wait, in order of arrival.

        With the same `operation` it is delivered once, however often it is sent. Raises `RunNotFoundError`,
        `RunEndedError`, `InvalidInputError` for names that begin with `human.`, which approvals keep to themselves.
        """
        if not name or name.startswith("human."):
            raise InvalidInputError(
                f"signal name {name!r}: a non-empty name is needed that does not begin with 'human.'"
            )
        store, dispatcher, _ = await self._open()
        what = f"signal {name!r}"
        operation = operation or uuid.uuid4().hex
        event = SignalReceived(name=name, payload=payload, op=operation, traceparent=outgoing().get(TRACEPARENT, ""))
        body = encode_checked(event, payload, what, self.settings.payload_limit)
        dispatcher.send(await store.deliver(run_id, operation=operation, body=body))

    async def cancel(self, run_id: str, reason: str = "") -> None:
        """Ask a run to end, with its children. A workflow may clean up first; a run that completes first wins.

        Durable: it holds wherever the run is. Raises `RunNotFoundError`, `RunEndedError`.
        """
        store, dispatcher, _ = await self._open()
        written = codec.dumps(str(reason), what="reason", limit=self.settings.payload_limit)
        _, out = await store.cancel(run_id, reason=written)
        dispatcher.send(out)

    async def retry(self, run_id: str) -> None:
        """Open a failed root run again: recorded results stand, what had failed is done again.

        Raises `InvalidInputError` for a run that did not fail or is a child, `RunNotFoundError`.
        """
        store, dispatcher, _ = await self._open()
        dispatcher.send(await store.reopen(run_id))

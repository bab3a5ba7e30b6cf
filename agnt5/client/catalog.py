"""What can be started: handlers of this process, and those that workers announced; and requests to start them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Any

from agnt5.client.announced import bind_announced, check_announced
from agnt5.contracts.budgets import Budget, budget_header, refuse_reserved
from agnt5.contracts.clock import to_ms
from agnt5.contracts.errors import HandlerNotFoundError, InvalidInputError
from agnt5.contracts.headers import check_headers
from agnt5.contracts.ids import call_id, check_id, entity_name, new_run_id
from agnt5.registry import Handler
from agnt5.runtime.calls import FRESH_S
from agnt5.runtime.starting import StartRequest
from agnt5.sdk.decorators import handler_of
from agnt5.store import keys
from agnt5.store.replies import pairs
from agnt5.store.store import Store
from agnt5.telemetry.spans import with_outgoing

HandlerLike = str | Handler | Callable[..., Any]
Budgets = Budget | Sequence[Budget]


def address_of(handler: HandlerLike) -> str:
    """The address of a decorated function, or the address itself. Raises `InvalidInputError`."""
    target = handler_of(handler)
    return target.address if isinstance(target, Handler) else target


class Catalog:
    """The handlers that one client knows. `opened` gives its store."""

    def __init__(self, opened: Callable[[], Awaitable[Store]]) -> None:
        self._opened = opened
        self._announced: dict[str, dict[str, Any]] = {}
        self._stale_at_s = 0.0

    async def learn(self) -> dict[str, dict[str, Any]]:
        """What workers have announced by now: address -> description."""
        flat = await (await self._opened()).link.call("HGETALL", keys.handlers())
        self._stale_at_s = monotonic() + FRESH_S
        self._announced = {name.decode(): json.loads(text) for name, text in pairs(flat)}
        return dict(self._announced)

    async def check(self, handler: HandlerLike, value: Any) -> Handler | None:
        """The handler, if this process has it. Its input is checked here, or against what workers announced."""
        target = handler_of(handler)
        if isinstance(target, Handler):
            target.bind(value)
            return target
        check_announced(target, await self._described(target), value)
        return None

    async def describe(self, handler: str) -> dict[str, Any]:
        """A handler as `Handler.describe` has it, of this process or as announced. Raises `HandlerNotFoundError`."""
        known = handler_of(handler)
        return known.describe() if isinstance(known, Handler) else await self._described(known)

    async def arguments(self, handler: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The input that calling a handler with these arguments means. Raises as `check` does."""
        known = handler_of(handler)
        if isinstance(known, Handler):
            return known.bind_call(args, kwargs)
        return bind_announced(handler, await self._described(handler), args, kwargs)

    def request(  # noqa: PLR0913 - what there is to say about a start
        self, handler: HandlerLike, value: Any, *, run_id: str | None = None, key: str | None = None,
        headers: Mapping[str, str] | None = None, priority: int | None = None,
        run_timeout: float | timedelta | None = None, requester: str = "", budget: Budgets = (),
    ) -> StartRequest:  # fmt: skip
        """A request to start a handler that `check` has passed. Raises `InvalidInputError` for its other arguments."""
        address = address_of(handler)
        # a handler that this process does not have: its author's choices are known by what workers announced
        options: dict[str, Any] = self._announced.get(address, {}).get("options", {})
        run_timeout_ms = to_ms(run_timeout, "run_timeout")
        given = with_outgoing(check_headers(headers))
        refuse_reserved(given)
        request = StartRequest(
            new_run_id() if run_id is None else check_id(run_id),
            address,
            value,
            headers={**given, **budget_header(budget)},
            priority=options.get("priority") if priority is None else priority,
            run_timeout_ms=options.get("run_timeout_ms") if run_timeout_ms is None else run_timeout_ms,
            requester=requester,
        )
        return self._aimed(request, handler, key, given_id=run_id)

    def _aimed(
        self, request: StartRequest, handler: HandlerLike, key: str | None, *, given_id: str | None
    ) -> StartRequest:
        """The request, aimed at its entity where the handler is a method of one."""
        known = handler_of(handler)
        mode = known.mode if isinstance(known, Handler) else self._announced.get(known, {}).get("mode")
        if mode is None and key is None:
            return request
        if mode is None or key is None:
            needed = (
                "is no method of an entity, so that it takes no key" if mode is None else "needs the key of its entity"
            )
            raise InvalidInputError(f"{request.handler} {needed}; found key={key!r}")
        entity = entity_name(request.handler.partition(".")[0], key)
        operation = uuid.uuid4().hex[:16] if given_id is None else request.run_id
        return replace(request, run_id=call_id(entity, operation), entity=entity, mode=mode)

    async def _described(self, address: str) -> dict[str, Any]:
        """What workers announced of a handler; `HandlerNotFoundError` when none did."""
        if address not in self._announced or monotonic() > self._stale_at_s:
            await self.learn()
        described = self._announced.get(address)
        if described is None:
            raise HandlerNotFoundError(self._not_announced(address))
        return described

    def _not_announced(self, address: str) -> str:
        service = address.partition(".")[0]
        near = sorted(name for name in self._announced if name.startswith(f"{service}."))
        there = f"service {service!r} has {', '.join(near)}" if near else f"no worker has announced service {service!r}"
        return f"handler {address!r}: {there}; start a worker that imports it, or import its module here"

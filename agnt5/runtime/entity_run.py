"""A call of an entity in memory: a function with the entity's state. What it sets is written with its end, or not."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from typing import Any

from agnt5.contracts.errors import Agnt5Error, NonRetryableError
from agnt5.contracts.ids import entity_of
from agnt5.replay.events import Event, RunStarted
from agnt5.runtime.calls import answer_body, tell_caller
from agnt5.runtime.children import CALL_OPTION
from agnt5.runtime.function_run import LiveFunction
from agnt5.runtime.snapshots import Snapshot
from agnt5.sdk.contexts import EntityContext, FunctionContext
from agnt5.sdk.port import RunInfo
from agnt5.sdk.state import StateBuffer
from agnt5.store.replies import Applied
from agnt5.store.store import Ending


class LiveEntity(LiveFunction):
    """A claimed call. A write holds the entity's lock from before its claim until its end."""

    snapshot: Snapshot

    def begin(self, entries: list[bytes]) -> Coroutine[Any, Any, None] | None:
        """As every run, once its state can be opened. Raises `SealedPayloadError`; nothing has begun then."""
        entity = entity_of(self.run_id)
        assert entity is not None
        sealer, found = self.host.store.sealer, self.snapshot.state
        self.entity = entity
        self._stale = [key for key, value in found.items() if not self.snapshot.opened and sealer.is_stale(value)]
        self._found = {key: sealer.open_state(value, entity, key) for key, value in found.items()}
        return super().begin(entries)

    def start(self, events: list[Event]) -> Coroutine[Any, Any, None]:
        self._nonce = ""
        self._changes: tuple[dict[str, bytes], list[str]] = ({}, [])
        settings = self.host.settings
        self.state = StateBuffer(
            self._found,
            writable=self._writes,
            model=self.handler.state_model,
            limit=settings.payload_limit,
            total_limit=settings.state_limit,
            what=f"entity {self.entity}",
        )
        return super().start(events)

    @property
    def _writes(self) -> bool:
        return self.handler.mode == "write"

    def info(self, started: RunStarted) -> RunInfo:
        key = self.entity.partition("/")[2]
        return replace(super().info(started), object_id=key, method_name=self.handler.name)

    def context(self) -> FunctionContext:
        return EntityContext(self.info(self.started), self, self.host.effects)

    def holds(self, started: RunStarted) -> list[str]:
        return [*started.holds, self.entity] if self._writes else started.holds

    @property
    def _holds_lock(self) -> bool:
        return self.snapshot.holder == self.run_id

    async def _call(self) -> Any:
        if self._writes and not self._holds_lock:
            raise NonRetryableError(
                f"{self.handler.address} is a write and was called as a read, by a process that knows an older release"
                " of it; nothing was changed, call it again"
            )
        return await super()._call()

    # ---- its end

    async def complete(self, value: Any) -> None:
        """End as completed, with all that was set; state that does not fit or is too large fails the call."""
        try:
            self._changes = self.state.changes()
        except Agnt5Error as error:
            await self.fail(error)
            return
        await super().complete(value)

    def write_end(self, status: Ending, payload: bytes) -> Awaitable[Applied]:
        if not self._holds_lock:
            return super().write_end(status, payload)
        sets, deletes = self._changes if status == "completed" else ({}, [])
        if status == "completed" and self._stale:
            sets = {**self.state.among(self._stale), **sets}
        return self.host.store.commit(
            self.own, status, payload, sets=sets, deletes=deletes, nonce=self.host.calls.nonce()
        )

    def after_end(self, applied: Applied, status: Ending, payload: bytes) -> None:
        if applied.heir is not None:
            left = self.snapshot
            if status == "completed":
                left = replace(left, state=self.state.after(), opened=True)
            self.host.adopt(applied.heir, replace(left, holder=applied.heir.run_id))
        if self.started.parent is not None and CALL_OPTION in self.started.options:
            seq, _ = self.started.options[CALL_OPTION]
            self.host.spawn(self._answer(answer_body(seq, status, payload)))

    async def _answer(self, body: bytes) -> None:
        self.host.sent(await tell_caller(self.host.store, self.run_id, self.started, body, host=self.host.name))

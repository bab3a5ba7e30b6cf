"""Calls of entities between shards: bring a call on its way, and its outcome back to the caller.

The caller journals the call first; the call itself and its answer are idempotent by the call's id. What is lost in
between is done again: the call by the caller's next owner, the answer by beat.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from agnt5 import codec
from agnt5.contracts.errors import EntityDeadlockError, RunEndedError, RunNotFoundError
from agnt5.contracts.ids import entity_of
from agnt5.replay import journal
from agnt5.replay.commands import StartTask
from agnt5.replay.events import RunStarted
from agnt5.runtime.children import CALL_OPTION, new_call
from agnt5.runtime.snapshots import look_at_entity
from agnt5.store import keys
from agnt5.store.replies import Applied
from agnt5.store.store import Ending, Store

if TYPE_CHECKING:
    from agnt5.runtime.host import Host
    from agnt5.runtime.live import LiveRun

ADOPTED = 256
"""Calls that a host runs beside those that came by messages, at most: the rest is queued, for any worker."""

FRESH_S = 60.0
"""What workers announced is read again after so long: a deploy may have changed it."""

_FORMS: dict[Ending, tuple[bytes, bytes, bytes]] = {
    "completed": (b"TaskCompleted", b"result", b"%s"),
    "failed": (b"TaskFailed", b"error", b"%s"),
    "timeout": (b"TaskFailed", b"error", b"%s"),
    "cancelled": (b"TaskFailed", b"error", b'{"type":"RunCancelledError","message":%s}'),
}


def answer_body(seq: int, status: Ending, payload: bytes) -> bytes:
    """The event that tells a caller how its command `seq` ended; `payload` is the JSON of `Store.finish`."""
    event, field, form = _FORMS[status]
    return b'{"e":"%s","seq":%d,"%s":%s}' % (event, seq, field, form % payload)


def answer_of(entry: bytes, seq: int) -> bytes:
    """The same, from a call's terminal journal entry."""
    last = codec.loads(entry)
    match last["e"]:
        case "RunCompleted":
            return answer_body(seq, "completed", codec.dumps(last.get("result"), what="result"))
        case "RunFailed":
            return answer_body(seq, "failed", codec.dumps(last["error"], what="error"))
        case _:
            return answer_body(seq, "cancelled", codec.dumps(last.get("reason", ""), what="reason"))


async def tell_caller(store: Store, call: str, started: RunStarted, body: bytes, *, host: str = "") -> Applied:
    """Tell the caller, then strike the call off the list of those whose caller waits to be told."""
    assert started.parent is not None
    _, generation = started.options[CALL_OPTION]
    applied = await store.answer(started.parent, generation=generation, operation=call, host=host, body=body)
    await store.link.call("ZREM", keys.answers(store.shard(call)), call)
    return applied


async def answer(store: Store, call: str, first: bytes, last: bytes) -> Applied:
    """The same for an ended call whose first and last journal entries are these."""
    started = journal.decode(store.sealer.open(first, call))
    assert isinstance(started, RunStarted)
    seq, _ = started.options[CALL_OPTION]
    return await tell_caller(store, call, started, answer_of(store.sealer.open(last, call), seq))


class Calls:
    """A host's way to entities."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._announced: dict[str, tuple[float, dict[str, Any]]] = {}
        self.adopted = 0

    def nonce(self) -> str:
        """For the claim of a call that this host takes without a message; '' when it takes none now."""
        return uuid.uuid4().hex[:16] if self.adopted < ADOPTED and not self._host.draining else ""

    async def deliver(self, caller: LiveRun, command: StartTask, started: RunStarted) -> None:
        """Create the call, and run it here if nothing is in its way.

        Raises `EntityDeadlockError` when the chain of calls holds the entity, and errors of the input.
        """
        host, entity = self._host, entity_of(command.id)
        described = await self._described(command.handler)
        mode = described.get("mode") or "write"
        if mode == "write" and entity in caller.holds(started):
            raise EntityDeadlockError(
                f"{command.handler} of {entity} was called by a chain of calls that holds its lock"
                f" ({' > '.join(caller.holds(started))}), so that it would wait for itself",
                type="EntityDeadlockError",
                where=f"run {caller.run_id} ({caller.handler.address})",
            )
        call = new_call(caller, command, started, mode, described.get("options", {}))
        nonce = self.nonce() if command.handler in host.registry else ""
        calling = host.store.call(call, host=host.name, nonce=nonce)
        if not nonce:
            host.dispatcher.send((await calling).out)
            return
        with host.taking(command.id):
            called, snapshot = await asyncio.gather(calling, look_at_entity(host.store, command.id))
            host.dispatcher.send(called.out)
            if called.heir is not None:
                if mode == "write" and snapshot.holder != command.id:
                    # a server that did not know the script yet: it was sent again, behind the look
                    snapshot = await look_at_entity(host.store, command.id)
                host.adopt(called.heir, snapshot)

    async def cancel(self, call: str) -> None:
        """Ask a call to end, because its caller does not wait for it any more."""
        with contextlib.suppress(RunNotFoundError, RunEndedError):
            _, out = await self._host.store.cancel(call, reason=b'"its caller asked for it"', operation="caller")
            self._host.dispatcher.send(out)

    async def _described(self, handler: str) -> dict[str, Any]:
        """What is known of a handler: here, or by what workers announced; nothing of one that nobody has yet."""
        known = self._host.registry.find(handler)
        if known is not None:
            return {"mode": known.mode, "options": known.options.describe()}
        now_s = self._host.loop.time()
        read_s, described = self._announced.get(handler, (0.0, {}))
        if not described or now_s - read_s > FRESH_S:
            text = await self._host.store.link.call("HGET", keys.handlers(), handler)
            if text is None:
                return {}
            self._announced[handler] = now_s, (described := json.loads(text))
        return described

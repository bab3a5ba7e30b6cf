"""The scripts of entities against a plain model: calls, hand-overs, deaths, cancels and late writes in any order.

After every step the lock, the line and the state must be as the model has them, and the doctor must find nothing.
A stale or repeated write must change nothing at all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from support import runs
from support.dump import dump
from support.machines import ScriptMachine, run_machine

from agnt5.client.doctor import examine
from agnt5.contracts.errors import Agnt5Error, EntityBusyError, EntityNotFoundError, StaleEpochError
from agnt5.contracts.ids import call_id
from agnt5.store.replies import Claimed, Heir, NewCall
from agnt5.store.store import Ownership

EXAMPLES = int(os.environ.get("AGNT5_TEST_EXAMPLES", "14"))
NAMES = ("Counter/a", "Counter/b")
HANDLER, QUEUE = "Counter.add", "agnt5.Counter"
WEIGHTS = {
    "call": 6, "call_again": 1, "claim": 5, "commit": 7, "fail": 2, "finish_read": 3, "repeat": 4, "cancel": 2,
    "host_dies": 2, "try_later": 1, "times_pass": 2, "erase": 1, "answer": 1,
}  # fmt: skip
ACTS = [act for act, weight in WEIGHTS.items() for _ in range(weight)]


@dataclass
class Call:
    """A call as the model has it."""

    id: str
    entity: str
    write: bool
    place: str  # none, line, held
    caller: bool
    status: str = "queued"
    owner: Ownership | None = None
    crashes: int = 0


@dataclass
class Entity:
    """An entity as the model has it."""

    holder: str = ""
    line: list[str] = field(default_factory=list)
    state: dict[str, bytes] = field(default_factory=dict)


Write = Callable[[Ownership], Awaitable[Any]]


class EntityMachine(ScriptMachine):
    """What hosts, clients and beat may do with entities."""

    def __init__(self) -> None:
        super().__init__()
        self.admin.flushall()
        self.calls: dict[str, Call] = {}
        self.entities = {name: Entity() for name in NAMES}
        self.owners: list[tuple[Ownership, Write | None]] = []
        self.untold: set[str] = set()
        self.born = 0

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        getattr(self, data.draw(st.sampled_from(ACTS), label="act"))(data)

    # ---- helpers

    def unchanged(self, pending: Callable[[], Awaitable[Any]]) -> Any:
        before = dump(self.admin)
        try:
            return self.do(pending)
        except StaleEpochError as error:
            return error
        finally:
            assert dump(self.admin) == before

    def pick(self, data: st.DataObject, *statuses: str) -> Call | None:
        likely = sorted(call.id for call in self.calls.values() if call.status in statuses)
        return self.calls[data.draw(st.sampled_from(likely), label="call")] if likely else None

    def own(self, call: Call, host: str, epoch: str) -> None:
        assert call.status in {"queued", "waiting"}, call
        call.status, call.owner = "running", Ownership(call.id, host, epoch)
        self.owners.append((call.owner, None))

    def heir(self, heir: Heir | None, host: str) -> None:
        """The reply names the call that the host owns from now on."""
        if heir is None:
            return
        call = self.calls[heir.run_id]
        assert heir.handler == HANDLER
        assert not call.write or self.entities[call.entity].holder == call.id, "an heir without the lock"
        self.own(call, host, heir.claimed.epoch)

    def ended(self, call: Call, status: str) -> None:
        """A call ends; who is next in line holds the lock."""
        call.status, call.owner = status, None
        if call.caller:
            self.untold.add(call.id)
        entity = self.entities[call.entity]
        if call.place == "line":
            entity.line.remove(call.id)
        elif call.place == "held":
            entity.holder = entity.line.pop(0) if entity.line else ""
            if entity.holder:
                after = self.calls[entity.holder]
                after.place, after.status = "held", "queued"

    # ---- acts

    def call(self, data: st.DataObject) -> None:
        self.born += 1
        name = data.draw(st.sampled_from(NAMES), label="entity")
        write = data.draw(st.integers(0, 3), label="write") > 0
        offers = data.draw(st.booleans(), label="offers")
        caller = data.draw(st.booleans(), label="caller")
        entity = self.entities[name]
        call = Call(call_id(name, str(self.born)), name, write, "none", caller)
        if write and entity.holder:
            call.place, call.status = "line", "waiting"
            entity.line.append(call.id)
        elif write:
            call.place, entity.holder = "held", call.id
        self.calls[call.id] = call
        host, nonce = ("h1", f"c{self.born}") if offers else ("", "")
        new = NewCall(
            call.id, HANDLER, "write" if write else "read", QUEUE, 5, runs.body("RunStarted", handler=HANDLER),
            run_timeout_ms=data.draw(st.sampled_from([None, 1])), caller="r" if caller else "",
        )  # fmt: skip
        reply = self.do(lambda: self.store.call(new, host=host, nonce=nonce))
        assert (reply.heir is not None) == (offers and call.place != "line")
        assert len(reply.out) == (not offers and call.place != "line")
        self.heir(reply.heir, "h1")

    def call_again(self, data: st.DataObject) -> None:
        if call := self.pick(data, "queued", "waiting", "running", "completed", "failed"):
            new = NewCall(call.id, HANDLER, "write", QUEUE, 5, runs.body("RunStarted", handler=HANDLER))
            reply = self.unchanged(lambda: self.store.call(new, host="h2", nonce="again"))
            assert (str(reply.status), reply.out, reply.heir) == (call.status, [], None)

    def claim(self, data: st.DataObject) -> None:
        call = self.pick(data, "queued", "waiting", "running")
        if call is None:
            return
        host = data.draw(st.sampled_from(["h1", "h2"]), label="host")
        nonce = f"n{len(self.owners)}-{self.born}"
        claimed = self.do(lambda: self.store.claim(call.id, host=host, nonce=nonce, kind="entity"))
        assert isinstance(claimed, Claimed) == (call.status == "queued"), call
        if isinstance(claimed, Claimed):
            self.own(call, host, claimed.epoch)

    def commit(self, data: st.DataObject, status: str = "completed") -> None:
        call = self.pick(data, "running")
        if call is None or not call.write:
            return
        own, entity = call.owner, self.entities[call.entity]
        assert own is not None
        sets = data.draw(
            st.dictionaries(st.sampled_from("xyz"), st.sampled_from([b"1", b"2"]), max_size=2), label="sets"
        )
        deletes = [key for key in data.draw(st.sets(st.sampled_from("xyz")), label="deletes") if key not in sets]
        if status != "completed":
            sets, deletes = {}, []
        nonce = f"k{len(self.owners)}-{self.born}" if data.draw(st.booleans(), label="offers") else ""

        def write(by: Ownership) -> Awaitable[Any]:
            return self.store.commit(by, status, b'"x"', sets=sets, deletes=deletes, nonce=nonce)  # type: ignore[arg-type]

        op = own.op
        reply = self.do(lambda: write(own))
        self.owners.append((Ownership(own.run_id, own.host, own.epoch, op), write))
        for key in deletes:
            entity.state.pop(key, None)
        entity.state.update(sets)
        waiting = bool(entity.line)
        self.ended(call, "failed" if status == "timeout" else status)
        assert (reply.heir is not None) == (waiting and nonce != "")
        assert len(reply.out) == (waiting and nonce == "")
        self.heir(reply.heir, own.host)

    def fail(self, data: st.DataObject) -> None:
        self.commit(data, data.draw(st.sampled_from(["failed", "timeout", "cancelled"]), label="how"))

    def finish_read(self, data: st.DataObject) -> None:
        call = self.pick(data, "running")
        if call and not call.write and (own := call.owner):
            self.do(lambda: self.store.finish(own, "completed", b"1"))
            self.ended(call, "completed")

    def repeat(self, data: st.DataObject) -> None:
        """A write whose reply was lost comes again, maybe long after; a stale owner tries to commit."""
        if not self.owners:
            return
        own, write = self.owners[data.draw(st.integers(0, len(self.owners) - 1), label="owner")]
        call = self.calls[own.run_id]
        if write is not None:
            self.unchanged(lambda: write(Ownership(own.run_id, own.host, own.epoch, own.op)))
        elif call.write and (call.owner is None or call.owner.epoch != own.epoch):
            late = Ownership(own.run_id, own.host, own.epoch, own.op)
            reply = self.unchanged(lambda: self.store.commit(late, "completed", b"9", sets={"x": b"9"}, deletes=[]))
            assert isinstance(reply, StaleEpochError) or reply.again

    def cancel(self, data: st.DataObject) -> None:
        if call := self.pick(data, "queued", "waiting"):
            self.do(lambda: self.store.cancel(call.id, reason=b'"no"'))
            self.ended(call, "cancelled")

    def host_dies(self, data: st.DataObject) -> None:
        host = data.draw(st.sampled_from(["h1", "h2"]), label="host")
        self.do(lambda: self.store.reap(0, host, limit=1000, error=runs.LOST))
        for call in self.calls.values():
            if call.owner is not None and call.owner.host == host:
                call.owner, call.crashes = None, min(call.crashes + 1, 2)  # the third needs a run that was alone
                call.status = "queued"

    def try_later(self, data: st.DataObject) -> None:
        call = self.pick(data, "running")
        if call and (own := call.owner):
            self.do(lambda: self.store.retry(own, attempt=0, error=b"{}", delay_ms=0))
            call.owner, call.status, call.crashes = None, "queued", 0

    def times_pass(self, _data: st.DataObject) -> None:
        """Run timeouts: those of owned calls are told, others end."""
        self.do(lambda: asyncio.sleep(0.002))
        self.do(lambda: self.store.fire(0, limit=1000, timeout_error=runs.LATE))
        for call in list(self.calls.values()):
            record = self.admin.hget(f"agnt5:{{s0}}:run:{call.id}", "status")
            if call.status in {"queued", "waiting"} and record == b"failed":
                self.ended(call, "failed")

    def erase(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(NAMES), label="entity")
        entity = self.entities[name]
        try:
            self.do(lambda: self.store.erase(name))
            assert not entity.holder
            entity.state.clear()
        except EntityBusyError:
            assert entity.holder
        except EntityNotFoundError:
            assert not entity.holder
            assert not entity.state

    def answer(self, _data: st.DataObject) -> None:
        """Beat tells callers (here: strikes them off)."""
        for call in self.untold:
            assert self.admin.zrem("agnt5:{s0}:answers", call) == 1
        self.untold.clear()

    # ---- what always holds

    @invariant()
    def the_store_is_as_the_model_has_it(self) -> None:
        found = {key.partition("}:")[2]: value for key, (value, _) in dump(self.admin).items()}
        for name, entity in self.entities.items():
            lock = found.get(f"lock:{name}", {})
            assert lock.get(b"run", b"").decode() == entity.holder
            assert [one.decode() for one in found.get(f"line:{name}", [])] == entity.line
            assert {key.decode(): value for key, value in found.get(f"ent:{name}", {}).items()} == entity.state
        for call in self.calls.values():
            record = found[f"run:{call.id}"]
            assert record[b"status"].decode() == call.status, call
            assert record.get(b"epoch", b"").decode() == (call.owner.epoch if call.owner else ""), call
        assert {member.decode() for member, _ in found.get("answers", [])} == self.untold
        assert self.do(lambda: examine(self.store, processes=False)) == []

    def teardown(self) -> None:
        """Everything is brought to its end, and then nothing is left that will not expire."""
        for _ in range(len(self.calls) + 1):
            for call in self.calls.values():
                self.finish_somehow(call)
        for name in NAMES:
            try:
                self.do(lambda name=name: self.store.erase(name))
            except EntityNotFoundError:
                continue
        for key, (value, ttl) in dump(self.admin).items():
            name = key.partition("}:")[2]
            assert ttl or name in {"queues", "claimed", "sorts", "answers"}, (name, value)

    def finish_somehow(self, call: Call) -> None:
        if call.owner is not None:
            own, call.owner = call.owner, None
            try:
                if call.write:
                    self.do(lambda: self.store.commit(own, "completed", b"1", sets={}, deletes=[]))
                else:
                    self.do(lambda: self.store.finish(own, "completed", b"1"))
            except StaleEpochError:
                return
        try:
            self.do(lambda: self.store.cancel(call.id, reason=b'"end"'))
        except Agnt5Error:
            return


def test_entities_do_what_the_model_does(server):
    run_machine(EntityMachine, server, examples=EXAMPLES)

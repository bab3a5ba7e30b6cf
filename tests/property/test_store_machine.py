"""The real scripts against a plain model: several hosts, late and doubled calls, deaths, timers, cancels.

After every step the store must be as the model has it, and `examine` must find every run owned, queued or waiting for
something. A stale or repeated call must change nothing at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    rule,
)
from support import runs
from support.doctor import examine_dump
from support.dump import dump
from support.machines import ScriptMachine, run_machine

from agnt5.contracts.errors import Agnt5Error, RunEndedError, StaleEpochError
from agnt5.store.replies import Claimed, More
from agnt5.store.store import Batch, Ownership

FAR = 9_000_000_000_000
EXAMPLES = int(os.environ.get("AGNT5_TEST_EXAMPLES", "25"))
ENDED = {"completed", "failed", "cancelled"}
ENDS = {"completed": "completed", "failed": "failed", "timeout": "failed", "cancelled": "cancelled"}
LAST = {"completed": "RunCompleted", "failed": "RunFailed", "cancelled": "RunCancelled"}
ROOTS = ("r0", "r1", "r2", "r3", "r4")


WEIGHTS = {
    "create": 2, "signal": 2, "cancel": 1, "reopen": 2, "claim": 6, "append": 8, "ask_for_children_again": 2,
    "finish": 4, "fail_attempt": 2, "park": 4, "hand_back": 1, "renew": 1, "repeat": 5, "lose_count": 1,
    "hours_pass": 1, "fire": 2, "host_dies": 2, "try_alone": 1, "send_again": 1, "ask": 4, "decide": 6,
}  # fmt: skip
ACTS = [act for act, weight in WEIGHTS.items() for _ in range(weight)]


@dataclass
class Run:
    """A run as the model has it."""

    id: str
    kind: str
    parent: str | None = None
    pgen: int = 0
    status: str = "queued"
    journal: list[str] = field(default_factory=lambda: ["RunStarted"])
    owner: str | None = None
    gen: int = 0
    kids: set[str] = field(default_factory=set)
    told: bool = False
    started: bool = False
    retry: bool = False
    newtry: bool = False
    crashes: int = 0
    danger: bool = False
    signals: set[str] = field(default_factory=set)
    hosts: str = ""
    asks: dict[str, Ask] = field(default_factory=dict)


@dataclass
class Ask:
    """What a run asks of people, as the model has it."""

    quorum: int
    role: str
    past: bool
    status: str = "open"
    voters: set[str] = field(default_factory=set)


@dataclass
class Owner:
    """One claim, kept for ever: most of them are stale sooner or later."""

    own: Ownership
    kind: str
    last: Callable[[Ownership], Awaitable[Any]] | None = None
    told_no: bool = False


class StoreMachine(ScriptMachine):
    """What hosts, clients and beat may do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.admin.flushall()
        self.runs: dict[str, Run] = {}
        self.owners: list[Owner] = []
        self.timers: dict[str, bool] = {}
        self.untold: set[str] = set()
        self.claims = 0
        self.born = 0

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """One act of anybody. (Not a rule each: Hypothesis leaves many rules out of an example.)"""
        getattr(self, data.draw(st.sampled_from(ACTS), label="act"))(data)

    # ---- helpers

    def unchanged(self, pending: Callable[[], Awaitable[Any]], *, refused: bool) -> Any:
        before = dump(self.admin)
        reply = None
        try:
            reply = self.do(pending)
        except StaleEpochError:
            pass
        else:
            assert not refused, "a stale owner was not refused"
        assert dump(self.admin) == before
        return reply

    def pick(self, data: st.DataObject, *wanted: str) -> Run:
        """A run, mostly one of the wanted statuses."""
        likely = sorted(run.id for run in self.runs.values() if run.status in wanted)
        if not likely or data.draw(st.integers(0, 5), label="any") == 0:
            likely = sorted(self.runs)
        return self.runs[data.draw(st.sampled_from(likely), label="run")]

    def pick_owner(self, data: st.DataObject) -> Owner:
        """A claim, mostly one that still holds."""
        likely = [owner for owner in self.owners if self.runs[owner.own.run_id].owner == owner.own.epoch]
        if not likely or data.draw(st.integers(0, 5), label="any") == 0:
            likely = self.owners
        return likely[data.draw(st.integers(0, len(likely) - 1), label="owner")]

    def write(self, data: st.DataObject, verb: Callable[[Ownership], Awaitable[Any]]) -> tuple[Run | None, Any]:
        """An owner's verb by any owner that ever was; (None, None) when it had to be refused."""
        if not any(run.owner for run in self.runs.values()):
            self.claim_all()
        if not self.owners:
            return None, None
        owner = self.pick_owner(data)
        run = self.runs[owner.own.run_id]
        if run.owner != owner.own.epoch:
            late = Ownership(owner.own.run_id, owner.own.host, owner.own.epoch, owner.own.op + 1)
            self.unchanged(lambda: verb(late), refused=True)
            return None, None
        owner.last = verb
        reply = self.do(lambda: verb(owner.own))
        owner.told_no = isinstance(reply, More)
        return run, reply

    # ---- the model's transitions

    def tell(self, run: Run, event: str) -> None:
        run.journal.append(event)
        if run.owner is None and run.status == "waiting" and not run.retry:
            run.status = "queued"

    def untime(self, run_id: str) -> None:
        self.timers = {m: due for m, due in self.timers.items() if not (m[0] in "ta" and m.split("|")[1] == run_id)}

    def shut(self, run: Run, ref: str, status: str) -> None:
        run.asks[ref].status = status
        self.timers.pop(f"a|{run.id}|{ref}", None)
        if status != "withdrawn":
            self.tell(run, "ApprovalDecided")

    def end(self, run: Run, how: str) -> None:
        for ask in run.asks.values():
            ask.status = "withdrawn" if ask.status == "open" else ask.status
        if run.owner is None:
            self.untold.add(f"{run.id}|{how}|{run.gen}|{len(run.journal) + 1}")
        run.status, run.owner, run.retry = ENDS[how], None, False
        run.journal.append(LAST[run.status])
        self.untime(run.id)
        for member in (f"r|{run.id}", f"d|{run.id}"):
            self.timers.pop(member, None)
        if how in {"timeout", "cancelled"}:
            for kid in sorted(run.kids):
                self.ask_to_end(self.runs[kid])
        run.kids.clear()
        parent = self.runs.get(run.parent or "")
        if parent is not None and run.id in parent.kids:
            parent.kids.discard(run.id)
            if parent.status not in ENDED and parent.gen == run.pgen:
                self.hear(parent, run)

    def hear(self, parent: Run, kid: Run) -> None:
        kid.told = True
        self.tell(parent, "TaskCompleted" if kid.status == "completed" else "TaskFailed")

    def ask_to_end(self, run: Run) -> None:
        if run.status in ENDED:
            return
        if run.owner is None and (run.kind != "workflow" or not run.started):
            self.end(run, "cancelled")
            return
        if run.retry and run.owner is None:
            run.retry = False
            self.timers.pop(f"r|{run.id}", None)
        self.tell(run, "CancelRequested")

    # ---- clients

    @initialize()
    def begin(self) -> None:
        for run_id, kind in zip(ROOTS, ("workflow", "function"), strict=False):
            assert self.do(lambda run_id=run_id, kind=kind: runs.create(self.store, run_id, kind)).fresh
            self.runs[run_id] = Run(run_id, kind)

    def create(self, data: st.DataObject) -> None:
        run_id = data.draw(st.sampled_from(ROOTS))
        kind = data.draw(st.sampled_from(["workflow", "function"]))
        limited = data.draw(st.sampled_from([False, False, True]))
        timeout = 3_600_000 if limited else None
        if run_id in self.runs:
            self.unchanged(lambda: runs.create(self.store, run_id, kind, run_timeout_ms=timeout), refused=False)
            return
        assert self.do(lambda: runs.create(self.store, run_id, kind, run_timeout_ms=timeout)).fresh
        self.runs[run_id] = Run(run_id, kind)
        if limited:
            self.timers[f"d|{run_id}"] = False

    def signal(self, data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from("123"))
        run = self.pick(data, "running", "waiting")
        call = lambda: self.store.deliver(run.id, operation=operation, body=runs.body("SignalReceived", name="s"))
        if operation in run.signals:
            self.unchanged(call, refused=False)
        elif run.status in ENDED:
            self.refused_as_ended(call)
        else:
            self.do(call)
            run.signals.add(operation)
            self.tell(run, "SignalReceived")

    def refused_as_ended(self, call: Callable[[], Awaitable[Any]]) -> None:
        before = dump(self.admin)
        try:
            self.do(call)
        except RunEndedError:
            assert dump(self.admin) == before
        else:
            raise AssertionError("an ended run took an event")

    def cancel(self, data: st.DataObject) -> None:
        run = self.pick(data, "waiting", "running")
        self.born += 1
        operation = str(self.born)
        call = lambda: self.store.cancel(run.id, reason=b'"why"', operation=operation)
        if run.status == "cancelled":
            self.unchanged(call, refused=False)
        elif run.status in ENDED:
            self.refused_as_ended(call)
        else:
            self.do(call)
            self.ask_to_end(run)
            self.unchanged(call, refused=False)

    def reopen(self, data: st.DataObject) -> None:
        failed = sorted(run.id for run in self.runs.values() if run.status == "failed" and run.parent is None)
        if not failed:
            return
        run = self.runs[data.draw(st.sampled_from(failed))]
        self.do(lambda: self.store.reopen(run.id))
        self.unchanged(lambda: self.store.reopen(run.id), refused=False)
        run.status, run.newtry, run.crashes, run.danger = "queued", True, 0, False
        run.journal.append("RunReopened")

    # ---- owners

    def claim_all(self) -> None:
        for number, run in enumerate([run for run in self.runs.values() if run.status == "queued"]):
            self.claim_run(run, f"h{number % 2 + 1}")

    def claim(self, data: st.DataObject) -> None:
        self.claim_run(self.pick(data, "queued"), data.draw(st.sampled_from(["h1", "h2"])))

    def claim_run(self, run: Run, host: str) -> None:
        self.claims += 1
        nonce = str(self.claims)
        call = lambda: self.store.claim(run.id, host=host, nonce=nonce, kind=run.kind)
        if run.status != "queued":
            self.unchanged(call, refused=False)
            return
        claimed = self.do(call)
        assert isinstance(claimed, Claimed)
        self.unchanged(call, refused=False)
        run.status, run.owner, run.started, run.hosts = "running", claimed.epoch, True, host
        if run.newtry:
            run.newtry = False
            run.journal.append("AttemptStarted")
        assert claimed.epoch not in {owner.own.epoch for owner in self.owners if owner.own.run_id == run.id}
        self.owners.append(Owner(Ownership(run.id, host, claimed.epoch), run.kind))

    def append(self, data: st.DataObject) -> None:
        bodies, timer = data.draw(st.integers(0, 2)), data.draw(st.sampled_from([None, None, 1, FAR]))
        child, waits = data.draw(st.booleans()), data.draw(st.booleans())
        self.born += 1
        number = self.born
        batch = Batch(bodies=[runs.body("PatchMarked", seq=number)] * bodies)
        if timer is not None:
            batch.timers.append((number, timer))

        def verb(own: Ownership) -> Awaitable[Any]:
            kid = f"{own.run_id}~{number}"
            batch.children[:] = [runs.child(kid, number)] if child and own.run_id.count("~") < 2 else []
            return self.store.append(own, batch, status="waiting" if waits else "running")

        run, applied = self.write(data, verb)
        if run is None:
            return
        run.status = "waiting" if waits else "running"
        run.journal += ["PatchMarked"] * bodies
        assert applied.length == len(run.journal)
        if bodies:
            run.crashes, run.danger = 0, False
        for new in batch.children:
            run.kids.add(new.id)
            self.runs[new.id] = Run(new.id, "function", parent=run.id, pgen=run.gen)
        if timer is not None:
            self.timers[f"t|{run.id}|{run.gen}.{number}"] = timer == 1

    def ask(self, data: st.DataObject) -> None:
        """People are asked, or are asked no more."""
        due, takes_back = data.draw(st.sampled_from([None, 1, FAR])), data.draw(st.integers(0, 3)) == 0
        quorum, role = data.draw(st.sampled_from([1, 1, 2])), data.draw(st.sampled_from(["", "x"]))
        self.born += 1
        number = self.born

        def verb(own: Ownership) -> Awaitable[Any]:
            batch = runs.asking(number, due_ms=due, quorum=quorum, roles=[role] if role else [])
            known = self.runs[own.run_id].asks
            if takes_back and known:
                batch.unasks.append(int(sorted(known)[0].partition(".")[2]))
            return self.store.append(own, batch)

        run, _ = self.write(data, verb)
        if run is None:
            return
        run.journal.append("ApprovalRequested")
        run.crashes, run.danger = 0, False
        if takes_back and run.asks and run.asks[first := sorted(run.asks)[0]].status == "open":
            self.shut(run, first, "withdrawn")
        ref = f"{run.gen}.{number}"
        run.asks[ref] = Ask(quorum, role, due == 1)
        if due is not None:
            self.timers[f"a|{run.id}|{ref}"] = due == 1

    def decide(self, data: st.DataObject) -> None:
        asked = sorted((run.id, ref) for run in self.runs.values() for ref in run.asks)
        if not asked:
            return
        run_id, ref = data.draw(st.sampled_from(asked), label="ask")
        run, ask = self.runs[run_id], self.runs[run_id].asks[ref]
        approver, roles = data.draw(st.sampled_from("abc")), data.draw(st.sampled_from([[], ["x"], ["x"]]))
        decision = data.draw(st.sampled_from(["approved", "approved", "rejected"]))
        self.born += 1
        given = {"operation": str(self.born), "approver": approver, "roles": roles, "decision": decision}
        call = lambda: runs.decide(self.store, run_id, ref, **given)
        if run.status in ENDED and ask.status == "withdrawn":
            self.refused_as_ended(call)
            return
        verdict = self.do(call)
        if ask.status == "open" and ask.past:
            self.shut(run, ref, "timeout")
        word = (
            "closed" if ask.status != "open"
            else "role" if ask.role and ask.role not in roles
            else "voted" if approver in ask.voters
            else "ok"
        )  # fmt: skip
        assert verdict.word == word
        if word != "ok":
            run.journal += [] if run.status in ENDED else ["DecisionRefused"]
        else:
            ask.voters.add(approver)
            if decision == "rejected" or len(ask.voters) >= ask.quorum:
                self.shut(run, ref, decision)
            else:
                run.journal.append("ApprovalVoted")
        assert verdict.status == ask.status
        self.unchanged(call, refused=False)

    def ask_for_children_again(self, data: st.DataObject) -> None:
        """Rule R4: what a new owner does with commands that have no completion."""

        def verb(own: Ownership) -> Awaitable[Any]:
            run = self.runs[own.run_id]
            mine = sorted(kid.id for kid in self.runs.values() if kid.parent == run.id and kid.pgen == run.gen)
            batch = Batch(children=[runs.child(kid, int(kid.rpartition("~")[2])) for kid in mine])
            return self.store.append(own, batch)

        run, _ = self.write(data, verb)
        if run is None:
            return
        for kid in sorted(self.runs.values(), key=lambda kid: kid.id):
            if kid.parent == run.id and kid.pgen == run.gen:
                if kid.status not in ENDED:
                    run.kids.add(kid.id)
                elif not kid.told:
                    self.hear(run, kid)

    def finish(self, data: st.DataObject) -> None:
        how = data.draw(st.sampled_from(sorted(ENDS)))
        run, _ = self.write(data, lambda own: self.store.finish(own, how, b'"x"'))  # type: ignore[arg-type]
        if run is not None:
            self.end(run, how)

    def fail_attempt(self, data: st.DataObject) -> None:
        delay_ms = data.draw(st.sampled_from([0, 3_600_000]))
        verb = lambda own: self.store.retry(own, attempt=0, error=b"{}", delay_ms=delay_ms)
        run, _ = self.write(data, verb)
        if run is None:
            return
        run.owner, run.newtry, run.crashes, run.danger = None, True, 0, False
        run.journal.append("AttemptFailed")
        self.untime(run.id)
        run.status, run.retry = ("waiting", True) if delay_ms else ("queued", False)
        if delay_ms:
            self.timers[f"r|{run.id}"] = False

    def park(self, data: st.DataObject) -> None:
        blind = data.draw(st.sampled_from([False, False, True]))
        seen = lambda own: len(self.runs[own.run_id].journal) - (1 if blind else 0)
        run, reply = self.write(data, lambda own: self.store.park(own, seen=seen(own)))
        if run is None:
            return
        assert isinstance(reply, More) == blind
        if not blind:
            run.status, run.owner, run.danger = "waiting", None, False

    def hand_back(self, data: st.DataObject) -> None:
        run, _ = self.write(data, lambda own: self.store.hand_back(own, seen=1))
        if run is not None:
            run.status, run.owner, run.danger = "queued", None, False

    def renew(self, data: st.DataObject) -> None:
        blind = data.draw(st.booleans())

        def verb(own: Ownership) -> Awaitable[Any]:
            seen = len(self.runs[own.run_id].journal) - (1 if blind else 0)
            return self.store.renew(own, seen=seen, body=runs.body("RunStarted"), carried=[])

        run, reply = self.write(data, verb)
        if run is None:
            return
        assert isinstance(reply, More) == blind
        if not blind:
            run.gen += 1
            run.journal = ["RunStarted"]
            run.kids.clear()
            run.asks.clear()
            self.untime(run.id)

    def repeat(self, data: st.DataObject) -> None:
        """The very same call once more, as after a lost reply: it changes nothing, whoever owns the run now."""
        done = [owner for owner in self.owners if owner.last]
        if not done:
            return
        owner = done[data.draw(st.integers(0, len(done) - 1))]
        same = Ownership(owner.own.run_id, owner.own.host, owner.own.epoch, owner.own.op - 1)
        assert owner.last is not None
        last = owner.last
        reply = self.unchanged(lambda: last(same), refused=False)
        if owner.told_no and self.runs[owner.own.run_id].owner == owner.own.epoch:
            assert isinstance(reply, More), "a lost no became a yes"

    def lose_count(self, data: st.DataObject) -> None:
        """An owner whose writes the store has forgotten gives its run back."""
        current = [owner for owner in self.owners if self.runs[owner.own.run_id].owner == owner.own.epoch]
        if not current:
            return
        owner = current[data.draw(st.integers(0, len(current) - 1))]
        own = Ownership(owner.own.run_id, owner.own.host, owner.own.epoch, owner.own.op + 1)
        try:
            self.do(lambda: self.store.append(own, Batch(bodies=[b'{"e":"Never"}'])))
        except StaleEpochError:
            run = self.runs[own.run_id]
            run.status, run.owner, run.danger = "queued", None, False
        else:
            raise AssertionError("a write was taken out of its order")

    # ---- time and death

    def hours_pass(self, _: st.DataObject) -> None:
        for member in self.timers:
            self.timers[member] = True
        if self.timers:
            self.admin.zadd("agnt5:{s0}:timers", dict.fromkeys(self.timers, 1), xx=True)

    def fire(self, _: st.DataObject) -> None:
        due = sorted(member for member, is_due in self.timers.items() if is_due)
        fired = self.do(lambda: self.store.fire(0, limit=1000, timeout_error=runs.LATE))
        assert fired.count == len(due)
        for member in due:
            self.timers.pop(member, None)
            sort, run_id, *_ = member.split("|")
            run = self.runs[run_id]
            if run.status in ENDED:
                continue
            if sort == "t":
                self.tell(run, "TimerFired")
            elif sort == "a":
                self.shut(run, member.split("|")[2], "timeout")
            elif sort == "r":
                run.status, run.retry = "queued", False
            elif run.owner is not None:
                self.tell(run, "CancelRequested")
            else:
                self.end(run, "timeout")

    def host_dies(self, data: st.DataObject) -> None:
        host = data.draw(st.sampled_from(["h1", "h2"]))
        mine = [run for run in self.runs.values() if run.owner and run.hosts == host]
        count, left, _ = self.do(lambda: self.store.reap(0, host, limit=1000, error=runs.LOST))
        assert (count, left) == (len(mine), 0)
        poisoned = []
        for run in mine:
            if run.status == "running" and (run.crashes < 2 or run.danger):
                run.crashes += 1
            run.owner, run.danger, run.newtry = None, False, True
            run.journal.append("HostLost")
            run.status = "queued"
            if run.crashes >= 3:
                poisoned.append(run)
        for run in poisoned:
            self.end(run, "failed")

    def try_alone(self, data: st.DataObject) -> None:
        owned = sorted(run.id for run in self.runs.values() if run.owner)
        if not owned:
            return
        run = self.runs[data.draw(st.sampled_from(owned))]
        self.admin.hset(f"agnt5:{{s0}}:run:{run.id}", "danger", "1")
        run.danger = True

    def send_again(self, data: st.DataObject) -> None:
        probe = data.draw(st.booleans())
        queued = {run.id for run in self.runs.values() if run.status == "queued"}
        call = lambda: self.store.requeue(0, f"{runs.QUEUE}:5", before_ms=FAR, slack_ms=0, limit=1000, probe=probe)
        _, _, out = self.do(call)
        assert {dispatch.run_id for dispatch in out} == queued

    # ---- what always holds

    @invariant()
    def the_store_is_as_the_model_has_it(self) -> None:
        whole = dump(self.admin)
        assert examine_dump(whole) == []
        found = {key.partition("}:")[2]: value for key, (value, _) in whole.items()}
        assert {name[4:] for name in found if name.startswith("run:")} == set(self.runs)
        assert {member.decode() for member, _ in found.get("timers", [])} == set(self.timers)
        assert {_short(member) for member, _ in found.get("untold", [])} == self.untold
        for run in self.runs.values():
            record = found[f"run:{run.id}"]
            assert record[b"status"].decode() == run.status, run
            assert record.get(b"epoch", b"").decode() == (run.owner or ""), run
            assert [json.loads(entry)["e"] for entry in found[f"log:{run.id}"]] == run.journal, run
            assert {kid.decode() for kid in found.get(f"kids:{run.id}", {})} == run.kids, run
            for ref, ask in run.asks.items():
                assert found[f"ask:{run.id}|{ref}"][b"status"].decode() == ask.status, run

    def teardown(self) -> None:
        """Everything is brought to its end, and then nothing is left that will not expire."""
        for _ in range(10):
            for run_id in self.runs:
                self.finish_somehow(run_id)
        for key, (value, ttl) in dump(self.admin).items():
            name = key.partition("}:")[2]
            assert ttl or name in {"ended", "queues", "claimed"}, (name, value)

    def finish_somehow(self, run_id: str) -> None:
        for owner in self.owners:
            try:
                self.do(lambda own=owner.own: self.store.finish(own, "completed", b"1"))
            except StaleEpochError:
                continue
        self.owners.clear()
        try:
            self.do(lambda: self.store.cancel(run_id, reason=b'"end"'))
            own = self.do(lambda: runs.claim(self.store, run_id, "h9", run_id))
        except (Agnt5Error, AssertionError):
            return
        self.do(lambda: self.store.finish(own, "completed", b"1"))


def _short(untold: bytes) -> str:
    run_id, ending, generation, _, length, *_ = untold.decode().split("|")
    return f"{run_id}|{ending}|{generation}|{length}"


def test_the_scripts_do_what_the_model_does(server):
    run_machine(StoreMachine, server, examples=EXAMPLES)

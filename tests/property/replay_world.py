"""Random workflow programs, and a store and hosts in small that answer them in random order, and crash."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from zlib import crc32

from hypothesis import strategies as st

from agnt5.contracts.approvals import ApprovalTerms
from agnt5.contracts.errors import Agnt5Error
from agnt5.replay import events as ev
from agnt5.replay.commands import (
    CancelStep,
    CancelTask,
    CancelTimer,
    EmitSignal,
    RecordConfig,
    RequestApproval,
    RunStep,
    StartTask,
    StartTimer,
    WithdrawApproval,
)
from agnt5.replay.journal import decode, encode, event_of
from agnt5.replay.machine import Machine

RUN_ID = "order-17"
NAMES = ("a", "b", "c")

# ---- programs: blocks of operations, as data

names = st.sampled_from(NAMES)
delays = st.sampled_from([0, 1, 1500, 1500, 60_000])
simple = st.one_of(
    st.tuples(st.just("task"), names),
    st.tuples(st.just("keyed"), names),
    st.tuples(st.just("spawn"), names),
    st.tuples(st.just("cancelled_task"), names),
    st.tuples(st.just("step"), names),
    st.tuples(st.just("sleep"), delays),
    st.tuples(st.just("timer"), names, delays),
    st.tuples(st.just("signal"), names),
    st.tuples(st.just("emit"), names),
    st.tuples(st.just("approval"), names),
    st.tuples(st.just("draw")),
    st.tuples(st.just("yield")),
    st.tuples(st.just("raise")),
)


def _nested(block):
    blocks = st.lists(block, min_size=1, max_size=4)
    return st.lists(
        st.one_of(
            simple,
            simple,
            st.tuples(st.just("gather"), blocks),
            st.tuples(st.just("group"), blocks),
            st.tuples(st.just("race"), blocks),
            st.tuples(st.just("queue"), blocks),
            st.tuples(st.just("background"), block),
            st.tuples(st.just("timeout"), delays, block),
            st.tuples(st.just("wait_for"), delays, block),
            st.tuples(st.just("try"), block, block),
            st.tuples(st.just("patched"), names, block, block),
            st.tuples(st.just("config"), names, st.booleans(), block, block),
        ),
        max_size=5,
    )


PLAIN = ("task", "task", "keyed", "spawn", "cancelled_task", "step", "step", "signal", "emit", "approval")
NESTS = ("gather", "group", "race", "queue", "background", "timeout", "wait_for", "try", "patched", "config")
DELAYS = (0, 1, 1500, 60_000)


def large_program(rng: random.Random, depth: int = 3) -> list:
    """A program of the size that Hypothesis seldom draws."""
    block: list = []
    for _ in range(rng.randint(1, 4)):
        if depth == 0 or rng.random() < 0.5:
            kind = rng.choice((*PLAIN, "sleep", "timer", "draw", "yield"))
            arguments = {"sleep": (rng.choice(DELAYS),), "draw": (), "yield": ()}
            plain = (rng.choice(NAMES), rng.choice(DELAYS)) if kind == "timer" else (rng.choice(NAMES),)
            block.append((kind, *arguments.get(kind, plain)))
            continue
        kind, inner = rng.choice(NESTS), large_program(rng, depth - 1)
        match kind:
            case "gather" | "group" | "race" | "queue":
                block.append((kind, [inner, large_program(rng, depth - 1)]))
            case "timeout" | "wait_for":
                block.append((kind, rng.choice(DELAYS[1:]), inner))
            case "try":
                block.append((kind, inner, large_program(rng, 0)))
            case "patched":
                block.append((kind, rng.choice(NAMES), inner, large_program(rng, 0)))
            case "config":
                block.append((kind, rng.choice(NAMES), rng.random() < 0.3, inner, large_program(rng, 0)))
            case _:
                block.append((kind, inner))
    return block


programs = st.one_of(
    st.recursive(st.lists(simple, max_size=4), _nested, max_leaves=14),
    st.integers(0, 2**32 - 1).map(lambda seed: large_program(random.Random(seed))),
)


class Interpreter:
    """Runs a program on a machine. `seen` has each recorded value that the code was given, by command number.

    What is set in config is another thing for each `host`, but for what `journal` records: a journal that is fed in
    parts stands for one host, which had read that.
    """

    def __init__(self, block, seen: dict[int, object] | None = None, host: int = -1, journal=()) -> None:
        self.config = random.Random(host)
        self.recorded = {event.seq: event.value for event in journal if isinstance(event, ev.ConfigRead)}
        self.block = block
        self.seen = {} if seen is None else seen

    async def __call__(self, machine: Machine, _started: ev.RunStarted):
        return await self.run(machine, self.block)

    async def run(self, machine, block):
        return [await getattr(self, "do_" + op[0])(machine, *op[1:]) for op in block]

    async def note(self, seq, future):
        try:
            value = await future
        except Agnt5Error as error:
            value = [type(error).__name__, str(error)]
            self.note_value(seq, value)
            raise
        self.note_value(seq, value)
        return value

    def note_value(self, seq, value):
        assert self.seen.setdefault(seq, value) == value, f"command {seq} gave {self.seen[seq]!r}, now {value!r}"

    async def do_task(self, m, name):
        ref = m.start_task(f"svc.{name}", {"n": m.now_ms()})
        return await self.note(ref.seq, ref.future)

    async def do_keyed(self, m, name):
        ref = m.start_task(f"svc.{name}", None, key=name)
        return await self.note(ref.seq, asyncio.shield(ref.future))

    async def do_spawn(self, m, name):
        return m.start_task(f"svc.{name}", None).id

    async def do_cancelled_task(self, m, name):
        ref = m.start_task(f"svc.{name}", None)
        await asyncio.sleep(0)
        m.cancel_task(ref)
        return await self.note(ref.seq, ref.future)

    async def do_step(self, m, name):
        future = m.step(name, lambda: name)
        return await self.note(future.seq, future)

    async def do_sleep(self, m, delay):
        await asyncio.sleep(delay / 1000)
        return m.now_ms()

    async def do_timer(self, m, name, delay):
        await m.start_timer(m.now_ms() + delay, name)
        return m.now_ms()

    async def do_signal(self, m, name):
        future = m.await_signal(name)
        return await self.note(future.seq, future)

    async def do_emit(self, m, name):
        future = m.emit_signal(name, "order-18", 1)
        return await self.note(future.seq, future)

    async def do_approval(self, m, name):
        ref = m.request_approval(ApprovalTerms(name=name, payload=m.now_ms(), due_ms=m.now_ms() + 1500))
        return await self.note(ref.seq, ref.future)

    async def do_draw(self, m):
        return [m.random().random(), str(m.uuid()), m.now_ms()]

    async def do_yield(self, _m):
        await asyncio.sleep(0)

    async def do_raise(self, _m):
        raise ValueError("raised by the program")

    async def do_gather(self, m, blocks):
        results = await asyncio.gather(*(self.run(m, block) for block in blocks), return_exceptions=True)
        return [repr(r) if isinstance(r, BaseException) else r for r in results]

    async def do_group(self, m, blocks):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.run(m, block)) for block in blocks]
        return [task.result() for task in tasks]

    async def do_race(self, m, blocks):
        tasks = [asyncio.create_task(self.run(m, block)) for block in blocks]
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [tasks.index(task) for task in done], [tasks.index(task) for task in pending]

    async def do_queue(self, m, blocks):
        queue = asyncio.Queue(1)

        async def produce(index, block):
            try:
                await self.run(m, block)
            finally:
                await queue.put(index)

        tasks = [asyncio.create_task(produce(*pair)) for pair in enumerate(blocks)]
        order = [await queue.get() for _ in tasks]
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    async def do_background(self, m, block):
        asyncio.create_task(self.run(m, block)).add_done_callback(lambda t: t.cancelled() or t.exception())

    async def do_timeout(self, m, delay, block):
        try:
            async with asyncio.timeout(delay / 1000):
                return await self.run(m, block)
        except TimeoutError:
            return "timed out"

    async def do_wait_for(self, m, delay, block):
        try:
            return await asyncio.wait_for(self.run(m, block), delay / 1000)
        except TimeoutError:
            return "timed out"

    async def do_try(self, m, block, handler):
        try:
            return await self.run(m, block)
        except (Exception, asyncio.CancelledError) as error:
            return [type(error).__name__, await self.run(m, handler)]

    async def do_patched(self, m, name, new, old):
        return await self.run(m, new if m.patched(name) else old)

    def set_for(self, seq):
        now = self.config.randint(0, 3)
        return self.recorded.get(seq, now)

    async def do_config(self, m, name, fresh, new, old):
        value = m.read_config(name, "", lambda: self.set_for(m._ledger.seq), fresh=fresh)
        return [value, await self.run(m, new if value % 2 else old)]


# ---- the world


@dataclass
class World:
    """A store with one run, and its hosts, one after the other."""

    block: object
    rng: random.Random
    crashes: bool = True
    journal: list[bytes] = field(default_factory=list)
    now_ms: int = 1_700_000_000_000
    fed: int = 0
    seen: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    crashed: int = 0

    def __post_init__(self):
        self.tasks: dict[int, str] = {}
        self.cancelled: set[int] = set()
        self.timers: dict[int, int] = {}
        self.emitted: set[int] = set()
        self.asks: dict[int, bool] = {}
        self.steps: dict[int, str] = {}
        self.signals = self.values = 0
        self.cancel_sent = False
        self.answer = None
        self.machine = None
        self.append(ev.RunStarted(handler="svc.program", kind="workflow"))
        self.new_host()

    def events(self, start: int = 0) -> list[ev.Event]:
        return [decode(entry) for entry in self.journal[start:]]

    def append(self, event: ev.Event) -> None:
        self.now_ms += self.rng.choice((0, 0, 1, 7))
        self.journal.append(b'{"at":%d,' % self.now_ms + encode(event)[1:])

    def new_host(self) -> None:
        """A host claims the run and replays it."""
        if self.machine is not None:
            self.machine.close()
        self.steps = {}
        self.machine = Machine(RUN_ID, Interpreter(self.block, self.seen, len(self.journal)))
        self.fed = len(self.journal)
        self.obey(self.machine.activate(self.events()))
        for command in self.machine.open_commands():
            self.effect(command)

    def obey(self, answer) -> None:
        asked = self.machine._ledger.asked
        assert asked[: len(self.asked)] == self.asked[: len(asked)]
        self.asked = max(self.asked, asked, key=len).copy()
        self.answer = answer
        keep = len(answer.commands)
        if self.crashes and self.rng.random() < 0.04:
            keep = self.rng.randint(0, keep)  # it crashes in the middle of the append
        for command in answer.commands[:keep]:
            if (event := event_of(command)) is not None:
                self.append(event)
        if keep < len(answer.commands):
            self.crashed += 1
            # the next host may read another value where the record of this one got lost, and go another way from there
            lost = (command.seq for command in answer.commands[keep:] if isinstance(command, RecordConfig))
            self.asked = self.asked[: next(lost, len(self.asked))]
            self.new_host()
            return
        for command in answer.commands:
            self.effect(command)

    def effect(self, command) -> None:
        """What the store and the host do for a command; doing it twice is as good as once."""
        match command:
            case StartTask():
                self.tasks.setdefault(command.seq, command.id)
            case CancelTask():
                self.cancelled.add(command.target)
            case StartTimer():
                self.timers.setdefault(command.seq, command.due_ms)
            case CancelTimer():
                self.timers[command.seq] = 0
            case RequestApproval():
                self.asks.setdefault(command.seq, True)
            case WithdrawApproval():
                self.asks[command.seq] = False
            case EmitSignal():
                self.emitted.add(command.seq)
            case RunStep():
                self.steps[command.seq] = command.name
            case CancelStep():
                self.steps.pop(command.seq, None)

    # ---- one thing happens

    def choices(self) -> list:
        done = [self.end_task] * len(self.tasks) + [self.deliver] * len(self.emitted)
        done += [self.fire] * sum(1 for due in self.timers.values() if due) + [self.end_step] * len(self.steps)
        done += [self.decide] * sum(self.asks.values())
        if self.signals < 8:
            done.append(self.send)
        if not self.cancel_sent and self.rng.random() < 0.05:
            done.append(self.cancel)
        return done

    def end_task(self):
        seq = self.rng.choice(sorted(self.tasks))
        run_id = self.tasks.pop(seq)
        if seq in self.cancelled and self.rng.random() < 0.8:
            self.append(ev.TaskFailed(seq=seq, error={"type": "RunCancelledError", "message": "asked"}))
        elif crc32(run_id.encode()) % 4 == 0:
            self.append(ev.TaskFailed(seq=seq, error={"type": "ValueError", "message": run_id}))
        else:
            self.append(ev.TaskCompleted(seq=seq, result=self.value(run_id)))

    def fire(self):
        seq = self.rng.choice(sorted(seq for seq, due in self.timers.items() if due))
        self.now_ms = max(self.now_ms, self.timers[seq])
        self.timers[seq] = 0
        self.append(ev.TimerFired(seq=seq))

    def decide(self):
        seq = self.rng.choice(sorted(seq for seq, is_open in self.asks.items() if is_open))
        kind = self.rng.random()
        if kind < 0.2:
            self.append(ev.DecisionRefused(seq=seq, approver="eve", decision="approved", why="role"))
        elif kind < 0.4:
            self.append(ev.ApprovalVoted(seq=seq, approver="bob", comment=self.value("vote")))
        else:
            self.asks[seq] = False
            decision = self.rng.choice(("approved", "rejected", "timeout"))
            approver = "" if decision == "timeout" else "ann"
            self.append(ev.ApprovalDecided(seq=seq, decision=decision, approver=approver))

    def end_step(self):
        seq = self.rng.choice(sorted(self.steps))
        name = self.steps.pop(seq)
        if self.rng.random() < 0.2:
            self.append(ev.StepFailed(seq=seq, name=name, error={"type": "OSError", "message": self.value(name)}))
        else:
            self.append(ev.StepCompleted(seq=seq, name=name, result=self.value(name)))

    def deliver(self):
        seq = self.rng.choice(sorted(self.emitted))
        self.emitted.discard(seq)
        if self.rng.random() < 0.3:
            self.append(ev.SignalRefused(seq=seq, error={"type": "RunEndedError", "message": "ended"}))
        else:
            self.append(ev.SignalDelivered(seq=seq))

    def send(self):
        self.signals += 1
        self.append(ev.SignalReceived(name=self.rng.choice(NAMES), payload=self.value("signal"), op=f"s{self.signals}"))

    def cancel(self):
        self.cancel_sent = True
        self.append(ev.CancelRequested(reason="enough"))

    def value(self, what: str) -> str:
        self.values += 1
        return f"{what}#{self.values}"

    def tick(self) -> bool:
        """Some events happen, and a host is fed with them, alone or together; False when nothing can happen."""
        happened = 0
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            if choices := self.choices():
                self.rng.choice(choices)()
                happened += 1
        if not happened:
            return False
        if self.crashes and self.rng.random() < 0.08:
            self.crashed += 1
            self.new_host()
        elif self.rng.random() < 0.5:
            self.feed(len(self.journal))
        else:
            # one by one, their commands behind those that have come in meanwhile
            for end in range(self.fed + 1, len(self.journal) + 1):
                if end > self.fed:
                    self.feed(end)
        return True

    def feed(self, end: int) -> None:
        events = [decode(entry) for entry in self.journal[self.fed : end]]
        self.fed = end
        self.obey(self.machine.activate(events))

    def play(self, ticks: int = 60) -> World:
        """Let things happen until the run ends or nothing can happen any more."""
        for _ in range(ticks):
            if self.answer.outcome is not None or not self.tick():
                break
        rest = self.events(self.fed)
        self.fed = len(self.journal)
        self.obey(self.machine.activate(rest))
        self.machine.close()
        return self


def play(block, seed: int, *, crashes: bool = True) -> World:
    """The run of a program in a world made from `seed`."""
    return World(block, random.Random(seed), crashes=crashes).play()


def summary(machine: Machine, answer) -> tuple:
    """All that has to be the same in every replay."""
    outcome = answer.outcome
    shown = (type(outcome).__name__, repr(outcome)) if outcome is not None else None
    waiting = machine.waiting_on if outcome is None else ()
    return machine._ledger.asked, shown, waiting, machine.now_ms()


def identities(journal: list[ev.Event]) -> dict[int, tuple]:
    """What each command number is by the journal, told apart without the code under test."""
    found: dict[int, tuple] = {}
    for event in journal:
        name = type(event).__name__
        match event:
            case ev.TaskScheduled():
                found.setdefault(event.seq, ("task", event.handler, event.id))
            case ev.TimerStarted():
                found.setdefault(event.seq, ("timer", event.name, ""))
            case ev.SignalAwaited():
                found.setdefault(event.seq, ("signal", event.name, ""))
            case ev.SignalEmitted():
                found.setdefault(event.seq, ("emit", event.name, event.target))
            case ev.ApprovalRequested():
                found.setdefault(event.seq, ("approval", event.name, ""))
            case ev.PatchMarked():
                found.setdefault(event.seq, ("patch", event.change, ""))
            case ev.ConfigRead():
                found.setdefault(event.seq, ("config", event.key, event.unit))
            case ev.TaskCancelRequested():
                found.setdefault(event.seq, ("cancel", str(event.target), ""))
            case ev.StepCompleted() | ev.StepFailed():
                found.setdefault(event.seq, ("step", event.name, ""))
            case _:
                assert name
    return found


def without_at(event: ev.Event) -> ev.Event:
    return replace(event, at=0)

"""What a function's earlier tries have recorded: a pure lookup by name, key or order of calls.

A function runs live, with real I/O, so its calls are numbered per sort and not over all: steps by the occurrence
of their name and key, children by key or else by their order among the keyless ones, calls of entities by the
occurrence of entity, method and key, timers and signals by the occurrence of their name (and target). Numbers of keyed
children begin past `KEYED`, those of calls past `CALLS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from agnt5.contracts.errors import InvalidInputError, NonDeterminismError
from agnt5.contracts.ids import CALL, call_id, call_operation, child_id
from agnt5.replay import events as ev
from agnt5.replay.refs import is_keyed, key_part

KEYED = 1_000_000
"""A keyed child's number is above this, so that it never meets a keyless one's place."""

CALLS = 2_000_000
"""The numbers of calls of entities are above this."""


@dataclass(frozen=True, slots=True)
class ChildSlot:
    """One child. `scheduled`: the journal has `id`; `completion`: how it ended, if it has."""

    seq: int
    id: str
    handler: str
    scheduled: bool = False
    completion: ev.TaskCompleted | ev.TaskFailed | None = None


@dataclass(frozen=True, slots=True)
class TimerSlot:
    """One timer. `due_ms` is None while none is recorded."""

    seq: int
    due_ms: int | None = None
    fired: bool = False


@dataclass(frozen=True, slots=True)
class SignalSlot:
    """One signal to another run, as it was recorded, and what became of it."""

    seq: int
    emitted: ev.SignalEmitted | None = None
    answer: ev.SignalDelivered | ev.SignalRefused | None = None


@dataclass(slots=True)
class _Child:
    """All that is recorded of one child number."""

    slot: ChildSlot
    redo: int = 0


class Checkpoints:
    """Feed it the journal, then ask it in the order of the function's calls.

    What succeeded in an earlier attempt is found again. A step or child that failed in an earlier attempt is not:
    it is done again, the child under a new id. A failure of the current attempt is found, for the case that the
    function was given back while it waited, and runs anew from its top. Make a new one for each such run.
    """

    def __init__(self, run_id: str, events: Iterable[ev.Event] = (), *, generation: int = 0) -> None:
        self.run_id = run_id
        self._generation = generation
        self._steps: dict[tuple[str, str, int], ev.StepCompleted | ev.StepFailed] = {}
        self._children: dict[int, _Child] = {}
        self._keys: dict[str, int] = {}
        self._last_keyed = KEYED
        self._calls: dict[str, int] = {}
        self._timers: dict[int, TimerSlot] = {}
        self._timer_seqs: dict[tuple[str, int], int] = {}
        self._signals: dict[int, SignalSlot] = {}
        self._signal_seqs: dict[tuple[str, str, int], int] = {}
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._feed: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.RunStarted: self._started,
            ev.AttemptStarted: self._new_attempt,
            ev.RunReopened: self._new_attempt,
            ev.StepCompleted: self._step_ended,
            ev.StepFailed: self._step_ended,
            ev.TaskScheduled: self._scheduled,
            ev.TaskCompleted: self._child_ended,
            ev.TaskFailed: self._child_ended,
            ev.TimerStarted: self._timer_started,
            ev.TimerFired: self._timer_fired,
            ev.SignalEmitted: self._emitted,
            ev.SignalDelivered: self._answered,
            ev.SignalRefused: self._answered,
        }
        for event in events:
            self.feed(event)

    def feed(self, event: ev.Event) -> None:
        """Take in the next journal entry, of the past or just appended."""
        take = self._feed.get(type(event))
        if take is not None:
            take(event)

    # ---- what the function asks

    def step(self, name: str, key: str = "") -> tuple[int, ev.StepCompleted | ev.StepFailed | None]:
        """The number of this call among those of `name` and `key` in this attempt, and what is recorded for it."""
        seq = self._count("step", name, key)
        return seq, self._steps.get((name, key, seq))

    def child(self, handler: str, key: str | None = None) -> ChildSlot:
        """The child for this call; a key asked again is the same child.

        Raises `NonDeterminismError` where an earlier attempt called another handler at this place, and
        `InvalidInputError` for a key that another handler has.
        """
        if key is None:
            seq = self._count("child")
            return self._slot(seq, handler, seq, f"call {seq}")
        part = key_part(key)
        seq = self._keys.get(part) or self._last_keyed + 1
        self._keys[part] = seq
        self._last_keyed = max(self._last_keyed, seq)
        return self._slot(seq, handler, part, f"key {key!r}")

    def call(self, handler: str, entity: str, key: str = "") -> ChildSlot:
        """The call of an entity's method for this call: the n-th of this method, entity and key in this attempt."""
        number = self._count("call", handler, entity, key)
        place = f"{handler}.{key}.{number}" if key else f"{handler}.{number}"
        run_id = call_id(entity, call_operation(self.run_id, self._generation, place))
        seq = self._calls.setdefault(run_id, max((CALLS, *self._calls.values())) + 1)
        child = self._children.setdefault(seq, _Child(ChildSlot(seq, run_id, handler)))
        return child.slot

    def open_calls(self) -> list[str]:
        """The ids of the calls that are recorded and have no answer."""
        slots = (self._children[seq].slot for seq in self._calls.values() if seq in self._children)
        return [slot.id for slot in slots if slot.scheduled and slot.completion is None]

    def timer(self, name: str = "") -> TimerSlot:
        """The timer for this call of `name` in this attempt; a recorded due time counts, not a new one."""
        seq = self._nth(self._timer_seqs, self._timers, (name, self._count("timer", name)))
        return self._timers.setdefault(seq, TimerSlot(seq))

    def signal_out(self, name: str, target: str) -> SignalSlot:
        """The signal for this call with this name and target in this attempt; a recorded one is not sent again."""
        seq = self._nth(self._signal_seqs, self._signals, (name, target, self._count("signal", name, target)))
        return self._signals.setdefault(seq, SignalSlot(seq))

    # ---- inside

    def _count(self, *what: str) -> int:
        self._counts[what] += 1
        return self._counts[what]

    def _nth(self, seqs: dict[Any, int], slots: dict[int, Any], what: Any) -> int:
        return seqs.setdefault(what, max(slots, default=0) + 1)

    def _slot(self, seq: int, handler: str, part: int | str, place: str) -> ChildSlot:
        child = self._children.get(seq)
        if child is None:
            child = self._children[seq] = _Child(ChildSlot(seq, self._id(part, 0), handler))
        elif child.slot.handler != handler:
            raise self._other_handler(child.slot, handler, place, keyed=seq > KEYED)
        return child.slot

    def _id(self, part: int | str, redo: int) -> str:
        return child_id(self.run_id, part, generation=self._generation, redo=redo)

    def _other_handler(
        self, slot: ChildSlot, handler: str, place: str, *, keyed: bool
    ) -> NonDeterminismError | InvalidInputError:
        if keyed:
            return InvalidInputError(
                f"run {self.run_id}: {place} is taken by a child of {slot.handler}, the code asks {handler}; "
                "a key names one child, use another"
            )
        return NonDeterminismError(
            f"run {self.run_id}, child {place}: an earlier attempt called {slot.handler}, the code asks {handler}; "
            "calls that can change their order between attempts need a name of their own: give key=..."
        )

    # ---- events

    def _started(self, event: ev.RunStarted) -> None:
        self._generation = event.generation

    def _new_attempt(self, _event: ev.Event) -> None:
        self._counts.clear()
        self._steps = {place: step for place, step in self._steps.items() if isinstance(step, ev.StepCompleted)}
        for child in self._children.values():
            if isinstance(child.slot.completion, ev.TaskFailed):
                child.redo += 1
                first = child.slot.id if child.redo == 1 else child.slot.id.rpartition("!")[0]
                child.slot = ChildSlot(child.slot.seq, f"{first}!{child.redo}", child.slot.handler)

    def _step_ended(self, event: ev.StepCompleted | ev.StepFailed) -> None:
        place = (event.name, event.key, event.seq)
        # the first value stands: a recorded one never changes
        if not isinstance(self._steps.get(place), ev.StepCompleted):
            self._steps[place] = event

    def _scheduled(self, event: ev.TaskScheduled) -> None:
        child = self._children.get(event.seq)
        if child is None:
            self._children[event.seq] = _Child(ChildSlot(event.seq, event.id, event.handler, scheduled=True))
        elif child.slot.id == event.id:
            child.slot = replace(child.slot, scheduled=True)
        if event.seq > CALLS:
            entity, _, own = event.id.partition(CALL)
            self._calls.setdefault(call_id(entity, own.partition("!")[0]), event.seq)
        elif event.seq > KEYED and is_keyed(event.id):
            self._keys.setdefault(self._key_in(event.id), event.seq)
            self._last_keyed = max(self._last_keyed, event.seq)

    def _key_in(self, run_id: str) -> str:
        own = run_id.rpartition("~")[2].partition("!")[0]
        return own.removeprefix(f"{self._generation}.") if self._generation else own

    def _child_ended(self, event: ev.TaskCompleted | ev.TaskFailed) -> None:
        child = self._children.get(event.seq)
        if child is not None and child.slot.completion is None:
            child.slot = replace(child.slot, scheduled=True, completion=event)

    def _timer_started(self, event: ev.TimerStarted) -> None:
        known = self._timers.get(event.seq)
        if known is None or known.due_ms is None:
            self._timers[event.seq] = TimerSlot(event.seq, event.due_ms)
        self._name(self._timer_seqs, (event.name,), event.seq)

    def _timer_fired(self, event: ev.TimerFired) -> None:
        if event.seq in self._timers:
            self._timers[event.seq] = replace(self._timers[event.seq], fired=True)

    def _emitted(self, event: ev.SignalEmitted) -> None:
        known = self._signals.get(event.seq)
        if known is None or known.emitted is None:
            self._signals[event.seq] = SignalSlot(event.seq, event)
        self._name(self._signal_seqs, (event.name, event.target), event.seq)

    def _answered(self, event: ev.SignalDelivered | ev.SignalRefused) -> None:
        known = self._signals.get(event.seq)
        if known is not None and known.answer is None:
            self._signals[event.seq] = replace(known, answer=event)

    def _name(self, seqs: dict[Any, int], name: tuple[str, ...], seq: int) -> None:
        if seq not in seqs.values():
            taken = sum(1 for place in seqs if place[:-1] == name)
            seqs[(*name, taken + 1)] = seq

"""Signals of one run: buffered when early, first in first out per name, each consumed once."""

from __future__ import annotations

from bisect import insort
from operator import itemgetter

from agnt5.replay.events import SignalReceived
from agnt5.replay.futures import SignalFuture

Numbered = tuple[int, SignalReceived]
"""A signal and its place in the order of arrival."""

_place = itemgetter(0)


class Mailbox:
    """Matches signals with waiters. A signal leaves only when a waiter has taken its payload."""

    def __init__(self) -> None:
        self._arrived = 0
        self._ops: set[str] = set()
        self._buffered: dict[str, list[Numbered]] = {}
        self._waiting: dict[str, dict[int, SignalFuture]] = {}
        self._handed: dict[int, Numbered] = {}

    def receive(self, event: SignalReceived) -> int | None:
        """Take a signal in; returns the command number of the waiter that got it. A repeated `op` is ignored."""
        if event.op:
            if event.op in self._ops:
                return None
            self._ops.add(event.op)
        self._arrived += 1
        return self._pass_on((self._arrived, event))

    def wait(self, name: str, future: SignalFuture) -> bool:
        """Let `future` have the next signal `name`; True if one was there already."""
        buffered = self._buffered.get(name)
        if buffered:
            self._hand(buffered.pop(0), future)
            return True
        self._waiting.setdefault(name, {})[future.seq] = future
        return False

    def forget(self, name: str, seq: int) -> None:
        """The waiter of command `seq` waits no more."""
        self._waiting.get(name, {}).pop(seq, None)

    def dismiss(self) -> None:
        """Nobody waits any more: signals that still come are kept for the next generation."""
        self._waiting.clear()

    def give_back(self, future: SignalFuture) -> int | None:
        """A signal that was handed over and not taken goes to the next waiter, or back to its old place."""
        return self._pass_on(self._handed.pop(future.seq))

    def unconsumed(self) -> tuple[SignalReceived, ...]:
        """All signals that no waiter has taken, oldest first."""
        left = [*self._handed.values(), *(signal for queue in self._buffered.values() for signal in queue)]
        return tuple(event for _, event in sorted(left, key=_place))

    def _pass_on(self, signal: Numbered) -> int | None:
        name = signal[1].name
        waiting = self._waiting.get(name)
        if waiting:
            seq = next(iter(waiting))
            self._hand(signal, waiting.pop(seq))
            return seq
        insort(self._buffered.setdefault(name, []), signal, key=_place)
        return None

    def _hand(self, signal: Numbered, future: SignalFuture) -> None:
        self._handed[future.seq] = signal
        future.consumed = self._consumed
        future.set_result(signal[1].payload)

    def _consumed(self, seq: int) -> None:
        self._handed.pop(seq, None)

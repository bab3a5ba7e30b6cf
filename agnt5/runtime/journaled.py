"""A run's journal as its owner writes and follows it: the order in which events reach the code.

Events come by three ways: as replies to our own appends, as mail from the host's channel, and by reading
the journal. They are applied strictly in journal order, each once, whichever way came first.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from agnt5.contracts.errors import Agnt5Error
from agnt5.contracts.runs import RunStatus
from agnt5.replay import journal
from agnt5.replay.events import Event
from agnt5.store.replies import Applied
from agnt5.store.store import Batch, Ownership

if TYPE_CHECKING:
    from agnt5.runtime.host import Host


class Journaled:
    """What is in memory of one run's journal. Everything happens on the host's loop."""

    def __init__(self, host: Host, own: Ownership, generation: int) -> None:
        self.host = host
        self.own = own
        self.generation = generation
        self.seen = 0
        self.begun = False
        self.ended = False
        self._inbox: dict[int, Event | None] = {}
        self._writing = 0
        self._reading = False
        self._settling = False

    @property
    def run_id(self) -> str:
        return self.own.run_id

    # ---- what comes in

    def _event(self, entry: bytes) -> Event:
        return journal.decode(self.host.store.sealer.open(entry, self.run_id))

    def mail(self, generation: int, length: int, entry: bytes) -> None:
        """An event came by the channel, or from a neighbour on this host; maybe late, from before a renewal."""
        if generation == self.generation and length > self.seen and length not in self._inbox:
            try:
                self._inbox[length] = self._event(entry)
            except Agnt5Error as error:  # whoever brought the event is not to blame
                self.went_wrong(error)
                return
            if self.begun and not self._settling:  # all mail of this tick in one activation
                self._settling = True
                self.host.loop.call_soon(self._settle_mail, context=self.own_context())

    def _settle_mail(self) -> None:
        self._settling = False
        self._settle()

    def check(self, length: int) -> None:
        """The journal is known to have this length: read it if a publication was lost."""
        if length > self.seen and self.begun and not self._writing:
            self._read()

    def _settle(self) -> None:
        """Apply what is next in the journal; read what is missing once nothing of ours is on its way."""
        ready: list[Event] = []
        inbox = self._inbox
        while self.seen + 1 in inbox:
            self.seen += 1
            if (event := inbox.pop(self.seen)) is not None:
                ready.append(event)
        if ready and not self.ended:
            self._notice(ready)
            try:
                self.apply(ready)
            except Exception as error:  # noqa: BLE001 - whoever brought the event is not to blame
                self.went_wrong(error)
        if inbox and not self._writing:
            self._read()

    def _read(self) -> None:
        if not self._reading and not self.ended:
            self._reading = True
            self.host.spawn(self._read_on(), self)

    async def _read_on(self) -> None:
        try:
            start = self.seen
            entries = await self.host.store.entries(self.run_id, start)
        finally:
            self._reading = False
        for at, entry in enumerate(entries, start + 1):
            if at > self.seen:
                self._inbox.setdefault(at, self._event(entry))
        self._settle()

    # ---- what goes out

    def append(
        self,
        batch: Batch,
        *,
        then: Callable[[], Any] | None = None,
        status: RunStatus | None = None,
        heard: bool = False,
    ) -> None:
        """Put a batch on the wire now. `then` is called when it is in the journal.

        `heard`: its events are also applied, when their turn in the journal comes; else the code knows them.
        """
        if self.ended:
            return
        pending = self.host.store.append(self.own, batch, status=status or "")
        self._writing += 1
        self.host.spawn(self._appended(pending, batch, then, heard=heard), self)

    async def write(self, batch: Batch, *, heard: bool = False) -> None:
        """Put a batch on the wire now, and return when it is in the journal: `append` without a task of its own."""
        if self.ended:
            raise asyncio.CancelledError
        pending = self.host.store.append(self.own, batch)
        self._writing += 1
        try:
            await self._appended(pending, batch, None, heard=heard)
        except Agnt5Error as error:
            self.went_wrong(error)
            raise asyncio.CancelledError from error  # the code that waits for it is of no use any more

    async def _appended(
        self, pending: Awaitable[Applied], batch: Batch, then: Callable[[], Any] | None, *, heard: bool
    ) -> None:
        try:
            applied = await pending
        finally:
            self._writing -= 1
        self.host.sent(applied)
        if applied.again:
            self._read()
        else:
            first = applied.length - len(batch.bodies) + 1
            for at, body in enumerate(batch.bodies, first):
                self._inbox[at] = journal.decode(b'{"at":%d,' % applied.now_ms + body[1:]) if heard else None
            self._settle()
        if then is not None and not self.ended:
            then()

    # ---- whose journal it is

    @abstractmethod
    def apply(self, events: list[Event]) -> None:
        """Take further events, in journal order."""

    @abstractmethod
    def _notice(self, events: list[Event]) -> None:
        """Learn of events what concerns the run itself, before its code sees them."""

    @abstractmethod
    def own_context(self) -> Context | None:
        """The context in which its code is told of events; None for the current one."""

    @abstractmethod
    def went_wrong(self, error: BaseException) -> None:
        """A write or read failed for good, or the code did not take an event."""

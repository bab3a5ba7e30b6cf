"""A pipelined, self-mending line to Redis.

Calls of one loop tick leave as one write. Calls whose reply was lost are sent again, in order, after a
reconnect: everything that goes over a link is a read or an idempotent script, so that is safe (rule R3).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from agnt5.contracts.errors import ConfigurationError, StoreFullError, StoreUnavailableError
from agnt5.store.scripts import Script
from agnt5.store.watching import EVERY, LinkWatch
from agnt5.store.wire import Address, Wire, pack

logger = logging.getLogger("agnt5.store")

RECONNECT_S = (0.02, 0.1, 0.25, 0.5, 1.0)
STALL_S = 10.0
"""No reply for so long and the connection is given up: a machine that lost its power says no goodbye."""

TICK_S = 0.25
HOLD_S = 0.5
"""How long a call waits that the server could not take (out of memory, disk full) before it is sent again."""

_AGAIN = ("LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "BUSY ")
_FULL = ("OOM", "MISCONF", "NOREPLICAS")
_RESENDS = 200


class Call:
    """One command on its way: its bytes, its future, and the script to load if the server lacks it.

    `run`: the run that it is for. `place`: its number in the order in which calls were made.
    """

    __slots__ = ("data", "deadline", "future", "place", "resends", "run", "script")

    def __init__(
        self, data: bytes, future: asyncio.Future[Any], script: Script | None, deadline: float, *,
        run: object = None, place: int = 0,
    ) -> None:  # fmt: skip
        self.run = run
        self.place = place
        self.data = data
        self.future = future
        self.script = script
        self.deadline = deadline
        self.resends = 0


class Link:
    """One connection, shared by all of a loop's callers.

    `patience_s`: how long a call may wait through an outage before it raises `StoreUnavailableError`; None
    waits for as long as it takes (what a worker wants). A server that is full counts as an outage for those who
    wait without limit, because a numbered write cannot be left out; others get `StoreFullError` at once.
    `watch`, where there is one, is told of calls, writes, reconnects and round trips.
    """

    def __init__(self, url: str, *, name: str = "agnt5", patience_s: float | None = None) -> None:
        self.address = Address(url, name)
        self.patience_s = patience_s
        self.reconnects = 0
        self.calls = 0
        self.writes = 0
        self.watch: LinkWatch | None = None
        self._watched: Call | None = None
        self._watched_since_s = 0.0
        self._wire: Wire | None = None
        self._sent: deque[Call] = deque()
        self._unsent: list[Call] = []
        self._held: list[Call] = []
        self._replies = 0
        self._stall = (0, 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._known: set[str] = set()
        self._loading: set[str] = set()
        self._flushing = False
        self._closed = False
        self._mending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def connect(self) -> None:
        """Connect now, so that a wrong address or password is told at once.

        Raises `StoreUnavailableError` when nobody answers, `ConfigurationError` when we are refused.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._wire = await self.address.connect(self._on_reply, self._on_lost)
        except (OSError, TimeoutError) as error:
            raise StoreUnavailableError(
                f"no Redis answers at {self.address} ({error}); start one, or set AGNT5_REDIS_URL"
            ) from error
        if self._timer is None:
            self._tick()

    def call(self, *args: str | bytes | float) -> asyncio.Future[Any]:
        """Send a command at the end of this tick; the future holds its reply."""
        return self._enqueue(pack(args), None)

    def script(self, script: Script, prefix: str, args: tuple[str | bytes | int, ...]) -> asyncio.Future[Any]:
        """Run a script on a shard. It is loaded before its first run, and once more where the server has forgotten it.

        In that case it is sent again, behind later calls: but for a flush, order is kept.
        """
        return self._enqueue(pack(("EVALSHA", script.sha, 1, prefix, *args)), script, args[0])

    async def close(self) -> None:
        """Give up the connection; calls still open raise `StoreUnavailableError`."""
        self._closed = True
        if self.watch is not None:
            self.watch.turned(self)
        if self._mending:
            self._mending.cancel()
        if self._timer:
            self._timer.cancel()
        if self._wire:
            self._wire.drop()
            self._wire = None
        self._fail_all(StoreUnavailableError("the link to Redis was closed"))

    # ---- sending

    def _enqueue(self, data: bytes, script: Script | None, run: object = None) -> asyncio.Future[Any]:
        loop = self._loop
        if loop is None or self._closed:
            raise StoreUnavailableError("the link to Redis is not open")
        future: asyncio.Future[Any] = loop.create_future()
        deadline = loop.time() + self.patience_s if self.patience_s is not None else float("inf")
        self.calls += 1
        if script is not None and script.sha not in self._known:
            self._known.add(script.sha)
            self._load(script)
        self._send(Call(data, future, script, deadline, run=run, place=self.calls))
        return future

    def _send(self, call: Call) -> None:
        self._unsent.append(call)
        if self._flushing or self._wire is None:
            return
        if not self._sent:  # nobody to travel with is on the way: a lone caller need not wait for the tick's end
            self._flush()
        else:
            assert self._loop is not None
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._wire is None or not self._unsent:
            return
        calls, self._unsent = self._unsent, []
        self._sent.extend(calls)
        self.writes += 1
        if self.watch is not None and self._watched is None and self.writes % EVERY == 0:
            assert self._loop is not None
            self._watched, self._watched_since_s = calls[0], self._loop.time()
        self._wire.write(calls[0].data if len(calls) == 1 else b"".join([call.data for call in calls]))

    # ---- receiving

    def _on_reply(self, reply: Any) -> None:
        call = self._sent.popleft()
        self._replies += 1
        if call is self._watched and self.watch is not None:
            assert self._loop is not None
            self._watched = None
            self.watch.round_trip(self._loop.time() - self._watched_since_s)
        if isinstance(reply, Exception):
            self._on_error(call, str(reply))
        elif call.script is not None and type(reply) is list and reply[0] == b"GAP" and self._goes_behind(call):
            return
        elif not call.future.done():
            call.future.set_result(reply)

    def _goes_behind(self, call: Call) -> bool:
        """Whether an earlier call of the same run is on its way behind this one: then this one follows it."""
        if any(other.run == call.run and other.place < call.place for other in self._held):
            self._hold(call)
            return True
        if any(other.run == call.run and other.place < call.place for other in (*self._sent, *self._unsent)):
            self._send(call)
            return True
        return False

    def _on_error(self, call: Call, text: str) -> None:
        if text.startswith("NOSCRIPT") and call.script is not None and call.resends < _RESENDS:
            call.resends += 1
            self._load(call.script)
            self._send(call)
        elif text.startswith(_AGAIN):
            self._sent.appendleft(call)
            if self._wire:
                self._wire.drop()  # ends in _on_lost: all is sent again once the server serves
        elif text.startswith(_FULL) and self.patience_s is None:
            if not self._held:
                logger.warning("Redis at %s takes no more writes (%s); waiting", self.address, text)
            self._hold(call)
        elif not call.future.done():
            call.future.set_exception(_error(text))

    def _load(self, script: Script) -> None:
        """Load a script, once for all of a tick's calls that miss it."""
        if script.sha not in self._loading:
            assert self._loop is not None
            self._loading.add(script.sha)
            loaded: asyncio.Future[Any] = self._loop.create_future()
            loaded.add_done_callback(lambda done: self._loaded(script.sha, done))
            self._send(Call(pack(("SCRIPT", "LOAD", script.source)), loaded, None, float("inf")))

    def _loaded(self, sha: str, done: asyncio.Future[Any]) -> None:
        self._loading.discard(sha)  # flushed once more, it is loaded once more
        if not done.cancelled():
            done.exception()

    def _hold(self, call: Call) -> None:
        """Keep a call, and those of its run that come behind it, until the server has room."""
        if not self._held:
            assert self._loop is not None
            self._loop.call_later(HOLD_S, self._let_go)
        self._held.append(call)

    def _let_go(self) -> None:
        held, self._held = self._held, []
        for call in held:
            self._send(call)

    # ---- mending

    def _on_lost(self) -> None:
        self._wire = self._watched = None
        if self._closed:
            return
        self._unsent = sorted((*self._held, *self._sent, *self._unsent), key=lambda call: call.place)
        self._held.clear()
        self._sent.clear()
        self._known.clear()  # the next server may have been started anew
        self._loading.clear()
        assert self._loop is not None
        if self._mending is None or self._mending.done():
            self._mending = self._loop.create_task(self._mend())

    async def _mend(self) -> None:
        assert self._loop is not None
        for attempt in range(1_000_000_000):
            await asyncio.sleep(RECONNECT_S[min(attempt, len(RECONNECT_S) - 1)])
            self._expire()
            try:
                wire = await self.address.connect(self._on_reply, self._on_lost)
            except (OSError, TimeoutError) as error:
                if attempt == 4:  # noqa: PLR2004 - about a second: worth telling once
                    logger.warning("Redis at %s does not answer (%s); trying on", self.address, error)
                continue
            except (ConfigurationError, StoreUnavailableError) as error:
                logger.error("Redis at %s: %s", self.address, error)  # noqa: TRY400 - its text says all
                continue
            self._wire = wire
            self.reconnects += 1
            self._flush()
            return

    def _tick(self) -> None:
        """Now and then: tell those whose patience has ended, and give up a connection that says nothing."""
        assert self._loop is not None
        now = self._loop.time()
        self._timer = self._loop.call_later(TICK_S, self._tick)
        if self.watch is not None:
            self.watch.turned(self)
        if self.patience_s is not None:
            self._expire()
        replies, since = self._stall
        if not self._sent or replies != self._replies:
            self._stall = (self._replies, now)
        elif self._wire and now - since > STALL_S:
            self._stall = (self._replies, now)
            logger.warning("Redis at %s owes a reply since %.0f s; connecting anew", self.address, STALL_S)
            self._wire.drop()

    def _expire(self) -> None:
        """Fail the calls whose patience has ended. Those already sent keep their place: their reply is owed."""
        assert self._loop is not None
        now = self._loop.time()
        late = [call for call in (*self._sent, *self._unsent) if call.deadline < now]
        # a cancelled call is sent all the same: the numbered ones behind it need it
        self._unsent = [call for call in self._unsent if call.deadline >= now]
        for call in late:
            if not call.future.done():
                call.future.set_exception(
                    StoreUnavailableError(
                        f"Redis at {self.address} did not answer for {self.patience_s:g} s; whether the call took"
                        " effect is unknown, repeating it is safe"
                    )
                )

    def _fail_all(self, error: Exception) -> None:
        for call in [*self._held, *self._sent, *self._unsent]:
            if not call.future.done():
                call.future.set_exception(error)
                call.future.exception()  # told: the loop need not report it as never retrieved
        self._held.clear()
        self._sent.clear()
        self._unsent.clear()


def _error(text: str) -> Exception:
    if text.startswith("OOM"):
        return StoreFullError(
            "Redis is at its maxmemory; nothing was written. Free memory or raise the limit, then repeat"
        )
    if text.startswith(("NOAUTH", "NOPERM", "WRONGPASS")):
        return ConfigurationError(f"Redis refused a command: {text}; grant it to this user")
    return StoreUnavailableError(f"Redis: {text}")

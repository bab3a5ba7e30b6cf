"""The conversation of one consuming channel with the server: pull, deliver, acknowledge, ride out outages."""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from kombu.log import get_logger
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from agnt5.runtime.transport.link import Link, Push, ReplyError
from agnt5.runtime.transport.scripts import source

logger = get_logger(__name__)

#: Every tag of ours begins so; its consumer renews it, see `overdue.lua`.
TAG = "a5:"
#: An armed consumer looks again after this long even if the server said nothing.
RECHECK_S = 5.0
#: Without client tracking the queues are polled this often.
POLL_S = 0.1
#: A reply that takes longer than this means a dead connection.
OVERDUE_S = 15.0
BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Queue:
    """One list in Redis: its key, the queue it belongs to and the text that ends its `unacked` entries."""

    key: str
    name: str
    ending: str


@dataclass(slots=True)
class Pull:
    """A pull that was sent and not answered yet; it is sent again unchanged until it is."""

    prefix: str
    want: int
    acks: list[str]
    queues: Sequence[Queue]
    sent_at: float
    again: bool = False
    by_text: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that was moved to `unacked`: its queue (None: told by the entry), its tag and its JSON text."""

    queue: str | None
    tag: str
    text: bytes


class Owner(Protocol):
    """What the puller needs of its channel."""

    unacked_key: str
    unacked_index_key: str
    pull_limit: int

    def open_link(self) -> Link: ...
    def room(self) -> int: ...
    def pull_from(self) -> Sequence[Queue]: ...
    def arrive(self, arrival: Arrival) -> None: ...
    def watch(self, link: Link) -> None: ...
    def wake(self) -> None: ...
    def prefixed(self, key: str) -> str: ...


class Puller:
    """Keeps at most one pull in flight; only the thread of the event loop calls it, except `ack`."""

    def __init__(self, owner: Owner, consumer: str, clock: Callable[[], float] = monotonic) -> None:
        self._owner = owner
        self._consumer = consumer
        self._clock = clock
        self._count = 0
        self._acks: deque[str] = deque()
        self._thread = threading.get_ident()
        self._link: Link | None = None
        self._sent: Pull | None = None
        self._arrivals: deque[Arrival] = deque()
        self._armed_until = 0.0
        self._failures = 0
        self._retry_at = 0.0

    def ack(self, tag: str) -> None:
        """Acknowledge with the next batch; safe from any thread."""
        self._acks.append(tag)
        if threading.get_ident() != self._thread:
            self._owner.wake()

    def disarm(self) -> None:
        """Pull at the next turn: the queues to consume from have changed."""
        self._armed_until = 0.0

    @property
    def undelivered(self) -> int:
        """Messages that are in `unacked` for us, but were not handed on yet."""
        return len(self._arrivals)

    def tick(self) -> None:
        """Send what there is to send; called on every turn of the event loop."""
        self._thread = threading.get_ident()
        self._deliver()
        now = self._clock()
        if now < self._retry_at:
            return
        if self._sent is not None:
            overdue = now - self._sent.sent_at > OVERDUE_S
            if overdue or self._link is None or self._link.socket is None:
                self._lost(RedisConnectionError("a pull got no reply"))
                self._send(self._sent, now)
            return
        self._begin(now)

    def _begin(self, now: float) -> None:
        want = min(self._owner.room() - len(self._arrivals), self._owner.pull_limit)
        armed = now < self._armed_until
        if not self._acks and (want <= 0 or armed):
            return
        queues = self._owner.pull_from() if want > 0 else ()
        acks = [self._acks.popleft() for _ in range(len(self._acks))]
        if not queues and not acks:
            return
        self._count += 1
        prefix = f"{self._consumer}:{self._count:x}:"
        self._sent = Pull(prefix, want if queues else 0, acks, queues, now)
        self._send(self._sent, now)

    def _send(self, pull: Pull, now: float) -> None:
        try:
            link = self._connected()
            script = source("pull")
            owner = self._owner
            keys = [owner.prefixed(owner.unacked_key), owner.prefixed(owner.unacked_index_key)]
            keys += [queue.key for queue in pull.queues]
            command = ("EVAL", script.text) if pull.by_text else ("EVALSHA", script.sha)
            args = [pull.prefix, pull.want, int(pull.again), len(pull.acks), *pull.acks]
            link.send(*command, len(keys), *keys, *args, *(queue.ending for queue in pull.queues))
            pull.sent_at = now
            # should the reply get lost, the next sending asks for what this one moved
            pull.again = True
        except (RedisError, OSError) as error:
            self._lost(error)

    def _connected(self) -> Link:
        if self._link is None:
            link = self._owner.open_link()
            link.connect()
            self._link = link
            self._owner.watch(link)
            if self._failures:
                logger.info("Consuming again after %d failed attempts", self._failures)
        return self._link

    def _lost(self, error: Exception) -> None:
        """Drop the connection; `tick` opens a new one and sends again what was not answered."""
        link, self._link = self._link, None
        self._armed_until = 0.0
        delay = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        if not self._failures:
            logger.warning("Connection for consuming lost (%s), reconnecting", error)
        self._failures += 1
        self._retry_at = self._clock() + delay
        if link is not None:
            link.close()

    def on_readable(self) -> bool:
        """Read replies and pushes; true if messages were delivered."""
        link = self._link
        if link is None:
            return False
        try:
            replies = link.read()
        except (RedisError, OSError) as error:
            self._lost(error)
            return False
        for reply in replies:
            if isinstance(reply, Push):
                self._armed_until = 0.0
            else:
                self._answered(reply, link)
        return self._deliver()

    def _answered(self, reply: Any, link: Link) -> None:
        pull = self._sent
        if pull is None:
            return
        if isinstance(reply, ReplyError):
            self._refused(pull, reply)
            return
        self._sent = None
        self._failures = 0
        arrivals = list(_arrivals(pull, reply))
        self._arrivals.extend(arrivals)
        empty = pull.want > 0 and len(arrivals) < pull.want and reply[0] == b"fresh"
        if empty:
            self._armed_until = self._clock() + (RECHECK_S if link.tracking else POLL_S)
        else:
            self._armed_until = 0.0

    def _refused(self, pull: Pull, error: ReplyError) -> None:
        if str(error).startswith("NOSCRIPT"):
            pull.by_text = True
            self._send(pull, self._clock())
            return
        # loading, read-only, a full disk: the pull had no effect or is idempotent, so send it again
        self._lost(error)

    def _deliver(self) -> bool:
        some = bool(self._arrivals)
        # one by one: if a handler raises, the rest is delivered on the next turn
        while self._arrivals:
            self._owner.arrive(self._arrivals.popleft())
        return some

    def finish(self, timeout_s: float) -> list[Arrival]:
        """Wait for the pull in flight and return what was not delivered; for the end of the channel."""
        deadline = self._clock() + timeout_s
        while self._sent is not None and self._link is not None:
            left = deadline - self._clock()
            if left <= 0 or not select.select([self._link.socket], [], [], left)[0]:
                break
            try:
                for reply in self._link.read():
                    if not isinstance(reply, Push):
                        self._answered(reply, self._link)
            except (RedisError, OSError) as error:
                self._lost(error)
        if self._link is not None:
            self._link.close()
            self._link = None
        rest = list(self._arrivals)
        self._arrivals.clear()
        return rest

    def take_acks(self) -> list[str]:
        """Acknowledgements that were not confirmed yet; the caller has to see to them."""
        acks = list(self._sent.acks) if self._sent is not None else []
        acks += [self._acks.popleft() for _ in range(len(self._acks))]
        return acks


def _arrivals(pull: Pull, reply: list[Any]) -> Sequence[Arrival]:
    """The messages of a reply; its form is told in pull.lua."""
    if reply[0] == b"again":
        pairs = zip(reply[1::2], reply[2::2], strict=True)
        return [Arrival(None, f"{pull.prefix}{index}", entry) for index, entry in pairs]
    pairs = zip(reply[1::2], reply[2::2], strict=True)
    return [
        Arrival(pull.queues[queue].name, f"{pull.prefix}{number}", text)
        for number, (queue, text) in enumerate(pairs, 1)
    ]

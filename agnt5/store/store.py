"""The store's verbs: one typed method per script, and the reads.

A verb puts its call on the wire when it is *called*; awaiting what it returns only waits for the reply. So the
calls of one run leave in the order in which they were made, without anybody waiting in between.

Owners' verbs are fenced by epoch and numbered: `op` grows by one from 1 for each claim. They raise
`StaleEpochError` when another worker owns the run now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agnt5.contracts.budgets import Amounts, Scope, ScopedBudget
from agnt5.contracts.errors import StaleEpochError
from agnt5.contracts.flags import MOST_KEYS
from agnt5.contracts.ids import entity_of, new_run_id, shard_of
from agnt5.contracts.runs import RunStatus
from agnt5.sealing import GROWTH, Sealer
from agnt5.store import budgets, config, keys, parsing
from agnt5.store.budgets import HOLD_MS, Answer
from agnt5.store.link import Link
from agnt5.store.replies import (
    Applied,
    Called,
    Claimed,
    Created,
    Dispatch,
    Fired,
    More,
    NewAsk,
    NewCall,
    NewChild,
    NotClaimed,
    Untold,
    Verdict,
)
from agnt5.store.scripts import script

PAGE = 500
"""Journal entries per read: 10,000 in one LRANGE would hold the server for 29 ms."""

Arg = str | bytes | int

Ending = Literal["completed", "failed", "timeout", "cancelled"]
"""How an owner ends its run; `timeout` is failed, and its children are cancelled."""


@dataclass(slots=True)
class Ownership:
    """A claimed run as its owner holds it: the fence, and the number of the last write."""

    run_id: str
    host: str
    epoch: str
    op: int = 0

    def next_op(self) -> int:
        """Number the next write."""
        self.op += 1
        return self.op


@dataclass(slots=True)
class Batch:
    """What one append writes: journal bodies, and the children, timers and asks that go with them."""

    bodies: list[bytes] = field(default_factory=list)
    children: list[NewChild] = field(default_factory=list)
    timers: list[tuple[int, int]] = field(default_factory=list)
    untimers: list[int] = field(default_factory=list)
    asks: list[NewAsk] = field(default_factory=list)
    unasks: list[int] = field(default_factory=list)
    cancels: list[tuple[str, bytes]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.bodies or self.children or self.timers or self.untimers or self.asks or self.unasks or self.cancels
        )


class Store:
    """The one door to durable state. Belongs to one event loop, as its link does.

    `posts`: Celery's broker is this very database, so that scripts send the messages of the runs that they queue;
    else the verbs give them to the caller (`out`). `sealer` seals users' values in what the verbs are given; what reads
    give is opened with it by who reads it. `journal_bytes` limits a journal by its size before sealing.
    """

    def __init__(  # noqa: PLR0913 - settings, each with its name
        self, link: Link, *, shards: int, retention_ms: int, journal_limit: int = 10_000,
        journal_bytes: int = 67_108_864, max_host_losses: int = 3, stream_limit: int = 10_000, posts: bool = False,
        sealer: Sealer | None = None,
    ) -> None:  # fmt: skip
        self.link = link
        self.shards = shards
        self.retention_ms = retention_ms
        self.sealer = sealer or Sealer()
        self.journal_limit = journal_limit
        self.journal_bytes = journal_bytes if self.sealer.codec is None else round(journal_bytes * GROWTH)
        self.max_host_losses = max_host_losses
        self.stream_limit = stream_limit
        self.posts = posts
        self._prefixes = [keys.prefix(shard) for shard in range(shards)]

    def prefix(self, run_id: str) -> str:
        """The key prefix of a run's shard."""
        return self._prefixes[shard_of(run_id, self.shards)]

    def shard(self, run_id: str) -> int:
        """The number of a run's shard."""
        return shard_of(run_id, self.shards)

    def _run(self, name: str, run_id: str, *args: Arg) -> Awaitable[list[Any]]:
        return self.link.script(script(name, posts=self.posts), self.prefix(run_id), (run_id, *args))

    def _in(self, shard: int, name: str, *args: Arg) -> Awaitable[list[Any]]:
        return self.link.script(script(name, posts=self.posts), self._prefixes[shard], args)

    def _fenced(self, name: str, own: Ownership, *args: Arg) -> Awaitable[list[Any]]:
        return self._counted(own, self._run(name, own.run_id, own.epoch, own.next_op(), *args))

    async def _counted(self, own: Ownership, pending: Awaitable[list[Any]], sent: int | None = None) -> list[Any]:
        reply = await pending
        if reply[0] == b"GAP":
            # a Redis that came back older forgot writes of ours: nobody but a new owner can go on from its journal
            await self._run("park", own.run_id, own.epoch, 0, "drop", 0, "")
            raise StaleEpochError(
                f"run {own.run_id}: the store has forgotten writes of this worker (it knows {reply[1].decode()} of"
                f" {own.op if sent is None else sent}); the run was queued again, to be replayed from what is left"
            )
        return reply

    # ---- anybody's verbs

    def create(
        self, run_id: str, *, handler: str, kind: str, queue: str, priority: int, body: bytes, digest: str,
        run_timeout_ms: int | None = None,
    ) -> Awaitable[Created]:  # fmt: skip
        """Create a root run, once per id; the same id with another `digest` raises `DuplicateRunError`."""
        timeout, body = "" if run_timeout_ms is None else run_timeout_ms, self.sealer.body(body, run_id)
        reply = self._run("create", run_id, handler, kind, queue, priority, body, digest, timeout)
        return parsing.created(reply, run_id, handler)

    def call(self, call: NewCall, *, host: str = "", nonce: str = "") -> Awaitable[Called]:
        """Call a method of an entity, once per id. A write whose entity is busy waits in line.

        With `nonce` the calling `host` becomes the owner where nothing is in the way (`heir`). A call without
        `caller` whose id exists with another `digest` raises `DuplicateRunError`.
        """
        timeout = "" if call.run_timeout_ms is None else call.run_timeout_ms
        body = self.sealer.body(call.body, call.id)
        args = (call.handler, call.mode, call.queue, call.priority, body, call.digest, timeout, call.caller)
        return parsing.called(self._run("call", call.id, *args, host, nonce), call.id, call.handler)

    def answer(self, run_id: str, *, generation: int, operation: str, host: str, body: bytes) -> Awaitable[Applied]:
        """Tell a run the outcome of its call of an entity, once per `operation`; nothing where it is gone or ended."""
        body = self.sealer.body(body, run_id)
        return parsing.answered(self._run("answer", run_id, generation, operation, host, body))

    def erase(self, entity: str) -> Awaitable[None]:
        """Delete an entity's state. Raises `EntityBusyError` while a call holds its lock, `EntityNotFoundError`."""
        return parsing.erased(self._run("erase", entity), entity)

    async def reseal(self, entity: str, stale: Mapping[str, bytes]) -> int:
        """Seal these values of an entity's state anew, as they are stored, by state key; how many had not changed.

        Raises `SealedPayloadError`.
        """
        changes: list[Arg] = [len(stale)]
        for key, value in stale.items():
            changes += [key, value, self.sealer.state(self.sealer.open_state(value, entity, key), entity, key)]
        return int((await self._run("reseal", entity, *changes))[1])

    def deliver(self, run_id: str, *, operation: str, body: bytes) -> Awaitable[list[Dispatch]]:
        """Append an outside event once per `operation`.

        Raises `RunNotFoundError`, `RunEndedError`, or `JournalLimitError` when the journal is full.
        """
        body = self.sealer.body(body, run_id)
        reply = self._run("deliver", run_id, operation, body, self.journal_limit, self.journal_bytes)
        return parsing.delivered(reply, run_id)

    def decide(
        self, run_id: str, ref: str, *, operation: str, approver: str, roles: Sequence[str], decision: str,
        who: bytes, more: bytes,
    ) -> Awaitable[Verdict]:  # fmt: skip
        """One person's decision on an ask, once per `operation`; whether it was taken, or why not, and how it stands.

        `who` and `more` are the JSON members of its journal entry, each with a comma before it: approver and
        decision; comment and data. Raises `RunNotFoundError`, `RunEndedError` (while it was open),
        `ApprovalNotFoundError`.
        """
        more = self.sealer.members(more, run_id)
        args = (ref, operation, approver, "\n".join(roles), decision, who, more, self.journal_limit)
        return parsing.decided(self._run("decide", run_id, *args), run_id, ref)

    def keep(self, run_id: str, lines: Sequence[tuple[int, bytes]], *, most: int) -> Awaitable[bool]:
        """Keep log lines with a run, each with its time in microseconds; of all that are kept, the latest `most` stay.

        A line that is there already is not kept twice. False: there is no such run any more.
        """
        sealed = (part for at_us, line in lines for part in (at_us, self.sealer.line(line, run_id)))
        return parsing.kept(self._run("keep", run_id, most, len(lines), *sealed))

    def cancel(
        self, run_id: str, *, reason: bytes, operation: str | None = None
    ) -> Awaitable[tuple[RunStatus, list[Dispatch]]]:
        """Ask a run to end, once per `operation` (default: this call); `reason` is a JSON string.

        Gives the status now. Raises as `deliver` does, but a run that is cancelled already is no error.
        """
        reason = self.sealer.value(reason, run_id)
        return parsing.cancelled(
            self._run("cancel", run_id, reason, self.retention_ms, operation or new_run_id()), run_id
        )

    def reopen(self, run_id: str) -> Awaitable[list[Dispatch]]:
        """Open a failed root run again."""
        return parsing.reopened(self._run("reopen", run_id), run_id)

    def wake(self, run_id: str) -> Awaitable[list[Dispatch]]:
        """Queue a refused run again."""
        return parsing.woken(self._run("wake", run_id))

    def mend(self, run_id: str, *, entry: str = "", member: str = "") -> Awaitable[list[Dispatch]]:
        """Make a run's index entries agree with its record, and queue it if nothing else would bring it on.

        `entry` names an index (without the shard's prefix) that holds `member` for this run; it is struck off if the
        record does not agree.
        """
        return parsing.woken(self._run("mend", run_id, entry, member, self.retention_ms))

    # ---- budgets

    def reserve(self, budget: ScopedBudget, *, operation: str, nonce: str, estimate: Amounts) -> Awaitable[Answer]:
        """Hold an estimate in a budget, once per `nonce`; a new one takes the place of its operation's earlier try."""
        limits = ["" if limit is None else limit for limit in budget.limits()]
        args = (_window(budget.scope), operation, nonce, *estimate, *limits, HOLD_MS, self.retention_ms)
        return budgets.reserved(self._on(budget.scope, "reserve", *args))

    def settle(self, scope: Scope, *, nonce: str, spent: Amounts) -> Awaitable[bool]:
        """Count what was spent in the place of what is held, once. False: it holds nothing any more."""
        return budgets.done(self._on(scope, "settle", _window(scope), nonce, *spent))

    def reset(self, scope: Scope) -> Awaitable[bool]:
        """Forget what a budget has counted. False: there was nothing."""
        return budgets.done(self._on(scope, "reset"))

    def _on(self, scope: Scope, name: str, *args: Arg) -> Awaitable[list[Any]]:
        return self.link.script(script(name, posts=self.posts), self.prefix(scope.name), (str(scope), *args))

    # ---- config

    def configure(self, key: str, rule: bytes, *, operation: str, who: str, comment: str) -> Awaitable[int | None]:
        """Set a key to a rule, or with b"" unset it, once per `operation`; the version that this made.

        None: there was nothing to unset.
        """
        args = (operation, key, rule, who, comment, MOST_KEYS, config.KEPT)
        return config.configured(self._in(0, "configure", *args), key)

    # ---- an owner's verbs

    def claim(self, run_id: str, *, host: str, nonce: str, kind: str) -> Awaitable[Claimed | NotClaimed]:
        """Take ownership of a queued run. Repeating it with the same nonce gives the same epoch."""
        return parsing.claimed(self._run("claim", run_id, host, nonce, kind, PAGE))

    def append(self, own: Ownership, batch: Batch, *, status: str = "") -> Awaitable[Applied]:
        """Record a batch: journal entries, children, timers, asks and cancels take effect together or not at all.

        Raises `JournalLimitError` (nothing written) past the limit of entries or bytes.
        """
        seal = self.sealer
        bodies = seal.bodies(batch.bodies, own.run_id)
        args: list[Arg] = [own.host, status, self.journal_limit, self.journal_bytes, len(bodies), *bodies]
        args.append(len(batch.children))
        for child in batch.children:
            timeout = "" if child.run_timeout_ms is None else child.run_timeout_ms
            args += [child.id, child.seq, child.handler, "", child.queue, child.priority]
            args += [seal.body(child.body, child.id), timeout]
        args.append(len(batch.timers))
        args += [part for timer in batch.timers for part in timer]
        args += [len(batch.untimers), *batch.untimers, len(batch.asks)]
        for ask in batch.asks:
            due = "" if ask.due_ms is None else ask.due_ms
            args += [ask.seq, due, ask.quorum, "\n".join(ask.roles), "\n".join(ask.people), ask.barred]
            args.append(seal.body(ask.body, own.run_id))
        args += [len(batch.unasks), *batch.unasks, len(batch.cancels)]
        args += [part for cancel in batch.cancels for part in cancel]
        return parsing.applied(self._fenced("append", own, *args, self.retention_ms), own.run_id)

    def emit(self, own: Ownership, *, first: int, chunks: Sequence[bytes]) -> Awaitable[None]:
        """Append chunks to the run's stream; the first of them is the claim's chunk number `first`, from 1.

        Raises `StreamLimitError` past the limit of chunks; those that fit are there.
        """
        sealed = self.sealer.values(chunks, own.run_id)
        reply = self._run("emit", own.run_id, own.epoch, first, self.stream_limit, len(sealed), *sealed)
        return parsing.emitted(self._counted(own, reply, first - 1), own.run_id, self.stream_limit)

    def finish(self, own: Ownership, status: Ending, payload: bytes) -> Awaitable[Applied]:
        """End a run with the JSON of its result, error or reason. Its timers end with it (the store knows them)."""
        payload = self.sealer.value(payload, own.run_id)
        reply = self._fenced("finish", own, own.host, status, payload, self.retention_ms)
        return parsing.finished(reply, own.run_id)

    def commit(
        self, own: Ownership, status: Ending, payload: bytes, *, sets: Mapping[str, bytes], deletes: Sequence[str],
        nonce: str = "",
    ) -> Awaitable[Applied]:  # fmt: skip
        """End a write of an entity with the changes that it makes, and hand its lock on.

        With `nonce` this host owns the next call in line from now on (`heir`); else that is queued.
        """
        changes: list[Arg] = [len(sets)]
        entity, payload = entity_of(own.run_id) or "", self.sealer.value(payload, own.run_id)
        for key, value in sets.items():
            changes += [key, self.sealer.state(value, entity, key)]
        changes += [len(deletes), *deletes]
        reply = self._fenced("commit", own, own.host, status, payload, self.retention_ms, nonce, *changes)
        return parsing.committed(reply, own.run_id)

    def retry(self, own: Ownership, *, attempt: int, error: bytes, delay_ms: int) -> Awaitable[list[Dispatch]]:
        """Record a failed attempt and give the run back until its next one is due; its timers are taken back."""
        reply = self._fenced("retry", own, attempt, self.sealer.value(error, own.run_id), delay_ms)
        return parsing.retried(reply, own.run_id)

    def park(self, own: Ownership, *, seen: int) -> Awaitable[list[Dispatch] | More]:
        """Give a waiting run back, unless its journal has grown past `seen`."""
        return parsing.parked(self._fenced("park", own, "wait", seen, ""), own.run_id)

    def hand_back(self, own: Ownership, *, seen: int) -> Awaitable[list[Dispatch] | More]:
        """Give a run back to be claimed again at once: an interruption, which costs no retry."""
        return parsing.parked(self._fenced("park", own, "queue", seen, ""), own.run_id)

    def refuse(self, own: Ownership, *, seen: int, trouble: str) -> Awaitable[list[Dispatch] | More]:
        """Park a run whose code does not fit its journal, and say why in its record (`trouble`, as it is)."""
        return parsing.parked(self._fenced("park", own, "refuse", seen, trouble), own.run_id)

    def renew(self, own: Ownership, *, seen: int, body: bytes, carried: Sequence[bytes]) -> Awaitable[Applied | More]:
        """Begin the next generation with `body` and the signals not yet consumed."""
        body, kept = self.sealer.body(body, own.run_id), self.sealer.bodies(carried, own.run_id)
        reply = self._fenced("renew", own, seen, self.retention_ms, body, len(kept), *kept)
        return parsing.renewed(reply, own.run_id)

    def disown(self, run_id: str, *, host: str) -> Awaitable[list[Dispatch]]:
        """Queue a run that the store lists as a host's and that the host does not know."""
        return parsing.woken(self._run("disown", run_id, host))

    # ---- beat's verbs

    def fire(self, shard: int, *, limit: int, timeout_error: bytes) -> Awaitable[Fired]:
        """Deliver a shard's due timers."""
        return parsing.fired(self._in(shard, "fire", limit, self.retention_ms, timeout_error))

    def reap(self, shard: int, host: str, *, limit: int, error: bytes) -> Awaitable[tuple[int, int, list[Dispatch]]]:
        """Queue up to `limit` runs of a dead host: how many, how many are left, the messages to send."""
        return parsing.reaped(self._in(shard, "reap", host, limit, self.max_host_losses, error, self.retention_ms))

    def requeue(
        self, shard: int, slot: str, *, before_ms: int, slack_ms: int, limit: int, probe: bool
    ) -> Awaitable[tuple[int, int | None, list[Dispatch]]]:
        """Ask again for overtaken runs' messages: how many, the oldest's time of queueing, the messages."""
        return parsing.requeued(self._in(shard, "requeue", slot, before_ms, slack_ms, limit, int(probe)))

    def lend(self, shard: int, *, limit: int, lease_ms: int) -> Awaitable[list[Untold]]:
        """Ends of a shard that are to be told of, and then struck off: who asks after `lease_ms` gets them again."""
        return parsing.lent(self._in(shard, "lend", limit, lease_ms))

    def heart(self, host: str) -> Awaitable[tuple[bool, int]]:
        """Renew a host's liveness: whether it had been unlisted, and the store's time in ms."""
        return parsing.beaten(self.link.script(script("heart"), self._prefixes[0], (host,)))

    # ---- reads

    def now_ms(self) -> Awaitable[int]:
        """The store's time."""
        return parsing.time_ms(self.link.call("TIME"))

    async def entries(self, run_id: str, start: int) -> list[bytes]:
        """All journal entries from position `start`, read in pages."""
        key = keys.log(run_id, self.shards)
        found: list[bytes] = []
        while True:
            page = await self.link.call("LRANGE", key, start, start + PAGE - 1)
            found += page
            if len(page) < PAGE:
                return found
            start += PAGE

    def lengths(self, run_ids: Iterable[str]) -> list[Awaitable[int]]:
        """Journal lengths of many runs, in one write."""
        return [self.link.call("LLEN", keys.log(run_id, self.shards)) for run_id in run_ids]


def _window(scope: Scope) -> Arg:
    return "" if scope.per_s is None else scope.per_s * 1000

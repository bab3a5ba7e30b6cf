"""A host: one worker process (or pool child) that owns runs. Claims them, keeps them, gives them back.

Everything here happens on one event loop, in one thread; `LoopThread` callers use `receive` through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from agnt5.contracts.clock import now_ms
from agnt5.contracts.errors import Agnt5Error, InvalidInputError, SealedPayloadError, StaleEpochError
from agnt5.contracts.ids import check_id, entity_of
from agnt5.contracts.masking import masked
from agnt5.contracts.runs import Kind
from agnt5.contracts.settings import Settings
from agnt5.registry import Handler, Registry
from agnt5.replay import journal
from agnt5.replay.events import SignalReceived
from agnt5.runtime.calls import Calls
from agnt5.runtime.configuration import HostFlags
from agnt5.runtime.dispatch import Dispatcher
from agnt5.runtime.effects import HostEffects
from agnt5.runtime.entity_run import LiveEntity
from agnt5.runtime.exits import contained
from agnt5.runtime.function_run import LiveFunction
from agnt5.runtime.housekeeping import Housekeeping
from agnt5.runtime.journaled import Journaled
from agnt5.runtime.leaving import SETTLE_S, give_all_back, give_away
from agnt5.runtime.live import LiveRun
from agnt5.runtime.logs import prepare
from agnt5.runtime.observer import Observer
from agnt5.runtime.slot import Slot, Teller
from agnt5.runtime.snapshots import Snapshot, look_at_entity
from agnt5.runtime.starting import StartRequest, start_run
from agnt5.runtime.threads import Threads
from agnt5.runtime.workflow_run import LiveWorkflow
from agnt5.secrets.reader import SecretReader
from agnt5.store import keys
from agnt5.store.replies import Applied, Claimed, Heir, NotClaimed
from agnt5.store.store import Ownership, Store
from agnt5.store.subscriber import Subscriber
from agnt5.telemetry import logs_kept

logger = logging.getLogger("agnt5.runtime")

M = TypeVar("M")


SUSPECT_CRASHES = 2
"""After so many killed hosts a run is tried alone, so that only the guilty one is blamed."""

SUSPECT_S = 30.0
"""A suspect that lived this long alone is no longer one."""


CONFIG_CHANNEL = keys.CONFIG_CHANNEL.encode()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A Celery message for a run: its id and handler, and (from a plain producer) the call that it carries."""

    run_id: str
    handler: str
    plain: bool = False
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    priority: int = 0
    trace: Mapping[str, str] = field(default_factory=dict)
    """Its headers of W3C trace context."""


class Host:
    """Owns runs on behalf of one process. `name` is `<node>/<nonce>`, never used twice."""

    def __init__(  # noqa: PLR0913 - what its process gives it
        self, *, node: str, settings: Settings, registry: Registry, store: Store, dispatcher: Dispatcher,
        teller: Teller, linger: bool = True, secrets: SecretReader | None = None, flags: HostFlags | None = None,
    ) -> None:  # fmt: skip
        self.name = f"{node}/{uuid.uuid4().hex[:12]}"
        self.settings = settings
        self.registry = registry
        self.store = store
        self.dispatcher = dispatcher
        self.teller = teller
        self.linger = linger
        self.secrets = secrets or SecretReader.of(settings)
        self.loop = asyncio.get_running_loop()
        self.live: dict[str, LiveRun] = {}
        self.clock_offset_ms = 0
        self.draining = False
        self.grace_ends_s = 0.0
        self.flags = HostFlags(store.link, {}) if flags is None else flags
        self.calls = Calls(self)
        self.effects = HostEffects(self)
        self.house = Housekeeping(self)
        self.observer = Observer()
        self.logs = logs_kept.Keeper(
            partial(store.keep, most=settings.log_keep), self.loop, writer=self.name[-12:], most=settings.log_keep,
            offset_ms=lambda: self.clock_offset_ms,
        )  # fmt: skip
        self.claiming: set[str] = set()
        self.ending: set[LiveRun] = set()
        self.idlers: OrderedDict[str, LiveRun] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads = Threads(64, "agnt5-sync")
        self._alone = asyncio.Lock()
        self._mail = Subscriber(store.link.address, self._on_mail, self._recheck)

    async def open(self) -> None:
        """Begin to listen for events of owned runs, and for what their code logs."""
        prepare()
        logs_kept.listen()
        await self._mail.connect()
        await self._mail.subscribe(keys.host_channel(self.name), keys.CONFIG_CHANNEL)
        await self.flags.open()  # behind the subscription, so that no change is missed
        self.observer.turned(self)
        self.spawn(self.house.run())

    # ---- messages

    def receive(self, arrival: Arrival, slot: Slot) -> None:
        """Take a message: claim its run and start it, or tell the slot why not."""
        handler = self.registry.find(arrival.handler)
        if handler is None:
            slot.refuse(f"this worker has no handler {arrival.handler!r}")
        elif self.draining:
            slot.refuse("this worker is shutting down")
        else:
            self.spawn(self._take(arrival, handler, slot))

    async def _take(self, arrival: Arrival, handler: Handler, slot: Slot) -> None:
        try:
            with self.taking(arrival.run_id):
                claimed, snapshot = await self._claim(arrival, handler)
        except Agnt5Error as error:
            logger.error("message %s for %s: %s", arrival.run_id, arrival.handler, error)  # noqa: TRY400
            slot.drop(str(error))
            return
        except BaseException:
            slot.refuse("claiming was interrupted")
            raise
        if isinstance(claimed, NotClaimed):
            slot.drop(f"{claimed.reason} {claimed.detail}".rstrip())
            return
        await self._begin(self._live(handler, arrival.run_id, claimed, slot, snapshot), claimed)

    def _live(
        self, handler: Handler, run_id: str, claimed: Claimed, slot: Slot | None, snapshot: Snapshot | None, *,
        by_message: bool = True,
    ) -> LiveRun:  # fmt: skip
        """A claimed run in memory; `snapshot` is of the entity that it is a call of."""
        own = Ownership(run_id, self.name, claimed.epoch)
        live: LiveRun
        if handler.kind is Kind.WORKFLOW:
            live = LiveWorkflow(self, handler, own, claimed, slot)
        elif snapshot is not None:
            live = LiveEntity(self, handler, own, claimed, slot)
            live.snapshot = snapshot
        else:
            live = LiveFunction(self, handler, own, claimed, slot)
        self.live[run_id] = live
        self.observer.claimed(live, claimed, by_message=by_message)
        return live

    async def _begin(self, live: LiveRun, claimed: Claimed) -> None:
        if claimed.crashes >= SUSPECT_CRASHES:
            await self._start_alone(live, claimed)
        else:
            await self._start(live, claimed)

    def adopt(self, heir: Heir, snapshot: Snapshot) -> None:
        """Run a call of an entity that became ours without a message."""
        run_id, claimed = heir.run_id, heir.claimed
        handler = self.registry.find(heir.handler)
        if handler is None or handler.kind is not Kind.ENTITY or self.draining:
            own = Ownership(run_id, self.name, claimed.epoch)
            self.spawn(give_away(self, own, claimed.seen))
        elif run_id not in self.live:
            self.calls.adopted += 1
            slot = self.teller.slot(run_id, handler.address)
            live = self._live(handler, run_id, claimed, slot, snapshot, by_message=False)
            self.spawn(self._adopted(live, claimed))

    async def _adopted(self, live: LiveRun, claimed: Claimed) -> None:
        try:
            await self._begin(live, claimed)
        finally:
            self.calls.adopted -= 1

    async def _claim(self, arrival: Arrival, handler: Handler) -> tuple[Claimed | NotClaimed, Snapshot | None]:
        """Claim a run. Its entity is read behind the claim, in the same write."""
        nonce = uuid.uuid4().hex[:16]
        claim = self.store.claim(arrival.run_id, host=self.name, nonce=nonce, kind=handler.kind.value)
        if handler.kind is Kind.ENTITY and entity_of(arrival.run_id) is not None:
            return await asyncio.gather(claim, look_at_entity(self.store, arrival.run_id))
        claimed = await claim
        if isinstance(claimed, NotClaimed) and claimed.reason == "gone" and arrival.plain:
            check_id(arrival.run_id, "task id")  # a stranger's `a~b` would pass for a child of a
            request = replace(_requested(arrival, handler), headers=arrival.trace)
            await start_run(self.store, self.settings, request, handler)
            claimed = await self.store.claim(arrival.run_id, host=self.name, nonce=nonce, kind=handler.kind.value)
        return claimed, None

    async def _start(self, live: LiveRun, claimed: Claimed) -> None:
        entries = claimed.entries
        if len(entries) < claimed.length:
            entries = entries + await self.store.entries(live.run_id, len(entries))
        try:
            code = live.begin(entries)
            if code is not None:
                await code
        except Exception as error:  # noqa: BLE001 - told and given up by the run itself
            live.went_wrong(error)

    async def _start_alone(self, live: LiveRun, claimed: Claimed) -> None:
        """Run a suspect with no other suspect beside it, marked, so that a crash is blamed on it alone."""
        async with self._alone:
            if live.ended:
                return
            await self.store.link.call("HSET", keys.run(live.run_id, self.store.shards), "danger", "1")
            logger.warning("run %s has seen %d workers die; it is tried alone", live.run_id, claimed.crashes)
            self.spawn(self._start(live, claimed))
            end = self.loop.time() + SUSPECT_S
            while self.loop.time() < end and live.busy:  # noqa: ASYNC110 - rare, and tells without hooks in live runs
                await asyncio.sleep(0.05)
            if self.live.get(live.run_id) is live:
                await self.store.link.call("HDEL", keys.run(live.run_id, self.store.shards), "danger")

    def taking(self, run_id: str) -> AbstractContextManager[None]:
        """The store may list a run as ours before we know of it: meanwhile `reconcile` leaves it alone."""
        return _among(self.claiming, run_id)

    # ---- what live runs use

    def ends(self, live: LiveRun) -> AbstractContextManager[None]:
        """A run's end is on the wire: a shutdown waits until its slot is told, and the messages it brings are sent."""
        return _among(self.ending, live)

    def spawn(
        self, coro: Coroutine[Any, Any, Any], live: Journaled | None = None, *, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Run a coroutine, in its run's context or the one that it is given; what it raises is told to its run."""
        if context is None and live is not None:
            context = live.own_context()
        task = self.loop.create_task(coro, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done if live is None else partial(self._done, live=live))
        return task

    def _done(self, task: asyncio.Task[Any], live: Journaled | None = None) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if live is not None:
            live.went_wrong(error)
        else:
            logger.error("host %s: %r", self.name, error, exc_info=error)

    def later(self, delay_s: float, callback: Callable[[], Any]) -> None:
        """Call back after a while."""
        self.loop.call_later(delay_s, callback)

    async def call(self, fn: Callable[[], Any]) -> Any:
        """The value of a user's function: coroutine functions on the loop, others in a thread."""
        with contained():
            if inspect.iscoroutinefunction(fn):
                return await fn()
            value = await self.loop.run_in_executor(self._threads, copy_context().run, fn)
            if inspect.isawaitable(value):
                return await value
            return value

    async def signal(self, sender: LiveRun, target: str, name: str, payload: Any, *, operation: str) -> None:
        """Deliver a run's signal once per operation."""
        trace = self.observer.place_told(sender)
        body = journal.encode(SignalReceived(name=name, payload=payload, op=operation, traceparent=trace))
        self.dispatcher.send(await self.store.deliver(target, operation=operation, body=body))

    def sent(self, applied: Applied) -> None:
        """Send the messages and deliver the mail that a write brought about."""
        if applied.out:
            self.dispatcher.send(applied.out)
        for mail in applied.mail:
            if live := self.live.get(mail.run_id):
                live.mail(mail.generation, mail.length, mail.entry)

    def since_ms(self, begun_s: float) -> int:
        """Whole milliseconds since a time of the loop's clock."""
        return round((self.loop.time() - begun_s) * 1000)

    def clock_ms(self) -> int:
        """The store's time, as well as this machine's clock and the last heartbeat tell."""
        return now_ms() + self.clock_offset_ms

    def idle(self, live: LiveRun) -> None:
        """A run waits now: it is the last to be parked."""
        self.idlers[live.run_id] = live
        self.idlers.move_to_end(live.run_id)

    def forget(self, live: LiveRun) -> None:
        """A run is no longer ours."""
        if self.live.get(live.run_id) is live:
            del self.live[live.run_id]
            self.idlers.pop(live.run_id, None)

    def refuse(self, live: LiveRun, error: BaseException) -> None:
        """The run and this code do not fit: park it untouched until the next deploy, and say so in its record."""
        trouble = masked(f"{type(error).__name__}: {error}")
        what = "the key" if isinstance(error, SealedPayloadError) else "other code"
        logger.error("run %s waits for %s: %s", live.run_id, what, trouble)
        if not isinstance(error, SealedPayloadError):  # that one is for those who have no key
            trouble = self.store.sealer.text(trouble, live.run_id)
        seen = live.seen if live.begun else live.claimed.seen
        pending = self.store.refuse(live.own, seen=seen, trouble=trouble)
        live.leave()
        self.spawn(_done(pending))

    # ---- events

    def _on_mail(self, channel: bytes, message: bytes) -> None:
        if channel == CONFIG_CHANNEL:
            if not self.flags.copy.hear(message):
                self.spawn(self.flags.copy.refresh())
            return
        run_id, generation, length, entry = message.split(b"\n", 3)
        if live := self.live.get(run_id.decode()):
            live.mail(int(generation), int(length), entry)

    def _recheck(self) -> None:
        """The channel was cut for a while: what was published then is read from the journals."""
        self.spawn(self.house.check(list(self.live.values())))
        self.spawn(self.flags.copy.refresh())

    # ---- end

    async def drain(self, grace_s: float) -> None:
        """Give all runs back, with `grace_s` for functions to end, and stop."""
        self.draining = True
        await give_all_back(self, grace_s)
        await self.close()

    def hurry(self, grace_s: float = 0.0) -> None:
        """A drain that goes on waits for functions no longer than this."""
        self.grace_ends_s = min(self.grace_ends_s, self.loop.time() + grace_s)

    async def close(self) -> None:
        """Stop listening and working. What is still owned is reaped by beat."""
        for live in list(self.live.values()):
            live.leave()  # first: code that is cancelled must not take it for its own failure
        for live in self.ending:  # whoever waits for its slot hears of it
            live.release()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.observer.turned(self)
        await self._mail.close()
        with contextlib.suppress(Agnt5Error, TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self.logs.close()
                # not taken off the list: beat looks for what may be left, at once, and strikes it off
                await self.store.link.call("ZADD", keys.hosts(), "XX", 0, self.name)


def _requested(arrival: Arrival, handler: Handler) -> StartRequest:
    """The run that a plain producer's message asks for."""
    if handler.kind is Kind.ENTITY:
        refusal = f"{handler.address} needs the key of its entity: a plain message has none; call it with agnt5.Client"
        return StartRequest(arrival.run_id, handler.address, arrival.kwargs, priority=arrival.priority, refusal=refusal)
    try:
        value = handler.bind_call(arrival.args, arrival.kwargs, check=False)
    except InvalidInputError as error:
        value = {"args": list(arrival.args), "kwargs": arrival.kwargs}
        return StartRequest(arrival.run_id, handler.address, value, priority=arrival.priority, refusal=str(error))
    return StartRequest(arrival.run_id, handler.address, value, priority=arrival.priority)


@contextlib.contextmanager
def _among(members: set[M], one: M) -> Iterator[None]:
    members.add(one)
    try:
        yield
    finally:
        members.discard(one)


async def _done(pending: Awaitable[Any]) -> None:
    try:
        await pending
    except StaleEpochError as error:
        logger.warning("%s", error)

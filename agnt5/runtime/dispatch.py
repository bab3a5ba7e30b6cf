"""Sends the Celery messages "look at run X". Losing one costs time, never correctness (rule R1)."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, Protocol

from agnt5.contracts.ids import first_of, parent_of
from agnt5.contracts.settings import Settings
from agnt5.store.link import Link
from agnt5.store.replies import Dispatch
from agnt5.store.store import Store
from agnt5.store.wire import Address

logger = logging.getLogger("agnt5.runtime")

HEADER = "agnt5"
"""Marks our messages; one without it comes from a plain Celery producer and carries its own call."""

_PRIORITY_STEPS = (0, 3, 6, 9)
_SEPARATOR = "\x06\x16"
_EMPTY_CALL = "W1tdLCB7fSwgeyJjYWxsYmFja3MiOiBudWxsLCAiZXJyYmFja3MiOiBudWxsLCAiY2hhaW4iOiBudWxsLCAiY2hvcmQiOiBudWxsfV0="


class Dispatcher(Protocol):
    """Takes messages; sends those of one loop tick together."""

    def send(self, out: Sequence[Dispatch]) -> None:
        """Send soon; failures are logged."""

    async def flush(self) -> None:
        """Wait until everything that was given to `send` has been tried."""

    async def waiting(self, queue: str, priority: int) -> int | None:
        """How many messages the broker holds for a queue at a priority; None where it does not say."""


class RedisDispatcher:
    """Writes messages straight into the lists of a Redis broker, one LPUSH a queue and tick."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Dispatch] = []
        self._pending: set[asyncio.Future[Any]] = set()
        self._tag = uuid.uuid4().hex[:16]
        self._count = count()

    def send(self, out: Sequence[Dispatch]) -> None:
        if not out:
            return
        if not self._waiting:
            self._loop.call_soon(self._push)
        self._waiting += out

    def _push(self) -> None:
        out, self._waiting = self._waiting, []
        lists: dict[str, list[str]] = {}
        for dispatch in out:
            message = envelope(dispatch, f"{self._tag}-{next(self._count):x}")
            lists.setdefault(_list_of(dispatch.queue, dispatch.priority), []).append(message)
        for name, messages in lists.items():
            pending = self._link.call("LPUSH", name, *messages)
            self._pending.add(pending)
            pending.add_done_callback(self._pushed)

    def _pushed(self, pending: asyncio.Future[Any]) -> None:
        self._pending.discard(pending)
        if not pending.cancelled() and (error := pending.exception()):
            logger.warning("messages could not be sent: %s; beat sends them again", error)

    async def waiting(self, queue: str, priority: int) -> int | None:
        return int(await self._link.call("LLEN", _list_of(queue, priority)))

    async def flush(self) -> None:
        if self._waiting:
            self._push()
        if self._pending:
            await asyncio.gather(*self._pending, return_exceptions=True)


class OtherDispatcher:
    """Sends through whatever broker Celery has (RabbitMQ, SQS...), a batch at a time, in order."""

    def __init__(self, publish: Callable[[Sequence[Dispatch]], Awaitable[None]]) -> None:
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Dispatch] = []
        self._sending: asyncio.Task[None] | None = None

    def send(self, out: Sequence[Dispatch]) -> None:
        self._waiting += out
        if self._waiting and self._sending is None:
            self._sending = self._loop.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                out, self._waiting = self._waiting, []
                try:
                    await self._publish(out)
                except Exception as error:  # noqa: BLE001 - any broker's errors; the sweep repairs it
                    logger.warning("messages could not be sent: %r; beat sends them again", error)
        finally:
            self._sending = None

    async def waiting(self, queue: str, priority: int) -> int | None:  # noqa: ARG002 - the protocol's
        return None

    async def flush(self) -> None:
        if self._sending is not None:
            await asyncio.wait([self._sending])


def envelope(dispatch: Dispatch, tag: str) -> str:
    """A message of Celery's protocol 2 as kombu's Redis transport writes it.

    Built as text: nothing in it needs escaping, since ids, addresses and queues are checked when they are made.
    """
    run_id, handler = dispatch.run_id, dispatch.handler
    parent = parent_of(run_id)
    parent_json = f'"{parent}"' if parent else "null"
    return (
        f'{_BEGIN}{handler}","id":"{run_id}","root_id":"{first_of(run_id)}","parent_id":{parent_json},'
        f'"group":null,"group_index":null,"shadow":null,"eta":null,"expires":null,"retries":0,"timelimit":[null,null],'
        f'"argsrepr":"()","kwargsrepr":"{{}}","origin":"agnt5","ignore_result":true,"replaced_task_nesting":0,'
        f'"stamped_headers":null,"stamps":{{}},"{HEADER}":1}},"properties":{{"correlation_id":"{run_id}","reply_to":"",'
        f'"delivery_mode":2,"delivery_info":{{"exchange":"","routing_key":"{dispatch.queue}"}},'
        f'"priority":{dispatch.priority},"body_encoding":"base64","delivery_tag":"{tag}"}}}}'
    )


_BEGIN = (
    f'{{"body":"{_EMPTY_CALL}","content-encoding":"utf-8","content-type":"application/json","headers":{{'
    f'"lang":"py","task":"'
)
_BEGIN_BYTES = _BEGIN.encode()


def read_envelope(text: bytes) -> tuple[str, str] | None:
    """Handler and run id of a message that `envelope` built; None for any other."""
    if not text.startswith(_BEGIN_BYTES):
        return None
    parts = text[len(_BEGIN_BYTES) : len(_BEGIN_BYTES) + 2000].split(b'"', 4)
    if len(parts) < 5 or parts[1] != b"," or parts[2] != b"id" or parts[3] != b":":  # noqa: PLR2004
        return None
    run_id = parts[4].partition(b'"')[0]
    return parts[0].decode(), run_id.decode()


def _list_of(queue: str, priority: int) -> str:
    """The Redis list of a queue at a priority, as kombu names it."""
    at = max(step for step in _PRIORITY_STEPS if step <= max(0, priority))
    return f"{queue}{_SEPARATOR}{at}" if at else queue


async def open_dispatcher(store: Store, settings: Settings, app: Any = None) -> Dispatcher:
    """How messages leave this process: beside the store's calls, on a link of their own, or by Celery."""
    broker_url = settings.broker_url or settings.redis_url
    if broker_url.partition("://")[0] not in {"redis", "rediss"}:
        return OtherDispatcher(_publisher(broker_url, app))
    if Address(broker_url, "").place == store.link.address.place:
        return RedisDispatcher(store.link)
    link = Link(broker_url, name="agnt5:dispatch", patience_s=store.link.patience_s)
    await link.connect()
    return RedisDispatcher(link)


def _publisher(broker_url: str, app: Any) -> Callable[[Sequence[Dispatch]], Awaitable[None]]:
    from celery import Celery  # noqa: PLC0415 - other brokers only

    from agnt5.runtime.publish import Outgoing, publish_async  # noqa: PLC0415

    sender = app or Celery("agnt5-client", broker=broker_url)

    async def publish(out: Sequence[Dispatch]) -> None:
        messages = [
            Outgoing(d.handler, d.run_id, d.queue, headers={HEADER: 1}, priority=d.priority, ignore_result=True)
            for d in out
        ]
        await publish_async(sender, messages)

    return publish

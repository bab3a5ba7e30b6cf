"""Celery's event dispatcher with batches: what a few milliseconds bring is published as one message.

The message is Celery's own group of events (a list, routed as `task.multi`), which Flower and `celery events` read.
`send` of a buffered group may be called from any thread.
"""

from __future__ import annotations

import time
import uuid
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from typing import Any

from celery.events.dispatcher import EventDispatcher
from celery.utils.log import get_logger
from celery.utils.time import utcoffset
from pydantic_core import to_json

from agnt5.contracts.masking import masked, masked_json
from agnt5.runtime.transport.channel import Channel

logger = get_logger(__name__)

#: Events of one message at most, and the seconds that the first of them waits at most.
BATCH = 256
DELAY_S = 0.01
#: While the broker is away the oldest events are dropped past this many.
BACKLOG = 100_000
#: The offset from UTC changes twice a year; it is computed this often.
OFFSET_S = 60.0
#: Seconds between two attempts while the broker is away.
RETRY_S = 1.0


_TELLING = frozenset({"args", "kwargs", "result", "exception", "traceback"})
"""What events show of values, which may hold secrets also where a producer of Celery made them."""


class ClosedError(Exception):
    """The dispatcher was closed; another one takes over what it has."""


class BatchingDispatcher(EventDispatcher):  # type: ignore[misc]  # Celery is untyped
    """Buffers the events of the groups named by `buffer_group` until `flush`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=BACKLOG)
        self._offset = 0
        self._offset_until = 0.0
        self._retry_at = 0.0
        #: has `flush` called after some seconds; set by who owns an event loop, callable from any thread
        self.schedule: Callable[[float], Any] | None = None
        super().__init__(*args, **kwargs)

    def send(self, type: str, blind: bool = False, **fields: Any) -> Any:  # noqa: A002  # Celery's signature
        """Send an event, with the next batch if its group is buffered."""
        group = type.partition("-")[0]
        if not self.enabled or (self.groups and group not in self.groups):
            return None
        if self.schedule is None or group not in self.buffer_group:
            shown = {name: masked(one) for name, one in fields.items() if name in _TELLING and isinstance(one, str)}
            return super().send(type, blind=blind, **{**fields, **shown})
        now = time.time()
        if now > self._offset_until:
            self._offset, self._offset_until = utcoffset(), now + OFFSET_S
        event = {
            "type": type,
            "timestamp": now,
            "hostname": self.hostname,
            "utcoffset": self._offset,
            "pid": self.pid,
            "clock": self.clock.forward(),
            **fields,
        }
        self._events.append(event)
        size = len(self._events)
        if size == 1:
            self.schedule(DELAY_S)
        elif size == BATCH:
            self.schedule(0)
        return None

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Publish what is buffered; while the broker is away it is kept, and tried again once a second."""
        if time.monotonic() < self._retry_at:
            return
        while groups and self._events:
            batch = [self._events.popleft() for _ in range(min(BATCH, len(self._events)))]
            try:
                with self.mutex:
                    if self._closed:
                        raise ClosedError  # noqa: TRY301
                    self._publish_batch(batch)
            except Exception as error:  # noqa: BLE001  # whatever it was, a worker does not end for its events
                self._events.extendleft(reversed(batch))
                self._put_off(error)
                return
        super().flush(errors=errors, groups=groups)

    def _publish_batch(self, batch: list[dict[str, Any]]) -> None:
        channel = self.producer.channel
        if isinstance(channel, Channel) and self.serializer == "json":
            # the same message without kombu's preparations, which would hold Celery's thread for milliseconds
            channel.announce(self.exchange.name, "task.multi", self._message(batch))
            return
        self.producer.publish(
            batch,
            routing_key="task.multi",
            exchange=self.exchange.name,
            declare=[self.exchange],
            serializer=self.serializer,
            headers=self.headers,
            delivery_mode=self.delivery_mode,
        )

    def _message(self, batch: list[dict[str, Any]]) -> bytes:
        delivery_info = {"exchange": self.exchange.name, "routing_key": "task.multi"}
        return to_json(
            {
                "body": b64encode(masked_json(to_json(batch), only=_TELLING)).decode("ascii"),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": self.headers,
                "properties": {
                    "delivery_mode": self.delivery_mode,
                    "delivery_info": delivery_info,
                    "priority": 0,
                    "body_encoding": "base64",
                    "delivery_tag": str(uuid.uuid4()),
                },
            }
        )

    def _put_off(self, error: Exception) -> None:
        if isinstance(error, ClosedError):
            return
        logger.warning("Events could not be published, %d are kept: %s", len(self._events), error)
        self._retry_at = time.monotonic() + RETRY_S
        if self.schedule is not None:
            self.schedule(RETRY_S)

    def extend_buffer(self, other: Any) -> None:
        """Take over what another dispatcher could not publish."""
        super().extend_buffer(other)
        self._events.extend(getattr(other, "_events", ()))

"""Messages for handlers that this worker does not have.

A plain producer without our routes sends to Celery's default queue, whoever listens there; and during a rolling
deploy a worker may get a handler that only newer ones have. Celery would throw such messages away.
"""

from __future__ import annotations

import json
from typing import Any

import redis
from celery.utils.log import get_logger

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import queue_of, split_address
from agnt5.runtime.dispatch import HEADER
from agnt5.runtime.transport.channel import Channel
from agnt5.store import keys

logger = get_logger(__name__)

AGAIN_S = 1.0
"""How long a plain producer's message is kept back before another worker may get it."""


def pass_on(consumer: Any, message: Any) -> bool:
    """Bring a message to where its handler is. False for one that is no handler's: that is Celery's business."""
    name, channel = message.headers.get("task"), message.channel
    try:
        service, _ = split_address(str(name))
    except InvalidInputError:
        return False
    if not isinstance(channel, Channel):
        return False
    queue, came_by = queue_of(service), message.delivery_info.get("routing_key")
    if came_by == queue:
        _keep(consumer, message, str(name))
        return True
    if not _announced(consumer, str(name)):
        return False
    priority = int(message.properties.get("priority") or 0)
    channel.put_many({(queue, priority): [_readdressed(message, queue)]})
    message.ack()
    return True


def _keep(consumer: Any, message: Any, name: str) -> None:
    """It is at the right queue, and its handler is not here yet."""
    if message.headers.get(HEADER):
        logger.warning("run %s waits for a worker that has %s", message.headers["id"], name)
        message.ack()  # its run is queued in the store, and beat sends again
    else:
        logger.warning("task %s waits for a worker that has %s", message.headers["id"], name)
        consumer.hub.call_later(AGAIN_S, lambda: message.reject(requeue=True))


def _announced(consumer: Any, name: str) -> bool:
    try:
        return bool(consumer.app.backend.client.hexists(keys.handlers(), name))
    except redis.RedisError:
        return False


def _readdressed(message: Any, queue: str) -> str:
    raw = dict(message._raw)  # noqa: SLF001 - the message as the transport has it
    properties = {**raw["properties"], "delivery_info": {"exchange": "", "routing_key": queue}}
    return json.dumps({**raw, "properties": properties})

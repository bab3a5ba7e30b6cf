"""Channel and quality of service of the transport; the package's docstring tells the design."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import Empty
from typing import Any

import redis
from kombu.log import get_logger
from kombu.transport import redis as redis_transport
from kombu.transport import virtual
from kombu.utils import json as kombu_json
from redis.backoff import NoBackoff
from redis.retry import Retry

from agnt5.runtime.transport.link import Link
from agnt5.runtime.transport.puller import TAG, Arrival, Puller, Queue
from agnt5.runtime.transport.scripts import bound

logger = get_logger(__name__)

# kombu announces types that it does not have
stock: Any = redis_transport
coded: Any = kombu_json

#: Seconds that the end of a channel waits for the reply to its last pull.
FINISH_S = 2.0
CHUNK = 1000


class Held:
    """A message that was taken as text: decoded only if it has to go back to its queue."""

    __slots__ = ("_text", "delivery_tag", "restore_to")

    def __init__(self, tag: str, queue: str, text: bytes) -> None:
        self.delivery_tag = tag
        self.restore_to = queue
        self._text = text

    @property
    def _raw(self) -> Any:
        return read_json(self._text)


#: Takes a message as text, or returns False to leave it to kombu: channel, queue, tag, text.
Express = Callable[["Channel", str, str, bytes], bool]


class QoS(virtual.QoS):
    """Counts what is held; the entries in `unacked` are written by the pull itself.

    `ack` and `reject` may be called from any thread.
    """

    channel: Channel

    def append(self, message: Any, delivery_tag: str) -> None:
        """Hold a message."""
        self._delivered[delivery_tag] = message

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge with the next batch."""
        self._delivered.pop(delivery_tag, None)
        self.channel.acknowledge(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back to its queue, behind what waits there, or drop it."""
        message = self._delivered.pop(delivery_tag, None)
        if requeue and message is not None:
            try:
                self.channel.give_back([message], "last")
            except self.channel.connection_errors as error:
                logger.warning("A message waits until its lease has run out; it could not be given back: %s", error)
        else:
            self.channel.acknowledge(delivery_tag)

    def restore_unacked(self, client: Any = None) -> list[Any]:  # noqa: ARG002  # kombu's signature
        """Put all held messages back, the oldest to be consumed next."""
        held = list(self._delivered.values())
        self._delivered.clear()
        self.channel.give_back(reversed(held), "next")
        return []

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:  # noqa: ARG002
        """Put back what dead consumers held, whichever worker they belonged to."""
        self.channel.restore_overdue(num or 500)


class Channel(stock.Channel):  # type: ignore[misc]
    """A channel of kombu's Redis transport that pulls, acknowledges and publishes in batches."""

    QoS = QoS
    unacked_restore_interval = 5
    socket_connect_timeout = 5.0
    #: Most messages that one pull moves.
    pull_limit = 128
    #: Seconds after which a consumer of ours that gave no sign of life loses its messages.
    unacked_lease = 60.0
    from_transport_options = (*stock.Channel.from_transport_options, "pull_limit", "unacked_lease")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._kept: redis.Redis | None = None
        self._plain: redis.Redis | None = None
        self._on_arrival: dict[str, Callable[[Any, str], Any]] = {}
        #: set by a consumer that can do without message objects
        self.express: Express | None = None
        self.puller = Puller(self, f"{TAG}{uuid.uuid4().hex[:16]}")
        super().__init__(*args, **kwargs)

    # -- clients ---------------------------------------------------------------------------------

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        # the callers have their own retries, and a repeated LPUSH would double a message
        params["retry"] = Retry(NoBackoff(), 0)
        return params

    @property
    def supports_batch_publish(self) -> bool:
        """Pipelines run without ambiguous replays, as redis-py never retries here."""
        return not self.retry_on_timeout

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._kept is None:
            self._kept = super()._create_client()
        return self._kept

    @property
    def plain(self) -> redis.Redis:
        """The kept client without kombu's key prefixing, for scripts and bulk commands."""
        if self._plain is None:
            self._plain = redis.Redis(connection_pool=self.pool)
        return self._plain

    def _disconnect_pools(self) -> None:
        super()._disconnect_pools()
        self._kept = None

    def prefixed(self, key: str) -> str:
        """The key as Redis knows it."""
        return f"{self.global_keyprefix}{key}"

    # -- consuming -------------------------------------------------------------------------------

    def open_link(self) -> Link:
        """A new, unconnected link to the server."""
        params = self._connparams(asynchronous=True)
        connection_class = params.pop("connection_class")
        params.pop("max_connections", None)
        return Link(connection_class(**params, protocol=3))

    def watch(self, link: Link) -> None:
        """Have the event loop call `puller.on_readable`."""
        self.connection.cycle.watch(self, link)

    def wake(self) -> None:
        """Make the event loop turn; safe from any thread."""
        if self.connection is not None:
            self.connection.cycle.wake()

    def room(self) -> int:
        """How many messages the prefetch limit allows to pull now."""
        if not self.qos.can_consume():
            return 0
        estimate: int | None = self.qos.can_consume_max_estimate()
        return self.pull_limit if estimate is None else estimate

    def pull_from(self) -> Sequence[Queue]:
        """The lists to pull from: priorities first, then the queues' turn."""
        names = self._queue_cycle.consume(len(self.active_queues))
        if self.queue_order_strategy == "round_robin" and names:
            self._queue_cycle.rotate(names[0])
        return [self._list_of(name, step) for step in self.priority_steps for name in names]

    def _list_of(self, name: str, step: int) -> Queue:
        # no exchange and the queue as routing key: a restored message returns to exactly this queue
        return Queue(self.prefixed(self._q_for_pri(name, step)), name, f',"",{json.dumps(name)}]')

    def arrive(self, arrival: Arrival) -> None:
        """Deliver one message to its consumer."""
        queue = arrival.queue
        if (
            self.express is not None
            and queue in self._on_arrival
            and self.express(self, queue, arrival.tag, arrival.text)
        ):
            return
        try:
            payload, place = _decoded(arrival)
        except (ValueError, TypeError, KeyError) as error:
            logger.critical("Dropped an undecodable message: %r: %.200r", error, arrival.text)
            self.acknowledge(arrival.tag)
            return
        handle = self._on_arrival.get(place)
        if handle is not None:
            handle(payload, arrival.tag)
        else:
            # consuming was cancelled while the pull was on its way
            message = self._message(payload, arrival.tag)
            message.restore_to = place
            self.give_back([message], "next")

    def hold(self, message: Held) -> None:
        """Count a message that was taken as text as held."""
        self.qos.append(message, message.delivery_tag)

    def settle(self, tag: str, *, requeue: bool) -> None:
        """Acknowledge a held message, or give it back to its queue."""
        if requeue:
            self.qos.reject(tag, requeue=True)
        else:
            self.qos.ack(tag)

    def _message(self, payload: Any, tag: str) -> Any:
        message = self.Message(payload, channel=self)
        message.delivery_tag = tag
        return message

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        """Consume from `queue`; each delivery has a tag of its own."""
        result = super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)

        def on_arrival(payload: Any, tag: str) -> Any:
            message = self._message(payload, tag)
            if no_ack or not self.ack_emulation:
                self.acknowledge(tag)
            if not no_ack:
                message.restore_to = queue
                self.qos.append(message, tag)
            return callback(message)

        self._on_arrival[queue] = on_arrival
        self.puller.disarm()
        return result

    def _basic_cancel(self, consumer_tag: str) -> Any:
        self._on_arrival.pop(self._tag_to_queue.get(consumer_tag, ""), None)
        return super()._basic_cancel(consumer_tag)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:  # noqa: ARG002
        """One message of `queue` or None, moved as atomically as consumed ones."""
        lists = [self._list_of(queue, step) for step in self.priority_steps]
        keys = [self.prefixed(self.unacked_key), self.prefixed(self.unacked_index_key)]
        prefix = f"{TAG}{uuid.uuid4().hex}:"
        reply = bound("pull", self.plain)(
            keys=[*keys, *(each.key for each in lists)],
            args=[prefix, 1, 0, 0, *(each.ending for each in lists)],
        )
        if len(reply) == 1:
            return None
        message = self._message(read_json(reply[2]), f"{prefix}1")
        message.restore_to = queue
        if no_ack:
            self.acknowledge(message.delivery_tag)
        else:
            self.qos.append(message, message.delivery_tag)
        return message

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002  # kombu's signature
        message = self.basic_get(queue, no_ack=True)
        if message is None:
            raise Empty
        return message._raw  # noqa: SLF001

    # -- acknowledging ---------------------------------------------------------------------------

    def acknowledge(self, tag: str) -> None:
        """Remove from `unacked`: with the next batch under an event loop, at once without one."""
        if self.connection is not None and self.connection.cycle.batching and not self.closed:
            self.puller.ack(tag)
        else:
            self._remove([tag])

    def _remove(self, tags: Sequence[str]) -> None:
        keys = [self.prefixed(self.unacked_key), self.prefixed(self.unacked_index_key)]
        for first in range(0, len(tags), CHUNK):
            some = tags[first : first + CHUNK]
            bound("pull", self.plain)(keys=keys, args=["", 0, 0, len(some), *some])

    def give_back(self, messages: Iterable[Any], place: str) -> None:
        """Put messages back into the queues they came from, unless they were acknowledged meanwhile."""
        for message in messages:
            queue = getattr(message, "restore_to", None) or message.delivery_info["routing_key"]
            self._restore_payload(message.delivery_tag, message._raw, [queue], place)  # noqa: SLF001

    def _restore_payload(self, tag: str, payload: Any, queues: Sequence[str], place: str) -> None:
        payload.setdefault("headers", {})["redelivered"] = True
        payload["properties"]["delivery_info"]["redelivered"] = True
        step = self._get_message_priority(payload, reverse=False)
        keys = [self.unacked_key, self.unacked_index_key, *(self._q_for_pri(queue, step) for queue in queues)]
        restore = bound("restore", self.plain)
        restore(keys=[self.prefixed(key) for key in keys], args=[tag, coded.dumps(payload), place])

    def restore_overdue(self, limit: int) -> int:
        """Put back what consumers without a sign of life held; returns how many were looked at."""
        keys = [self.prefixed(self.unacked_key), self.prefixed(self.unacked_index_key)]
        lease = min(float(self.unacked_lease), float(self.visibility_timeout))
        found = bound("overdue", self.plain)(keys=keys, args=[TAG, lease, self.visibility_timeout, limit])
        for tag, entry in zip(found[::2], found[1::2], strict=True):
            self._restore_entry(tag.decode(), entry)
        return len(found) // 2

    def _restore_entry(self, tag: str, entry: bytes) -> None:
        try:
            payload, exchange, routing_key = read_json(entry)
            queues = self._lookup(exchange, routing_key)
            self._restore_payload(tag, payload, queues, "next")
        except (ValueError, TypeError, KeyError):
            if entry:
                logger.critical("Could not restore message: %.200r", entry)
            self._remove([tag])

    def renew(self) -> None:
        """Say that the messages which are held are still being worked on."""
        if self._qos is None:
            return
        tags = list(self._qos._delivered)  # noqa: SLF001
        for first in range(0, len(tags), CHUNK):
            key = self.prefixed(self.unacked_index_key)
            bound("renew", self.plain)(keys=[key], args=tags[first : first + CHUNK])

    # -- publishing ------------------------------------------------------------------------------

    def put_many(self, messages: Mapping[tuple[str, int], Sequence[str | bytes]]) -> None:
        """Append encoded messages to the queues of (name, priority), one command for each queue."""
        connection: Any = self.pool.get_connection()
        try:
            commands = [("LPUSH", self.key_for(*queue), *texts) for queue, texts in messages.items()]
            connection.send_packed_command(connection.pack_commands(commands))
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            # half a conversation must not be taken up by the next user
            connection.disconnect()
            raise
        finally:
            self.pool.release(connection)
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply

    def announce(self, exchange: str, routing_key: str, text: bytes) -> None:
        """Publish an encoded message to a fanout exchange."""
        self.plain.publish(self._get_publish_topic(exchange, routing_key), text)

    def key_for(self, queue: str, priority: int) -> str:
        """The key of the list that holds messages of this priority."""
        return self.prefixed(self._q_for_pri(queue, priority))

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Acknowledge what is done, give back what is held, close the connections."""
        if not self.closed and self.connection is not None:
            try:
                self._finish()
            except self.connection_errors as error:
                logger.warning("Channel closed without the server: %s", error)
        super().close()
        self._disconnect_pools()

    def _finish(self) -> None:
        arrivals = self.puller.finish(FINISH_S)
        self._remove(self.puller.take_acks())
        for arrival in reversed(arrivals):
            entry = arrival.text if arrival.queue is None else _entry(arrival)
            self._restore_entry(arrival.tag, entry)
        if self._qos is not None and self.ack_emulation and self.do_restore:
            self._qos.restore_unacked()


def _decoded(arrival: Arrival) -> tuple[Any, str]:
    """The message and its queue; raises where a reader's expectations are not met."""
    payload, queue = read_json(arrival.text), arrival.queue
    if queue is None:
        payload, _, queue = payload
    payload["properties"]["delivery_info"]["routing_key"]
    return payload, queue


def _entry(arrival: Arrival) -> bytes:
    return b"".join((b"[", arrival.text, b',"",', json.dumps(arrival.queue).encode(), b"]"))


def read_json(text: bytes) -> Any:
    """Decode a message; kombu's slower decoder only where its type markers occur."""
    if b"__type__" in text:
        return coded.loads(text.decode())
    return json.loads(text)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error

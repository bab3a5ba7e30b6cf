"""The transport's poller, for Celery's event loop and for plain `drain_events`."""

from __future__ import annotations

from time import monotonic
from typing import Any

from kombu.log import get_logger
from kombu.transport import redis as redis_transport
from kombu.utils.eventio import ERR, READ

from agnt5.runtime.transport.channel import Channel
from agnt5.runtime.transport.link import Link

logger = get_logger(__name__)

# kombu announces types that it does not have
stock: Any = redis_transport

#: kombu's name for the kind of connection that consumes.
PULL = "BRPOP"
LISTEN = "LISTEN"
RETRY_S = 0.5


def _nothing() -> None:
    return


class Poller(stock.MultiChannelPoller):  # type: ignore[misc]
    """Lets each channel's puller speak; a lost connection is opened again here, not by a worker's restart."""

    def __init__(self) -> None:
        super().__init__()
        self.hub: Any = None
        self._listen_after = 0.0
        self._restore_after = 0.0

    @property
    def batching(self) -> bool:
        """Whether an event loop turns, so that acknowledgements can wait for its next turn."""
        return self.hub is not None

    def wake(self) -> None:
        """Make the event loop turn; safe from any thread."""
        if self.hub is not None:
            self.hub.call_soon(_nothing)

    def watch(self, channel: Channel, link: Link) -> None:
        """Call the channel's puller when the link is readable."""
        self._fd_to_chan[link.socket.fileno()] = (channel, PULL)
        self._chan_to_sock[(channel, link, PULL)] = link.socket
        self.poller.register(link.socket, READ | ERR)

    def on_poll_start(self) -> None:
        """Pull and listen where there is room."""
        for channel in list(self._channels):
            channel.puller.tick()
            if channel.active_fanout_queues:
                self._listen(channel)

    def _listen(self, channel: Channel) -> None:
        if channel._in_listen and (channel, channel.subclient, LISTEN) in self._chan_to_sock:  # noqa: SLF001
            return
        now = monotonic()
        if now < self._listen_after:
            return
        try:
            self._register_LISTEN(channel)
        except channel.connection_errors as error:
            self._listen_after = now + RETRY_S
            self._lost(channel, error)

    def _lost(self, channel: Channel, error: Exception) -> None:
        logger.warning("Connection for control and events lost (%s), reconnecting", error)
        connection = channel.subclient.connection
        if connection is not None:
            connection.disconnect()
        channel._in_listen = False  # noqa: SLF001

    def on_readable(self, fileno: int) -> Any:
        """Read what a ready connection has."""
        found = self._fd_to_chan.get(fileno)
        if found is None:
            return None
        channel, kind = found
        if kind == PULL:
            return channel.puller.on_readable()
        try:
            return channel.handlers[kind]()
        except channel.connection_errors as error:
            if isinstance(error, KeyError):
                raise
            self._listen_after = monotonic() + RETRY_S
            self._lost(channel, error)
            return None

    def handle_event(self, fileno: int, event: int) -> Any:
        """Errors and data alike are found by reading; true if a message was delivered."""
        return self.on_readable(fileno) if event & (READ | ERR) else None

    def on_poll_init(self, poller: Any) -> None:
        """Use the event loop's poller."""
        self.poller = poller
        self.maybe_restore_messages()

    def maybe_restore_messages(self) -> None:
        """Renew what is held and restore what dead consumers held; at most every few seconds."""
        for channel in list(self._channels):
            if not channel.active_queues and not channel.qos._delivered:  # noqa: SLF001
                continue
            now = monotonic()
            if now < self._restore_after:
                return
            self._restore_after = now + _pause(channel)
            try:
                channel.renew()
                channel.qos.restore_visible(num=channel.unacked_restore_limit)
            except channel.connection_errors as error:
                logger.debug("Restoring was put off: %s", error)

    def maybe_check_brpop_health(self) -> None:
        """The pullers watch their replies themselves."""


def _pause(channel: Channel) -> float:
    """Seconds between two looks: often enough that no lease of a live consumer runs out."""
    shortest = min(channel.unacked_lease, channel.visibility_timeout)
    return float(max(min(channel.unacked_restore_interval, shortest / 4), 0.2))


class Transport(stock.Transport):  # type: ignore[misc]
    """kombu's Redis transport with our channels."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let Celery's event loop turn this transport."""
        self.cycle.hub = loop
        super().register_with_event_loop(connection, loop)
        interval = min(_pause(channel) for channel in self.channels) if self.channels else 1.0
        self.cycle._restore_messages_tref.cancel()  # noqa: SLF001
        self.cycle._restore_messages_tref = loop.call_repeatedly(  # noqa: SLF001
            interval, self.cycle.maybe_restore_messages
        )

    def close_connection(self, connection: Any) -> None:
        """Close all channels, with their acknowledgements sent."""
        super().close_connection(connection)
        self.cycle.hub = None

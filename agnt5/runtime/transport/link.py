"""A Redis connection that an event loop reads without ever blocking on half a reply."""

from __future__ import annotations

from typing import Any

import hiredis
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

CHUNK = 1 << 18


class Push(list[Any]):
    """A message that the server sent by itself (RESP3), such as an invalidation."""


class Link:
    """One connection, written by `send` and read by `read` when its socket is readable.

    The server is asked to say when a key that was read here changes (`CLIENT TRACKING`); where it refuses,
    `tracking` is false and the owner has to poll.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection: Any = connection
        self.tracking = False
        self._reader = hiredis.Reader(replyError=ReplyError, protocolError=RedisConnectionError)

    def connect(self) -> None:
        """Connect once, without retries; raises redis' connection errors."""
        self.connection.connect()
        self._reader = hiredis.Reader(replyError=ReplyError, protocolError=RedisConnectionError)
        try:
            self.connection.send_command("CLIENT", "TRACKING", "ON", "NOLOOP")
            self.connection.read_response()
            self.tracking = True
        except RedisConnectionError:
            raise
        except Exception:  # noqa: BLE001  # an old server, a proxy or an ACL: poll instead
            self.tracking = False

    @property
    def socket(self) -> Any:
        """The connected socket, or None."""
        return self.connection._sock  # noqa: SLF001

    def send(self, *command: Any) -> None:
        """Send one command; its reply comes from `read`."""
        self.connection.send_packed_command(self.connection.pack_command(*command), check_health=False)

    def read(self) -> list[Any]:
        """All complete replies and pushes that have arrived; raises if the server hung up."""
        sock = self.socket
        if sock is None:
            raise RedisConnectionError("the connection is closed")
        while True:
            data = sock.recv(CHUNK)
            if not data:
                raise RedisConnectionError("the server closed the connection")
            self._reader.feed(data)
            # decrypted bytes that the poller cannot see must be read now
            if not getattr(sock, "pending", int)():
                break
        replies = []
        while (reply := self._reader.gets()) is not False:
            replies.append(Push(reply) if isinstance(reply, hiredis.PushNotification) else reply)
        return replies

    def close(self) -> None:
        """Close the socket; the next `connect` opens a new one."""
        self.connection.disconnect()


class ReplyError(Exception):
    """An error that the server answered."""

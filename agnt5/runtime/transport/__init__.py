"""A Redis transport for kombu that moves messages in batches and loses none.

It is wire-compatible with kombu's own: plain Celery producers, workers and Flower share its queues, its `unacked`
hash and index, its priority lists and its fanout channels.

**No message is lost.** Stock kombu pops with BRPOP and then writes `unacked`; a worker that is killed in between
loses the message (kombu#1733). Here one Lua script, `pull.lua`, pops up to N messages, never more than the prefetch
limit has room for, and writes them to `unacked`: a message is at each instant in a queue or in `unacked`. Scripts
cannot block, and each command that blocks on a list without a script removes from it (BRPOP, BLMPOP) or takes a
single key and a connection for each list (BLMOVE onto itself); so waiting is done without a blocking command: the
script reads the queues that it found empty, and the server tells a client with `CLIENT TRACKING` when a key it read
was changed (one RESP3 push, for any producer's LPUSH, any number of queues and one connection). All consumers of an
empty queue are told, and the first pull wins. Should a push get lost, a look every 5 s finds what is there; where
a server refuses tracking, the queues are polled ten times a second.

**A pull is idempotent.** Its reply may get lost with the connection. Each pull has its own tag prefix, and message
i of it gets the tag prefix + i; sent again, the script finds those tags in `unacked` and answers the same messages.
Acknowledgements ride on the next pull and are repeated with it. Lost connections, restarts and pauses of the server
are ridden out here, without Celery restarting its consumer (celery#8091). An entry in `unacked` is
`[message, "", queue]`, so that whoever restores it, kombu too, puts it back into exactly its queue.

**Held messages are renewed** every few seconds, so a task may run longer than the visibility timeout (kombu#337), and
a dead worker's messages come back after `unacked_lease` (60 s) instead of an hour. Entries of stock workers keep
their `visibility_timeout`. Times are the server's, never a worker's.

Transport options besides kombu's: `pull_limit` (128 messages a pull), `unacked_lease` (seconds).

**To select it** for one app, leave the URL as it is and name the transport:

    app.conf.broker_url = "redis://localhost:6379/0"
    app.conf.broker_transport = transport_for(app.conf.broker_url)

The aliases it returns are shown as `redis` and `rediss`, so Flower and `celery inspect stats` see a plain Redis URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu.connection import resolve_aliases
from kombu.transport import TRANSPORT_ALIASES

if TYPE_CHECKING:
    from agnt5.runtime.transport.poller import Transport

TRANSPORT = "agnt5.runtime.transport.poller:Transport"
ALIASES = {"redis": "agnt5-redis", "rediss": "agnt5-rediss"}

__all__ = ["ALIASES", "TRANSPORT", "Transport", "install", "transport_for"]


def install() -> None:
    """Make the aliases known to kombu; idempotent, changes nothing for other apps."""
    for scheme, alias in ALIASES.items():
        TRANSPORT_ALIASES[alias] = TRANSPORT
        resolve_aliases[alias] = scheme


def transport_for(broker_url: str) -> str | None:
    """The name for `broker_transport`, or None where kombu's own transport is right (RabbitMQ, Sentinel...)."""
    install()
    return ALIASES.get(broker_url.partition("://")[0])


def __getattr__(name: str) -> object:
    if name == "Transport":
        from agnt5.runtime.transport.poller import Transport  # noqa: PLC0415  # keeps importing cheap

        return Transport
    raise AttributeError(name)

"""Ends with 0 when the beat of this container works: its connection to the store is there, and is being used.

A beat looks around at least once a second. Others may run elsewhere: only connections from this address count. Needs
AGNT5_REDIS_URL, as beat does.
"""

import os
import sys

import redis

NAME = "agnt5:beat"
SILENCE_S = 30
"""Longer than anything that a beat waits for."""


def works(url: str) -> bool:
    """Whether a beat of this address has asked the store for something lately."""
    with redis.Redis.from_url(url, socket_timeout=5, decode_responses=True) as client:
        here = host_of(client.client_info()["addr"])
        return any(
            one["name"] == NAME and host_of(one["addr"]) == here and int(one["idle"]) < SILENCE_S
            for one in client.client_list()
        )


def host_of(address: str) -> str:
    """The host of `host:port`."""
    return address.rpartition(":")[0]


if __name__ == "__main__":
    sys.exit(0 if works(os.environ["AGNT5_REDIS_URL"]) else 1)

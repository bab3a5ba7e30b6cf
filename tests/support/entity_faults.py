"""I5: clients increment a few entities while workers are killed and frozen at random; a checker reads the history."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.cluster import Cluster, Node

from agnt5 import AsyncClient

PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Op:
    """One increment: when it was asked, when it was answered, and the sum that it answered."""

    begun: float
    ended: float
    total: int


@dataclass(slots=True)
class Faults:
    """What was done to the workers."""

    kills: int = 0
    freezes: int = 0

    @property
    def hits(self) -> int:
        """All of them."""
        return self.kills + self.freezes


@dataclass(slots=True)
class History:
    """All increments by entity, and how often the workers were hit meanwhile."""

    ops: dict[str, list[Op]] = field(default_factory=lambda: defaultdict(list))
    faults: Faults = field(default_factory=Faults)
    seconds: float = 0.0

    def problems(self) -> list[str]:
        """Why the increments of a key are not linearizable: each sum once, and in the order of real time."""
        found = []
        for key, ops in self.ops.items():
            if sorted(op.total for op in ops) != list(range(1, len(ops) + 1)):
                found.append(f"{key}: {len(ops)} increments gave other sums than 1 to {len(ops)}")
            latest = 0.0  # the latest beginning of all with a smaller sum
            for op in sorted(ops, key=lambda op: op.total):
                if op.ended < latest:
                    found.append(f"{key}: sum {op.total} was answered before an increment with a smaller sum was asked")
                latest = max(latest, op.begun)
        return found


async def increment(cluster: Cluster, *, clients: int, each: int, keys: int, hits: int, history: History) -> None:
    """`clients` tasks, each with at least `each` increments one after the other, and on until `hits` were made."""
    async with AsyncClient(cluster.server.url) as client:

        async def one(number: int) -> None:
            turn = 0
            while turn < each or history.faults.hits < hits:
                turn += 1
                key = f"key-{(number + turn) % keys}"
                begun = time.monotonic()
                total = await client.entity("Counter", key, timeout=PATIENCE_S).add(1)
                history.ops[key].append(Op(begun, time.monotonic(), total))

        await asyncio.gather(*(one(number) for number in range(clients)))


@contextmanager
def hit(
    workers: list[Node], chance: random.Random, faults: Faults, *, every_s: float, freeze_s: float
) -> Iterator[None]:
    """Kill a worker (and start it again) or freeze it for longer than its liveness lasts, over and over."""
    done = threading.Event()

    def act() -> None:
        while not done.wait(every_s * (0.5 + chance.random())):
            worker = chance.choice(workers)
            if chance.random() < 0.6:
                worker.kill()
                faults.kills += 1
                worker.spawn()
            else:
                worker.freeze()
                faults.freezes += 1
                done.wait(freeze_s)
                worker.thaw()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def under_fire(
    cluster: Cluster, workers: list[Node], *, clients: int, each: int, keys: int, hits: int, seed: int,
    every_s: float, freeze_s: float,
) -> History:  # fmt: skip
    """The whole of it."""
    history = History()
    begun = time.monotonic()
    with hit(workers, random.Random(seed), history.faults, every_s=every_s, freeze_s=freeze_s):
        asyncio.run(increment(cluster, clients=clients, each=each, keys=keys, hits=hits, history=history))
    history.seconds = time.monotonic() - begun
    return history

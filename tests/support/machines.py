"""Runs a state machine of Hypothesis against the real scripts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from support.server import Server

from agnt5.store.link import Link
from agnt5.store.store import Store

SHRINK = "AGNT5_TEST_SHRINK" in os.environ  # a failure is found in seconds and made small in minutes


class ScriptMachine(RuleBasedStateMachine):
    """A machine that acts on a real store."""

    store: Store
    admin: redis.Redis
    loop: asyncio.AbstractEventLoop

    def do(self, pending: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call on the machine's loop, and wait for it."""

        async def call() -> Any:
            return await pending()

        return self.loop.run_until_complete(call())


def run_machine(machine: type[ScriptMachine], server: Server, *, examples: int) -> None:
    """Give `machine` a store with one shard, its loop and a plain client, and run it."""
    loop = asyncio.new_event_loop()
    link = Link(server.url)
    loop.run_until_complete(link.connect())
    machine.loop, machine.admin = loop, server.admin
    machine.store = Store(link, shards=1, retention_ms=60_000)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples, stateful_step_count=50, deadline=None, database=None, print_blob=True,
                phases=[Phase.generate, Phase.shrink] if SHRINK else [Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
    finally:
        loop.run_until_complete(link.close())
        loop.close()

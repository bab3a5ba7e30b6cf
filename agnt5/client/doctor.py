"""`examine` proves rule R6 over a whole store, `repair` mends what is safe to mend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agnt5.client.checks import Facts, check_shard
from agnt5.client.entity_checks import calls_of
from agnt5.client.findings import Expire, Finding, Mend, Reap
from agnt5.client.surroundings import check_surroundings
from agnt5.client.survey import Survey, survey
from agnt5.contracts.settings import Settings
from agnt5.runtime.dispatch import Dispatcher
from agnt5.runtime.sweep import reap_host
from agnt5.store.store import Store

if TYPE_CHECKING:
    from agnt5.client.aio import AsyncClient

__all__ = ["Finding", "examine", "examine_with", "repair"]

_ORDER = {"error": 0, "warning": 1, "info": 2}


async def examine(
    store: Store, *, settle_s: float = 0, settings: Settings | None = None, processes: bool = True
) -> list[Finding]:
    """What is wrong with a store, the worst first; empty when every run will end. Reads only.

    Runs move while they are read, so what looks wrong is read a second time, `settle_s` seconds later, and only
    what has not changed in between is told. With `processes=False` only the store's own keys are judged, and every
    owner counts as alive. Takes the whole store in pages: about two seconds for 10,000 runs.
    """
    settings = settings or Settings(shards=store.shards, retention_ms=store.retention_ms)
    first = _judge(await survey(store), settings, processes=processes)
    if not first:
        return []
    await asyncio.sleep(settle_s)
    again = {_identity(finding): finding for finding in _judge(await survey(store), settings, processes=processes)}
    found = [again[identity] for finding in first if (identity := _identity(finding)) in again]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


async def examine_with(client: AsyncClient, *, settle_s: float = 0, processes: bool = True) -> list[Finding]:
    """`examine` the store of a client."""
    store, _ = await client.opened()
    return await examine(store, settle_s=settle_s, settings=client.settings, processes=processes)


async def repair(store: Store, dispatcher: Dispatcher, findings: Iterable[Finding]) -> int:
    """Mend what the findings say can be mended; how many of them. Every step is a script that is safe to repeat."""
    done = 0
    reaped: set[str] = set()
    for finding in findings:
        match finding.repair:
            case Mend(run_id, entry, member):
                dispatcher.send(await store.mend(run_id, entry=entry, member=member))
            case Reap(host):
                if host not in reaped:
                    reaped.add(host)
                    await reap_host(store, dispatcher, host)
            case Expire(key):
                await store.link.call("PEXPIRE", key, store.retention_ms)
            case None:
                continue
        done += 1
    await dispatcher.flush()
    return done


async def repair_with(client: AsyncClient, findings: Iterable[Finding]) -> int:
    """`repair` the store of a client."""
    store, dispatcher = await client.opened()
    return await repair(store, dispatcher, findings)


def _judge(seen: Survey, settings: Settings, *, processes: bool) -> list[Finding]:
    facts = Facts(
        now_ms=seen.now_ms,
        hosts_ms=seen.hosts_ms if processes else None,
        liveness_ms=settings.liveness_timeout_ms,
        retention_ms=settings.retention_ms,
        calls=calls_of(seen.shards),
        answers={call: ms for shard in seen.shards for call, ms in shard.scores["answers"].items()},
    )
    found = [finding for shard in seen.shards for finding in check_shard(shard, facts)]
    if processes:
        found += check_surroundings(seen, settings)
    return found


def _identity(finding: Finding) -> tuple[object, ...]:
    """The same fault in the same state; durations in its text may have grown."""
    key = finding.found if finding.about in {"index", "key"} else ""
    return finding.code, finding.about, finding.run, finding.repair, finding.mark, key

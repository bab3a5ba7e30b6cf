"""Every key, once: what it is, who writes it, how long it lives.

All keys of a shard begin with `agnt5:{s<k>}:`, so that a run's whole tree shares one Redis Cluster slot. Scripts
get that prefix as their only key and derive the names below from it (`lua/lib/core.lua`).
"""

from __future__ import annotations

from agnt5.contracts.budgets import Scope
from agnt5.contracts.ids import shard_of


def prefix(shard: int) -> str:
    """The prefix of all keys of one shard."""
    return f"agnt5:{{s{shard}}}:"


def run(run_id: str, shards: int) -> str:
    """Hash: a run's changing state. Written by every transition; expires `retention` after the end."""
    return f"{prefix(shard_of(run_id, shards))}run:{run_id}"


def log(run_id: str, shards: int) -> str:
    """List: the journal of the current generation. Appended to by every transition; expires with the run."""
    return f"{prefix(shard_of(run_id, shards))}log:{run_id}"


def old(run_id: str, generation: int, shards: int) -> str:
    """List: the journal of an earlier generation. Expires `retention` after the next one began."""
    return f"{prefix(shard_of(run_id, shards))}old:{run_id}:{generation}"


def kids(run_id: str, shards: int) -> str:
    """Hash: open child -> command number. Deleted when the run ends."""
    return f"{prefix(shard_of(run_id, shards))}kids:{run_id}"


def ops(run_id: str, shards: int) -> str:
    """Set: operation ids of delivered signals, so that none is taken twice. Expires with the run."""
    return f"{prefix(shard_of(run_id, shards))}ops:{run_id}"


def out(run_id: str, shards: int) -> str:
    """Stream: what a run yielded in its last claim, as `<claim>-<n>`, n from 1. Written by emit, expires with the run.

    The place of the last chunk is the field `out` of the run's record; the next claim makes both void.
    """
    return f"{prefix(shard_of(run_id, shards))}out:{run_id}"


def logs(run_id: str, shards: int) -> str:
    """Sorted set by microseconds: a run's latest log lines, `<writer>.<number>|<JSON>`. Written by keep.

    Of all attempts and generations; expires with the run.
    """
    return f"{prefix(shard_of(run_id, shards))}logs:{run_id}"


def alarms(run_id: str, shards: int) -> str:
    """Set: a run's `t|` and `a|` members of `timers`, so that none outlives it. Deleted when the run ends."""
    return f"{prefix(shard_of(run_id, shards))}alarms:{run_id}"


def ask(run_id: str, ref: str, shards: int) -> str:
    """Hash: what a run asks of people, `ref` is `generation.seq`. Written by append and decide; expires with the run.

    One of an earlier generation expires `retention` after the next one began.
    """
    return f"{prefix(shard_of(run_id, shards))}ask:{run_id}|{ref}"


def asks(run_id: str, shards: int) -> str:
    """Set: the refs of a run's asks of the current generation. Expires with the run."""
    return f"{prefix(shard_of(run_id, shards))}asks:{run_id}"


def inbox(shard: int) -> str:
    """Sorted set by ms of asking: `run|ref` of the open asks. Left by each as it is decided or withdrawn."""
    return f"{prefix(shard)}inbox"


def timers(shard: int) -> str:
    """Sorted set by due ms: `t|run|ref`, `a|run|ref` (an ask), `r|run` (next attempt), `d|run` (run timeout).

    `ref` is `generation.seq`.
    """
    return f"{prefix(shard)}timers"


def queued(shard: int, slot: str) -> str:
    """Sorted set by ms of queueing: runs of one slot (`queue:priority`) that wait to be claimed."""
    return f"{prefix(shard)}queued:{slot}"


def queues(shard: int) -> str:
    """Set of the slots that have been used. Kept."""
    return f"{prefix(shard)}queues"


def claimed(shard: int) -> str:
    """Hash: slot -> the latest queueing time among its claimed runs (the overtaking rule). Kept."""
    return f"{prefix(shard)}claimed"


def owned(shard: int, host: str) -> str:
    """Set: runs of this shard that a host owns. Gone when empty."""
    return f"{prefix(shard)}owned:{host}"


def open_runs(shard: int) -> str:
    """Sorted set by ms of creation: root runs that have not ended."""
    return f"{prefix(shard)}open"


def ended_runs(shard: int) -> str:
    """Sorted set by ms of the end: root runs that have ended; beat trims it past retention."""
    return f"{prefix(shard)}ended"


def refused(shard: int) -> str:
    """Set: parked runs whose code did not fit their journal; a starting worker wakes them. Gone when empty."""
    return f"{prefix(shard)}refused"


def entity(name: str, shards: int) -> str:
    """Hash: an entity's state, a JSON value a state key. Written by `commit`; kept until it is deleted or empty."""
    return f"{prefix(shard_of(name, shards))}ent:{name}"


def lock(name: str, shards: int) -> str:
    """Hash: `run` holds an entity's lock ('' nobody), `writes` and `updated` tell of its state. Goes with it."""
    return f"{prefix(shard_of(name, shards))}lock:{name}"


def line(name: str, shards: int) -> str:
    """List: calls that wait for an entity's lock, first come first. Gone when empty."""
    return f"{prefix(shard_of(name, shards))}line:{name}"


def recent(name: str, shards: int) -> str:
    """List: the latest ended writes of an entity, newest first, a few. Goes with its state."""
    return f"{prefix(shard_of(name, shards))}recent:{name}"


def entities(shard: int, entity_type: str) -> str:
    """Sorted set by ms of the last change: the entities of a type. Gone when empty."""
    return f"{prefix(shard)}ents:{entity_type}"


def entity_types(shard: int) -> str:
    """Set of the entity types that have had state. Kept."""
    return f"{prefix(shard)}sorts"


def answers(shard: int) -> str:
    """Sorted set by ms of the end: calls of entities whose caller, in another shard, has not been told yet."""
    return f"{prefix(shard)}answers"


def untold(shard: int) -> str:
    """Sorted set by ms from which a beat may take it: the ends of runs that no worker had, which none has told of yet.

    Written where a run ends; `run|ending|generation|attempt|length|ms|handler`. Struck off by the beat that told of it;
    the latest 20,000 at most, and expires with the last of their runs.
    """
    return f"{prefix(shard)}untold"


def budget(scope: Scope, shards: int) -> str:
    """Hash: what a scope has spent, and what calls on their way hold of it. Written by `reserve` and `settle`.

    A tree's expires `retention` after its root has ended, one with windows as the window ends; others are kept until
    `reset`. So do `tries:` (hash: what each call on its way holds) and `dues:` (sorted set by ms: when that is let go).
    """
    return f"{prefix(shard_of(scope.name, shards))}budget:{scope}"


def budgets(shard: int) -> str:
    """Sorted set by ms of their expiry (infinite for none): the scopes that have counters. Expires with its last."""
    return f"{prefix(shard)}budgets"


def hosts() -> str:
    """Sorted set by ms of the last heartbeat: live hosts. In shard 0 only."""
    return f"{prefix(0)}hosts"


def meta() -> str:
    """Hash: format version and shard count, written at first start. In shard 0 only. Kept."""
    return f"{prefix(0)}meta"


def handlers() -> str:
    """Hash: handler address -> description that workers announce. In shard 0 only. Kept."""
    return f"{prefix(0)}handlers"


def schedules() -> str:
    """Hash: cron workflow address -> its schedule and last fire time. In shard 0 only. Kept."""
    return f"{prefix(0)}schedules"


def static() -> str:
    """Hash: plain beat entry -> ms of its last run, shared by all beats. In shard 0 only. Kept."""
    return f"{prefix(0)}static"


def config() -> str:
    """Hash: config key -> its rule, and `~version` -> how many changes there were. In shard 0 only. Kept.

    Written by `configure`, as are `configlog` (stream: the latest changes, kept) and `configops` (sorted set by ms:
    operations, so that none is done twice; expires in a day).
    """
    return f"{prefix(0)}config"


def config_log() -> str:
    """Stream: the latest changes of config, `version key old new who comment` each. In shard 0 only. Kept."""
    return f"{prefix(0)}configlog"


def host_channel(host: str) -> str:
    """Channel: events of runs that a host owns: id, generation, length and entry, a line each."""
    return f"agnt5:host:{host}"


def done_channel(run_id: str) -> str:
    """Channel: a run's terminal journal entry, once."""
    return f"agnt5:done:{run_id}"


def out_channel(run_id: str) -> str:
    """Channel: the place of the last chunk that a run has yielded, `<claim>-0` when what it had yielded became void."""
    return f"agnt5:out:{run_id}"


BEAT_CHANNEL = "agnt5:beat"
"""Channel: a timer became the earliest of its shard."""

CONFIG_CHANNEL = "agnt5:config"
"""Channel: a change of config: version, key and rule ('' where it was unset), a line each."""

"""How a started child, or a call of an entity, becomes a record: queue, headers, priority and first journal entry."""

from __future__ import annotations

from typing import Any

from agnt5.contracts.ids import first_of, queue_of
from agnt5.contracts.runs import Kind
from agnt5.contracts.traces import below
from agnt5.replay.commands import StartTask
from agnt5.replay.events import RunStarted
from agnt5.runtime.approvals import NOTICE, NOTICE_ROOM
from agnt5.runtime.encoding import encode_checked
from agnt5.runtime.live import LiveRun
from agnt5.store.replies import NewCall, NewChild

CALL_OPTION = "call"
"""The run option of a call of an entity that holds its place in its caller: command number and generation."""


def new_call(parent: LiveRun, command: StartTask, started: RunStarted, mode: str, options: dict[str, Any]) -> NewCall:
    """The record of a call of an entity. `options` are those of its handler, as workers announce them.

    Raises `SerializationError` or `PayloadTooLargeError` for its input.
    """
    what = f"input of {command.handler} (run {parent.run_id}, command {command.seq})"
    queue = queue_of(command.handler.partition(".")[0])
    priority = options.get("priority", started.priority)
    event = RunStarted(
        handler=command.handler,
        kind=Kind.ENTITY.value,
        input=command.input,
        headers=below(parent.trace, started.headers),
        parent=parent.run_id,
        queue=queue,
        priority=priority,
        options={CALL_OPTION: [command.seq, started.generation]},
        holds=parent.holds(started),
        requester=started.requester,
        root=started.root or first_of(parent.run_id),
    )
    body = encode_checked(event, command.input, what, parent.host.settings.payload_limit)
    timeout = options.get("run_timeout_ms")
    return NewCall(command.id, command.handler, mode, queue, priority, body, "", timeout, parent.run_id)


def new_child(parent: LiveRun, command: StartTask, started: RunStarted) -> NewChild:
    """The record of a child. Raises `SerializationError` or `PayloadTooLargeError` for its input."""
    what = f"input of {command.handler} (run {parent.run_id}, command {command.seq})"
    known = parent.host.registry.find(command.handler)
    options: dict[str, Any] = command.options
    queue = queue_of(command.handler.partition(".")[0])
    priority = options.get("priority")
    if priority is None:
        priority = known.options.priority if known and known.options.priority is not None else started.priority
    timeout = options.get("run_timeout_ms")
    if timeout is None and known is not None:
        timeout = known.options.run_timeout_ms
    event = RunStarted(
        handler=command.handler,
        kind=known.kind.value if known else "",
        input=command.input,
        headers=below(parent.trace, started.headers),
        parent=parent.run_id,
        queue=queue,
        priority=priority,
        options={name: value for name, value in options.items() if name in {"timeout_ms", "retries", NOTICE}},
        holds=parent.holds(started),
        requester=started.requester,
        root=started.root,
    )
    limit = parent.host.settings.payload_limit + (NOTICE_ROOM if NOTICE in options else 0)
    body = encode_checked(event, command.input, what, limit)
    return NewChild(command.id, command.seq, command.handler, queue, priority, body, timeout)

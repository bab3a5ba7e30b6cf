"""Starting a root run: from a client, a cron schedule, or a plain Celery message."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agnt5 import codec
from agnt5.contracts.errors import DuplicateRunError
from agnt5.contracts.ids import queue_of
from agnt5.contracts.runs import Kind, RunStatus
from agnt5.contracts.settings import Settings
from agnt5.registry import Handler
from agnt5.replay import journal
from agnt5.replay.events import RunStarted
from agnt5.store import keys
from agnt5.store.replies import Called, Created, NewCall
from agnt5.store.store import Store

REFUSAL = "refusal"
"""The run option that holds why a run fails before its code begins."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A root run to start. `run_timeout_ms` None means the handler's own, where it is known here."""

    run_id: str
    handler: str
    input: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None
    run_timeout_ms: int | None = None
    requester: str = ""
    entity: str | None = None
    """The entity (`type/key`) of a call of a method; `run_id` is `ids.call_id` then."""
    mode: str | None = None
    """Of a method, write or read; None where the handler is known here and tells it."""
    refusal: str | None = None
    """Why its arguments do not fit: the run is created all the same and fails with this, so that its caller learns."""


async def start_run(store: Store, settings: Settings, request: StartRequest, handler: Handler | None) -> Created:
    """Create the run, once per id, and give the messages to send.

    Raises `SerializationError`, `PayloadTooLargeError`, `DuplicateRunError`; `SealedPayloadError` where a run has this
    id and it cannot be told whether its input is the same.
    """
    limit = settings.payload_limit
    data = codec.dumps(request.input, what=f"input of {request.handler} (run {request.run_id})", limit=limit)
    digest = store.sealer.digest(data)
    service = request.handler.partition(".")[0]
    options = handler.options if handler else None
    priority = request.priority if request.priority is not None else (options.priority if options else None) or 0
    timeout = request.run_timeout_ms
    if timeout is None and options is not None:
        timeout = options.run_timeout_ms
    kind = handler.kind.value if handler else ""
    queue = queue_of(service)
    if request.entity is not None:
        kind = Kind.ENTITY.value
    body = journal.encode(
        RunStarted(
            handler=request.handler,
            kind=kind,
            input=request.input,
            headers=dict(request.headers),
            queue=queue,
            priority=priority,
            options={} if request.refusal is None else {REFUSAL: request.refusal},
            requester=request.requester,
        )
    )
    if request.entity is not None:
        mode = (handler.mode if handler else request.mode) or "write"
        call = NewCall(request.run_id, request.handler, mode, queue, priority, body, digest, timeout)
        creating: Awaitable[Created] = _called(store.call(call))
    else:
        creating = store.create(
            request.run_id,
            handler=request.handler,
            kind=kind,
            queue=queue,
            priority=priority,
            body=body,
            digest=digest,
            run_timeout_ms=timeout,
        )
    try:
        return await creating
    except DuplicateRunError:
        if (known := await _started_before(store, request, data)) is not None:
            return known
        raise


async def _called(calling: Awaitable[Called]) -> Created:
    called = await calling
    return Created(called.fresh, called.status, called.out)


async def _started_before(store: Store, request: StartRequest, data: bytes) -> Created | None:
    """The run of this id, if it has this handler and input and only the key differs that made its digest."""
    key = keys.run(request.run_id, store.shards)
    status, handler, digest = await store.link.call("HMGET", key, "status", "handler", "digest")
    if status is None or handler.decode() != request.handler or not store.sealer.knows(digest.decode(), data):
        return None
    return Created(False, RunStatus(status.decode()))

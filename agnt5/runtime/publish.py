"""Publishing many Celery messages at once.

On a Redis broker with our transport a message is built from a template and all messages of a queue travel in one
LPUSH; elsewhere, or where someone listens to Celery's publishing signals or wants `task-sent` events, each goes
through Celery's own producer. Either way the message is Celery's protocol 2 in JSON, for any Celery worker.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64encode
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from celery import signals
from celery.utils.nodenames import anon_nodename
from celery.utils.saferepr import saferepr
from kombu.utils import json as kombu_json

from agnt5.runtime.transport.channel import Channel

# kombu announces types that it does not have
_coded: Any = kombu_json
#: Retries of a publish whose connection failed, as Celery's `task_publish_retry_policy` would have it.
RETRIES = 3


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One task message to send.

    `argsrepr` and `kwargsrepr` are what Flower and logs show of the arguments; `ignore_result` None leaves it to the
    task's own setting.
    """

    task_name: str
    task_id: str
    queue: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    headers: Mapping[str, Any] | None = None
    priority: int | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    retries: int = 0
    ignore_result: bool | None = None


def publish(app: Any, messages: Sequence[Outgoing]) -> None:
    """Send the messages, in order for each queue; returns when the broker has all of them.

    Raises the broker's connection errors after Celery's usual retries. A message may then have been sent, and one
    whose confirmation got lost may be sent twice, as with Celery's own publishing.
    """
    if not messages:
        return
    with app.producer_pool.acquire(block=True) as producer:
        if isinstance(_channel(producer), Channel) and not _watched(app):
            texts = _encoded(app, messages)
            try:
                _push(producer, texts)
            except producer.connection.recoverable_connection_errors:
                # prepared only now, as it costs more than publishing
                push = producer.connection.ensure(producer, _push, max_retries=RETRIES, interval_max=1)
                push(producer, texts)
        else:
            for message in messages:
                _send(app, producer, message)


async def publish_async(app: Any, messages: Sequence[Outgoing]) -> None:
    """`publish` for coroutines: the loop is not blocked, and batches keep their order."""
    await asyncio.get_running_loop().run_in_executor(_thread(), publish, app, messages)


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="agnt5-publish")


def _channel(producer: Any) -> Any:
    return producer.channel


def _push(producer: Any, texts: Mapping[tuple[str, int], Sequence[str]]) -> None:
    _channel(producer).put_many(texts)


def _watched(app: Any) -> bool:
    """Whether someone has to hear of each single message."""
    published = (signals.before_task_publish, signals.after_task_publish)
    return app.conf.task_send_sent_event or any(signal.receivers for signal in published)


def _encoded(app: Any, messages: Sequence[Outgoing]) -> dict[tuple[str, int], list[str]]:
    texts: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    origin = anon_nodename()
    default = app.conf.task_default_priority or 0
    batch = uuid.uuid4().hex
    for number, message in enumerate(messages):
        priority = default if message.priority is None else message.priority
        priority = max(0, min(9, priority))
        texts[message.queue, priority].append(encode(message, origin, priority, f"{batch}-{number:x}"))
    return texts


def encode(message: Outgoing, origin: str, priority: int, delivery_tag: str) -> str:
    """The message as kombu's Redis transport would have written it; JSON is put together from ready pieces."""
    kwargs = message.kwargs or {}
    args_text, kwargs_text = _dumps(list(message.args)), _dumps(kwargs)
    body = b64encode(f"[{args_text}, {kwargs_text}, {_NO_CANVAS}]".encode()).decode("ascii")
    task_id = quoted(message.task_id)
    return (
        f'{{"body": "{body}", "content-encoding": "utf-8", "content-type": "application/json", '
        f'"headers": {{{_HEADERS}, "task": {quoted(message.task_name)}, "id": {task_id}, '
        f'"root_id": {quoted(message.root_id) if message.root_id else task_id}, '
        f'"parent_id": {quoted(message.parent_id) if message.parent_id else "null"}, '
        f'"argsrepr": {_preview(message.argsrepr, tuple(message.args), args_text)}, '
        f'"kwargsrepr": {_preview(message.kwargsrepr, kwargs, kwargs_text)}, '
        f'"retries": {message.retries:d}, "ignore_result": {_WORD[message.ignore_result]}, '
        f'"origin": {quoted(origin)}{_extra(message.headers)}}}, '
        f'"properties": {{"correlation_id": {task_id}, "reply_to": "", "delivery_mode": 2, '
        f'"delivery_info": {{"exchange": "", "routing_key": {quoted(message.queue)}}}, '
        f'"priority": {priority:d}, "body_encoding": "base64", "delivery_tag": "{delivery_tag}"}}}}'
    )


#: JSON's words; null leaves it to the task.
_WORD = {True: "true", False: "false", None: "null"}
_NO_CANVAS = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'
#: The headers that are the same in each message.
_HEADERS = (
    '"lang": "py", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, '
    '"timelimit": [null, null], "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}'
)
#: Arguments whose JSON is longer are shown cut.
PREVIEW = 1000


def _extra(headers: Mapping[str, Any] | None) -> str:
    # a reader takes the last of two equal keys, so these win
    return f", {_dumps(dict(headers))[1:-1]}" if headers else ""


def _preview(given: str | None, value: Any, text: str) -> str:
    if given is None:
        # saferepr cuts and is slow, so only where there is something to cut
        given = repr(value) if len(text) <= PREVIEW else saferepr(value, PREVIEW)
    return quoted(given)


def _dumps(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError:
        # dates, UUIDs and the like, in kombu's notation
        text: str = _coded.dumps(value)
        return text


def _send(app: Any, producer: Any, message: Outgoing) -> None:
    app.send_task(
        message.task_name,
        args=list(message.args),
        kwargs=dict(message.kwargs or {}),
        task_id=message.task_id,
        queue=message.queue,
        producer=producer,
        serializer="json",
        headers=dict(message.headers or {}) or None,
        priority=message.priority,
        argsrepr=message.argsrepr,
        kwargsrepr=message.kwargsrepr,
        root_id=message.root_id,
        parent_id=message.parent_id,
        retries=message.retries,
        ignore_result=message.ignore_result,
    )

"""Celery's result backend over run records: `AsyncResult(run_id)` works, and nothing is stored twice."""

from __future__ import annotations

from typing import Any

from celery import states
from celery.backends.redis import RedisBackend, ResultConsumer

from agnt5 import codec
from agnt5.contracts.ids import shard_of
from agnt5.contracts.runs import RunStatus
from agnt5.store import keys

_STATES = {
    RunStatus.QUEUED: states.PENDING,
    RunStatus.RUNNING: states.STARTED,
    RunStatus.WAITING: "WAITING",
    RunStatus.COMPLETED: states.SUCCESS,
    RunStatus.FAILED: states.FAILURE,
    RunStatus.CANCELLED: states.REVOKED,
}
_DONE = keys.done_channel("").encode()


class RunResultConsumer(ResultConsumer):  # type: ignore[misc]  # Celery is untyped
    """Hears of run ends by the runs' own channel, beside Celery's for plain tasks."""

    def _consume_from(self, task_id: str) -> None:
        super()._consume_from(task_id)
        with self.reconnect_on_error():
            self._pubsub.subscribe(keys.done_channel(task_id))

    def _drain_one(self, pubsub: Any, timeout: float | None) -> bool:
        with self.reconnect_on_error():
            connection = pubsub.connection
            if not (pubsub.subscribed and connection is not None and connection.can_read(timeout=0)):
                return False
            message = pubsub.get_message(timeout=timeout)
            if message and message["type"] == "message":
                self.on_state_change(self._meta(message), message)
        return True

    def _meta(self, message: dict[str, Any]) -> Any:
        channel = message["channel"]
        channel = channel.encode() if isinstance(channel, str) else channel
        if channel.startswith(_DONE):
            return self.backend._get_task_meta_for(channel[len(_DONE) :].decode())  # noqa: SLF001
        return self._decode_result(message["data"])

    def cancel_for(self, task_id: str) -> None:
        super().cancel_for(task_id)
        if self._pubsub is not None:
            with self._locked():
                self._pubsub.unsubscribe(keys.done_channel(task_id))


class RunBackend(RedisBackend):  # type: ignore[misc]  # Celery is untyped
    """Reads run records for runs, and is Celery's own Redis backend for plain tasks."""

    ResultConsumer = RunResultConsumer

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Store a plain task's result; a run's is in its record already.

        A worker that lacks a task says so without its name: no failure of the run, which waits for one that has it.
        """
        task = getattr(request, "task", None)
        if task in self.app.agnt5.registry or (task is None and self.run_status(task_id) is not None):
            return result
        return super().store_result(task_id, result, state, traceback, request, **kwargs)

    def run_status(self, run_id: str) -> str | None:
        """A run's status, or None when there is no such run."""
        prefix = keys.prefix(shard_of(run_id, self.app.agnt5.settings.shards))
        status = self.client.hget(f"{prefix}run:{run_id}", "status")
        return None if status is None else _text(status)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        meta: dict[str, Any] = self._run_meta(task_id) or super()._get_task_meta_for(task_id)
        return meta

    def _run_meta(self, run_id: str) -> dict[str, Any] | None:
        shards = self.app.agnt5.settings.shards
        prefix = keys.prefix(shard_of(run_id, shards))
        with self.client.pipeline(transaction=False) as pipe:
            pipe.hmget(f"{prefix}run:{run_id}", "status", "handler", "ended")
            pipe.lindex(f"{prefix}log:{run_id}", -1)
            (status, handler, ended), last = pipe.execute()
        if status is None:
            return None
        state = RunStatus(_text(status))
        meta: dict[str, Any] = {
            "task_id": run_id,
            "status": _STATES[state],
            "result": None,
            "traceback": None,
            "children": [],
            "name": _text(handler),
        }
        if state.ended:
            meta["date_done"] = _text(ended)
            _add_outcome(meta, codec.loads(self.app.agnt5.sealer.open(last, run_id)), state)
        return meta


def _add_outcome(meta: dict[str, Any], event: dict[str, Any], state: RunStatus) -> None:
    if state is RunStatus.COMPLETED:
        meta["result"] = event.get("result")
        return
    error = event.get("error") or {"type": "RunCancelledError", "message": event.get("reason", "")}
    name = "RunCancelledError" if state is RunStatus.CANCELLED else "TaskFailedError"
    meta["traceback"] = error.get("traceback")
    meta["result"] = {
        "exc_type": name,
        "exc_message": [f"{error.get('type')}: {error.get('message')}"],
        "exc_module": "agnt5.contracts.errors",
    }


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value

"""Celery's remote control for runs: `revoke` cancels durably, `agnt5_runs` lists what a host keeps in memory."""

from __future__ import annotations

import logging
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker.control import Panel, control_command, inspect_command
from celery.worker.control import revoke as celery_revoke

from agnt5.contracts.errors import RunEndedError, RunNotFoundError
from agnt5.runtime.host import Host
from agnt5.runtime.pool import TaskPool

logger = logging.getLogger("agnt5.runtime")


def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **kwargs: Any) -> Any:
    """Revoke plain tasks as Celery does, and cancel runs: durably, with their children, also queued ones.

    Celery keeps revoked ids in its workers' memory only (celery#4300). A run's cancel is in its record, so that
    it holds wherever and whenever the run is taken up again; `terminate` makes no difference for it.
    """
    runtime = getattr(state.app, "agnt5", None)
    ids = [str(one) for one in maybe_list(task_id) or []]
    host = runtime.host if runtime is not None else None
    if host is None or not isinstance(state.consumer.pool, TaskPool):
        runs = _known_runs(state.app, ids) if runtime is not None else []
        if runs:
            _cancel_elsewhere(state.app, runs)
    else:
        runs = _known_runs(state.app, ids)
        for run_id in runs:
            runtime.run(_cancel(host, run_id))
    rest = [one for one in ids if one not in set(runs)]
    if not rest:
        return {"ok": f"runs {runs} are asked to end"}
    return celery_revoke(state, rest, terminate=terminate, signal=signal, **kwargs)


def _known_runs(app: Any, ids: list[str]) -> list[str]:
    backend = app.backend
    return [run_id for run_id in ids if backend.run_status(run_id) is not None]


async def _cancel(host: Host, run_id: str) -> None:
    try:
        _, out = await host.store.cancel(run_id, reason=b'"revoked"')
    except (RunNotFoundError, RunEndedError) as error:
        logger.info("revoke: %s", error)
    else:
        host.dispatcher.send(out)


def _cancel_elsewhere(app: Any, runs: list[str]) -> None:
    """On pools without a loop in the worker's main process: by a short-lived client."""
    from agnt5.runtime.remote import cancel_runs  # noqa: PLC0415 - only these pools need it

    cancel_runs(app.agnt5, runs)


@inspect_command(name="agnt5_runs", alias="dump_runs")
def runs_in_memory(state: Any, **_: Any) -> list[dict[str, Any]]:
    """Runs that this worker keeps in memory, with or without a Celery request."""
    runtime = getattr(state.app, "agnt5", None)
    host = runtime.host if runtime is not None else None
    if host is None:
        return []
    return [
        {"id": live.run_id, "name": live.handler.address, "waiting": live.waiting, "request": live.slot is not None}
        for live in list(host.live.values())
    ]


def connect() -> None:
    """Put our `revoke` in the place of Celery's."""
    if Panel.data["revoke"] is not revoke:
        control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")(revoke)

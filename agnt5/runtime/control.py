"""Celery's remote control for runs: `revoke` cancels durably, `agnt5_runs` lists what a host keeps in memory."""

from __future__ import annotations

from typing import Any

from celery.utils.functional import maybe_list
from celery.worker.control import Panel, control_command, inspect_command
from celery.worker.control import revoke as celery_revoke

from agnt5.runtime.process import Runtime
from agnt5.runtime.remote import cancel_runs


def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **kwargs: Any) -> Any:
    """Revoke plain tasks as Celery does, and cancel runs: durably, with their children, also queued ones.

    Celery keeps revoked ids in its workers' memory only (celery#4300). A run's cancel is in its record, so that
    it holds wherever and whenever the run is taken up again; `terminate` makes no difference for it.
    """
    runtime: Runtime | None = getattr(state.app, "agnt5", None)
    ids = [str(one) for one in maybe_list(task_id) or []]
    runs: list[str] = []
    if runtime is not None:
        runs = [run_id for run_id in ids if state.app.backend.run_status(run_id) is not None]
        cancel_runs(runtime, runs)
    rest = [one for one in ids if one not in set(runs)]
    if not rest:
        return {"ok": f"runs {runs} are asked to end"}
    return celery_revoke(state, rest, terminate=terminate, signal=signal, **kwargs)


@inspect_command(name="agnt5_runs", alias="dump_runs")  # type: ignore[untyped-decorator]  # Celery is untyped
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

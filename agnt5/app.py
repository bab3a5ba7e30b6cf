"""`create_app`: the Celery app of a project that uses agnt5."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.entity import Queue

from agnt5.contracts.errors import ConfigurationError
from agnt5.contracts.ids import queue_of
from agnt5.contracts.settings import Settings, mask_url
from agnt5.registry import default_registry
from agnt5.runtime import control, logs, worker
from agnt5.runtime.fastpath import use_fast_path
from agnt5.runtime.openfeature import OpenFeatureProvider
from agnt5.runtime.process import Runtime
from agnt5.runtime.tasks import register
from agnt5.secrets.known import learn
from agnt5.secrets.provider import SecretProvider

if TYPE_CHECKING:
    from openfeature.provider import FeatureProvider


def create_app(
    modules: Iterable[str] = (),
    *,
    redis_url: str | None = None,
    broker_url: str | None = None,
    name: str = "agnt5",
    stock_transport: bool = False,
    flags: FeatureProvider | Callable[[], FeatureProvider] | None = None,
    secrets: Sequence[SecretProvider] | None = None,
    **settings: Any,
) -> Celery:
    """The Celery app of a project: every handler of `modules` as a task, on agnt5's pool, transport and beat.

    `redis_url` (AGNT5_REDIS_URL) is where runs live, `broker_url` (AGNT5_BROKER_URL; by default the same) where
    Celery's messages go. `secrets` are providers of secrets beyond environment and files, asked in this order (default:
    those that AGNT5_SECRETS_PROVIDERS names). Other keyword arguments are those of `Settings`. The app is a plain
    `celery.Celery`: add tasks, change `app.conf`, choose another pool with `-P`. Opens no connection.

    `flags` is an OpenFeature provider (or a function that makes one, in each process): `ctx.config()` asks it for what
    is not set in Redis, before the environment.

    Raises `ConfigurationError` that names the module which cannot be imported, or the setting that is wrong.
    """
    given = {"redis_url": redis_url, "broker_url": broker_url, **settings}
    chosen = Settings.from_env(**{key: value for key, value in given.items() if value is not None})
    for module in modules:
        _load(module)
    broker = chosen.broker_url or chosen.redis_url
    app = Celery(name)
    learn(chosen)
    provider = None if flags is None else functools.partial(OpenFeatureProvider, flags)
    runtime = Runtime(app, chosen, default_registry(), secrets=secrets, provider=provider)
    app.agnt5 = runtime
    use_fast_path(app, broker_url=broker, stock_transport=stock_transport)
    app.loader.override_backends = {"agnt5": "agnt5.runtime.backend:RunBackend"}
    app.conf.update(
        result_backend=f"agnt5+{chosen.redis_url}",
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_track_started=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_queues=[_queue(name) for name in (*map(queue_of, runtime.registry.services), "celery")],
        task_default_queue="celery",
        task_routes=(_Route(runtime),),
        beat_scheduler="agnt5.runtime.beat:Scheduler",
        worker_log_format=logs.FORMAT,
    )
    register(app, runtime)
    worker.connect(app, runtime)
    control.connect()
    logs.connect(chosen.log_format)
    return app


def _queue(name: str) -> Queue:
    return Queue(name, routing_key=name)  # type: ignore[no-untyped-call]  # kombu is untyped


class _Route:
    """Celery's router: a handler's messages go to its service's queue."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __call__(self, name: str, *_args: Any, **_kwargs: Any) -> dict[str, str] | None:
        if name not in self._runtime.registry:
            return None
        return {"queue": queue_of(name.partition(".")[0])}


def _load(module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise ConfigurationError(
                f"create_app(modules=[..., {module!r}]): there is no module {error.name!r}; run from the project's"
                " folder, or install it"
            ) from error
        raise


__all__ = ["create_app", "mask_url"]

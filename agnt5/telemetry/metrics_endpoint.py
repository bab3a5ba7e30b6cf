"""`/metrics` of a process: where it is served, and what becomes of a port that is taken.

Nothing here stops a process: what cannot be served is told in the log, and tried again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from agnt5.contracts.settings import Settings
from agnt5.telemetry import figures
from agnt5.telemetry.metrics_table import Role

logger = logging.getLogger("agnt5.metrics")

TURN_S = 5.0
"""How often a port that was taken is tried again, and what ended children left is tidied up."""


class Endpoint:
    """One process's server of metrics, in threads of its own, until the process ends."""

    def __init__(self, ports: range, host: str, registry: Any, tidy: Callable[[], None] | None = None) -> None:
        self._ports = ports
        self._host = host
        self._registry = registry
        self._tidy = tidy
        self._server: Any = None
        self._told = False
        self._thread = threading.Thread(target=self._run, name="agnt5-metrics", daemon=True)

    def open(self) -> None:
        """Begin to serve, or to try."""
        os.register_at_fork(after_in_child=self._forked)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                if self._server is None:
                    self._bind()
                if self._tidy is not None:
                    self._tidy()
            except Exception as error:  # noqa: BLE001 - a thread that ends would never try again
                self._tell_once(f"serving metrics: {error!r}")
            time.sleep(TURN_S)

    def _bind(self) -> None:
        from prometheus_client import start_http_server  # noqa: PLC0415 - only where it is served

        refused: OSError | None = None
        for port in self._ports:
            try:
                self._server, _ = start_http_server(port, addr=self._host, registry=self._registry)
            except OSError as error:
                refused = error
            else:
                shown = f"[{self._host}]" if ":" in self._host else self._host
                logger.info("metrics are served at http://%s:%d/metrics", shown, port)
                return
        self._tell_once(
            f"metrics are not served: {self._host}, port {_shown(self._ports)}: {refused}. All else goes on, and it is"
            " tried again. Processes of one machine need a port each: set AGNT5_METRICS_PORT to a range such as"
            " 9800-9809, of which each takes the first that is free; AGNT5_METRICS_HOST is the address"
        )

    def _tell_once(self, text: str) -> None:
        if not self._told:
            self._told = True
            logger.error("%s", text)

    def _forked(self) -> None:
        """A child must not keep the port when its parent has died."""
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.socket.close()


def _shown(ports: range) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]} to {ports[-1]}"


class _Process:
    """What this process serves."""

    endpoint: Endpoint | None = None
    shared: Any = None
    pid: int = 0


def prepare(settings: Settings, role: Role, *, forks: bool = False) -> None:
    """Count the runtime's figures in this process from here on, if a port is set.

    `forks`: child processes will do the work. To be called before prometheus-client is imported, as far as that is in
    our hands, and before the first fork.
    """
    if not settings.metrics_port:
        return
    try:
        if (forks or "PROMETHEUS_MULTIPROC_DIR" in os.environ) and _Process.shared is None:
            from agnt5.telemetry.metrics_shared import SharedFolder  # noqa: PLC0415 - only with child processes

            _Process.shared = SharedFolder()
        from agnt5.telemetry.metrics_runtime import PrometheusFigures  # noqa: PLC0415 - imports prometheus-client

        counting = figures.current()
        if not isinstance(counting, PrometheusFigures):
            counting = PrometheusFigures()
        counting.add(role)
        figures.use(counting)
    except Exception:
        logger.exception("the runtime's figures are not counted; all else goes on")


def serve(settings: Settings) -> None:
    """Serve `/metrics` in this process, if a port is set: what was prepared, and what user code counts."""
    if not settings.metrics_port or (_Process.endpoint is not None and _Process.pid == os.getpid()):
        return
    shared = _Process.shared
    if shared is not None and not shared.mine:
        return  # the parent shows what its children count
    try:
        from prometheus_client import REGISTRY  # noqa: PLC0415 - only where it is served

        registry = REGISTRY if shared is None else shared.registry()
        tidy = None if shared is None else shared.tidy
        _Process.endpoint = Endpoint(settings.metrics_port, settings.metrics_host, registry, tidy)
        _Process.pid = os.getpid()
        _Process.endpoint.open()
    except Exception:
        logger.exception("metrics are not served; all else goes on")

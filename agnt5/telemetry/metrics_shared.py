"""Metrics of a worker with child processes (prefork): each child writes files, the parent shows their sum.

This is prometheus-client's multiprocess mode, in a private folder that the parent makes before it forks and removes at
its end. The files of children that ended are added to one set of files, so that replaced children
(`--max-tasks-per-child`) leave neither files nor gaps in counters.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

logger = logging.getLogger("agnt5.metrics")

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "agnt5-metrics-"
ENDED = 0
"""In place of a process id, in the names of the files that hold what ended children counted."""


class SharedFolder:
    """The parent's side of it."""

    def __init__(self) -> None:
        self.given = os.environ.get(VARIABLE)
        self._owner = os.getpid()
        self._folding = threading.Lock()
        self._lock: IO[bytes] | None = None
        if self.given:  # others may use it too: neither emptied nor tidied up
            self.path = Path(self.given)
            self.path.mkdir(parents=True, exist_ok=True)
        else:
            _sweep_leftovers()
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = _locked(self.path)
            os.environ[VARIABLE] = str(self.path)
            atexit.register(self.remove)
        _use_files()

    @property
    def mine(self) -> bool:
        """False in a forked child, which has inherited this object."""
        return os.getpid() == self._owner

    def registry(self) -> Any:
        """What is to be served."""
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - as below
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        registry = CollectorRegistry()
        registry.register(_Total(MultiProcessCollector(None, path=str(self.path)), self._folding))
        return registry

    def tidy(self) -> None:
        """Add the files of children that ended to one, and forget their live gauges."""
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - as below

        for pid in self._ended_children():
            mark_process_dead(pid, path=str(self.path))
            if not self.given:
                with self._folding:
                    for file in self.path.glob(f"*_{pid}.db"):
                        _fold(file)

    def _ended_children(self) -> list[int]:
        found = {file.stem.rpartition("_")[2] for file in self.path.glob("*.db")}
        return [int(pid) for pid in found if pid.isdigit() and int(pid) != ENDED and not _lives(int(pid))]

    def remove(self) -> None:
        """Remove the folder, where it is ours."""
        if self.mine and not self.given:
            os.environ.pop(VARIABLE, None)
            shutil.rmtree(self.path, ignore_errors=True)


class _Total:
    """The sum of all processes' files. While some are added up, a scrape would see them twice."""

    def __init__(self, files: Any, folding: threading.Lock) -> None:
        self._files = files
        self._folding = folding

    def collect(self) -> list[Any]:
        with self._folding:
            return list(self._files.collect())


def _fold(file: Path) -> None:
    """Add a file to that of ended children. Gauges keep the value that was set last."""
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - only where metrics are shared

    sort = file.stem.rpartition("_")[0]
    newest = sort.endswith("mostrecent")
    total = MmapedDict(str(file.with_name(f"{sort}_{ENDED}.db")))
    try:
        for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(file)):
            before, before_at = total.read_value(key)
            if not newest:
                total.write_value(key, before + value, 0.0)
            elif timestamp > before_at:
                total.write_value(key, value, timestamp)
    finally:
        total.close()
    file.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _use_files() -> None:
    """Have values kept in files, also where somebody has imported prometheus-client before the variable was set."""
    if "prometheus_client" not in sys.modules:
        return
    from prometheus_client import REGISTRY, values  # noqa: PLC0415 - it is imported already

    if not getattr(values.ValueClass, "_multiprocess", False):
        values.ValueClass = values.MultiProcessValue()
        apart = [one.name for one in REGISTRY.collect() if not one.name.startswith(("python_", "process_"))]
        if apart:
            logger.warning(
                "metrics %s were made before the worker could share them between its processes: each process counts"
                " them for itself, and they are not served. Set %s to an empty folder before the worker starts",
                ", ".join(apart[:5]),
                VARIABLE,
            )


def _locked(folder: Path) -> IO[bytes]:
    """A lock on the folder for as long as this process or a child of it lives."""
    import fcntl  # noqa: PLC0415 - prefork is not for Windows

    lock = (folder / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _sweep_leftovers() -> None:
    """Remove folders whose worker was killed: nobody holds their lock any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and (folder / "lock").exists():
                _locked(folder).close()
                shutil.rmtree(folder, ignore_errors=True)

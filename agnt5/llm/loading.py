"""Loads LiteLLM, which takes seconds of CPU: once in a process, on first use, in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import threading
from concurrent.futures import Future
from typing import Any

from agnt5.contracts.errors import ConfigurationError

_lock = threading.Lock()
_loading: Future[Any] | None = None
_loaded: Any = None

_LOUD = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_CHATTY = ("httpx", "httpcore", "openai")


async def litellm() -> Any:
    """The module, set up. Loops go on while it is loaded. Raises `ConfigurationError` where it is not installed."""
    if _loaded is not None:
        return _loaded
    return await asyncio.shield(asyncio.wrap_future(_begin()))


def loaded() -> Any:
    """The module where it is loaded, else None."""
    return _loaded


def _begin() -> Future[Any]:
    global _loading  # noqa: PLW0603 - one a process
    with _lock:
        if _loading is None:
            _loading = Future()
            _loading.set_running_or_notify_cancel()  # who waits may leave, the loading goes on
            threading.Thread(target=_load, args=[_loading], name="agnt5-litellm", daemon=True).start()
        return _loading


def _load(future: Future[Any]) -> None:
    global _loaded, _loading  # noqa: PLW0603
    try:
        _loaded = _imported()
    except ImportError as error:
        with _lock:
            _loading = None
        future.set_exception(
            ConfigurationError(
                f"language models need LiteLLM, which cannot be imported ({error}): pip install 'agnt5-celery[llm]'"
            )
        )
    except BaseException as error:  # noqa: BLE001 - told to who waits
        with _lock:
            _loading = None
        future.set_exception(error)
    else:
        future.set_result(_loaded)


def _imported() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it fetches prices while it is imported
    module: Any = importlib.import_module("litellm")
    module.telemetry = False
    module.suppress_debug_info = True
    module.drop_params = True
    _quiet()
    for name in ("jsonschema", "litellm.main"):  # what the first call would load on the loop
        importlib.import_module(name)
    gc.freeze()  # else each full collection goes through LiteLLM's 400,000 objects, while the loop stands still
    return module


def _quiet() -> None:
    """What LiteLLM logs of failures holds prompts, and httpx logs addresses, which hold the keys of some providers."""
    if not os.environ.get("LITELLM_LOG"):
        for name in _LOUD:
            logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in _CHATTY:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)

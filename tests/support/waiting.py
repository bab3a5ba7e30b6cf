"""Waiting in tests: for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any


async def until(predicate: Callable[[], Any], timeout: float = 5.0, what: str | Callable[[], str] = "") -> Any:
    """The first truthy value of `predicate` (a plain or an async function); fails the test after `timeout` s."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not so within {timeout:g} s: {_said(what, predicate)}")
        await asyncio.sleep(0.005)


def until_sync(predicate: Callable[[], Any], timeout: float = 5.0, what: str | Callable[[], str] = "") -> Any:
    """`until` for tests without a loop."""
    end = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > end:
            raise AssertionError(f"not so within {timeout:g} s: {_said(what, predicate)}")
        time.sleep(0.005)
    return value


def _said(what: str | Callable[[], str], predicate: Callable[[], Any]) -> str:
    if callable(what):
        return what()
    return what or inspect.getsource(predicate).strip()

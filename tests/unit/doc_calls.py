"""The calls that a page's code makes of a client: checked against its methods, and noted."""

from __future__ import annotations

import inspect
from typing import Any

from agnt5 import AsyncClient, Client


class Calls:
    """Stands for a client. Each call must fit a method of its name, and gives something with these attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.called: list[str] = []
        self._attributes = attributes

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            assert hasattr(Client, name)
            inspect.signature(getattr(AsyncClient, name)).bind(None, *args, **kwargs)
            self.called.append(name)
            return type("State", (), self._attributes)

        return call

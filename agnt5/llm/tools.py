"""A tool as a model sees it, and the check of what a model calls it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something that a model may call. `schema` is the JSON Schema of its arguments, an object.

    `handler` is what is called; the model never sees it.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    handler: Callable[..., Any] | None = None

    def spec(self) -> dict[str, Any]:
        """The tool in the form that LiteLLM takes for every provider."""
        function = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": function}

    def fault(self, arguments: Any) -> str:
        """What is wrong with a model's arguments, in words that a model can act on; empty where they fit."""
        raise NotImplementedError

"""What to say when a handler uses what its kind does not have."""

from __future__ import annotations

from agnt5.contracts.errors import WrongContextError
from agnt5.sdk.port import RunInfo

_SPAWN = "start the child with ctx.spawn(handler, ...) and await its result()"
_INSTEAD = {
    "function": {
        "task": _SPAWN,
        "patched": "functions are not replayed, so change the code as you like",
        "continue_as_new": "a function has no journal to cut; ctx.spawn(...) itself, or make it a @workflow",
    },
    "entity": {
        "task": f"{_SPAWN}, or call another entity with ctx.entity(type, key).method(...)",
        "patched": "methods of entities are not replayed, so change the code as you like",
        "continue_as_new": "a method has no journal to cut, and what lasts is the entity's state; "
        "let a workflow call it again",
    },
}
_ASK = "await ctx.entity(type, key).method(...) asks an entity"
_TELL = "await ctx.entity(type, key).method(...) has an entity change what it keeps"
_STATE = {"get": _ASK, "keys": _ASK, "state": _ASK, "set": _TELL, "delete": _TELL, "clear": _TELL}


def only_workflows(called: str, info: RunInfo) -> WrongContextError:
    """A function or a method of an entity used what only workflows have."""
    kind = "entity" if info.kind == "entity" else "function"
    return WrongContextError(f"ctx.{called} is for workflows, and {_own(info)}: {_INSTEAD[kind][called]}")


def only_entities(called: str, info: RunInfo) -> WrongContextError:
    """A function or a workflow used the state, which only methods of entities have."""
    return WrongContextError(f"ctx.{called} is for methods of entities, and {_own(info)}: {_STATE[called]}")


def _own(info: RunInfo) -> str:
    kind = "a method of an entity" if info.kind == "entity" else f"a {info.kind}"
    return f"{info.handler!r} is {kind}"

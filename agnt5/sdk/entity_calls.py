"""`ctx.entity(type, key).method(...)`: calls of entities from handlers."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.ids import entity_name, split_address
from agnt5.contracts.runs import Kind
from agnt5.registry import Handler, default_registry
from agnt5.sdk.entities import methods_of, type_name
from agnt5.sdk.handles import SpawnHandle, TaskHandle
from agnt5.sdk.orchestration import Call, call_bound

Starter = Callable[[Call, str, str], TaskHandle | SpawnHandle]
"""Starts a call of an entity, which is given as `Type/key`, under a key or none."""


class EntityMethod:
    """A method of one entity: calling it starts a call. `target` is its handler, or its address."""

    def __init__(self, target: Handler | str, entity: str, start: Starter, *, check: bool) -> None:
        self.target = target
        self.entity = entity
        self._start = start
        self._check = check
        self.__name__ = self.__qualname__ = (target if isinstance(target, str) else target.address).partition(".")[2]

    def __call__(self, *args: Any, **kwargs: Any) -> TaskHandle | SpawnHandle:
        return self._start(call_bound(self.target, args, kwargs, check=self._check), self.entity, "")

    def with_key(self, key: str, arguments: dict[str, Any]) -> TaskHandle | SpawnHandle:
        """The call that this run makes under a key: in a function the same in each attempt, in whatever order."""
        return self._start(call_bound(self.target, (), arguments, check=self._check), self.entity, key)

    def __repr__(self) -> str:
        return f"<entity {self.entity} .{self.__name__}>"


class EntityProxy:
    """One entity, as a handler sees it: its methods start calls. Any `.name(...)` that does not begin with _ is one."""

    __slots__ = ("__check", "__entity", "__start", "__type")

    def __init__(self, entity_type: Any, key: Any, start: Starter, *, check: bool) -> None:
        """`check` is whether arguments are checked by type before the call is made, or by name only."""
        self.__type = type_name(entity_type)
        self.__entity = entity_name(self.__type, key)
        self.__start = start
        self.__check = check

    def __getattr__(self, name: str) -> EntityMethod:
        if name.startswith("_"):
            # without self in the message: copy and pickle ask half-made objects
            raise AttributeError(f"an entity has no attribute {name!r}; names that begin with _ are no methods")
        return EntityMethod(method_of(self.__type, name), self.__entity, self.__start, check=self.__check)

    def __repr__(self) -> str:
        return f"<entity {self.__entity}>"


def method_of(entity_type: str, name: str) -> Handler | str:
    """A method's handler; its address where the type is not known to this process.

    Raises `InvalidInputError` that lists what there is for a method which a known type does not have.
    """
    address = f"{entity_type}.{name}"
    split_address(address)
    found = default_registry().find(address)
    if found is None:
        if methods := sorted(methods_of(entity_type)):
            close = get_close_matches(name, methods, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise InvalidInputError(
                f"entity type {entity_type!r} has no method {name!r}{hint}; it has {', '.join(methods)}"
            )
        return address
    if found.kind is not Kind.ENTITY:
        raise InvalidInputError(f"{address} is a {found.kind}, no method of an entity: {found.place}")
    return found

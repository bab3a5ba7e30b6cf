"""`entity`: how types of entities and their methods are defined."""

from __future__ import annotations

import keyword
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from agnt5.contracts.errors import ConfigurationError, InvalidInputError
from agnt5.contracts.ids import check_name
from agnt5.contracts.runs import Kind
from agnt5.registry import Handler, Mode, default_registry
from agnt5.retry import BackoffPolicy, RetryPolicy
from agnt5.sdk.decorators import build_handler, default_service, refuse_unknown
from agnt5.sdk.entity_classes import Marked, bound, check_async, in_class_body, mark, marked_methods, model_in
from agnt5.signatures import place_of

if TYPE_CHECKING:
    from pydantic import BaseModel

M = TypeVar("M", bound=Callable[..., Coroutine[Any, Any, Any]])
C = TypeVar("C", bound=type)

_TYPE = "__agnt5_entity__"


class MethodDecorator:
    """`@X.write` or `@X.read`: makes an `async def` a method, bare or with options, and gives the function back."""

    def __init__(self, mode: Mode, label: str, accept: Callable[[Callable[..., Any], Marked], None]) -> None:
        self._mode: Mode = mode
        self._label = label
        self._accept = accept

    @overload
    def __call__(self, fn: M, /) -> M: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        retries: RetryPolicy | int | None = None,
        backoff: BackoffPolicy | None = None,
        timeout: timedelta | float | None = None,
        run_timeout: timedelta | float | None = None,
        priority: int | None = None,
    ) -> Callable[[M], M]: ...
    def __call__(self, fn: Any = None, /, **options: Any) -> Any:
        """Options are those of `@function`, without `service`: the type is the service.

        Raises `ConfigurationError` where it is written when something is wrong.
        """
        refuse_unknown(self._label, Kind.ENTITY, options)

        def decorate(target: Any) -> Any:
            check_async(target, self._label)
            self._accept(target, Marked(self._mode, self._label, options))
            return target

        return decorate if fn is None else decorate(fn)

    def __repr__(self) -> str:
        return self._label


class EntityType:
    """A type of entities. `state` is the pydantic model of their state, or None.

    `write` decorates methods that may change the state: of all calls of one entity's writes, one runs at a time.
    `read` decorates methods that see the state as it was when they began and may not change it; they wait for
    nobody. `method` is `write`.
    """

    def __init__(self, name: str, state: type[BaseModel] | None = None) -> None:
        try:
            self.name = check_name(name, "entity type")
        except InvalidInputError as error:
            raise ConfigurationError(str(error)) from None
        self.state = None if state is None else check_model(state, f"entity type {name!r}")
        self.write = MethodDecorator("write", f"@{name}.write", self._accept)
        self.read = MethodDecorator("read", f"@{name}.read", self._accept)
        self.method = MethodDecorator("write", f"@{name}.method", self._accept)

    @property
    def handlers(self) -> dict[str, Handler]:
        """The type's methods that are known to this process, by name."""
        return methods_of(self.name)

    def _accept(self, fn: Callable[..., Any], marked: Marked) -> None:
        if in_class_body(fn):
            raise ConfigurationError(
                f"{place_of(fn)}: {marked.label} is for functions of a module; "
                f"in a class write @entity.{marked.mode}, and @entity above the class"
            )
        fn.__agnt5__ = self.add(fn, marked)  # type: ignore[attr-defined]

    def add(self, fn: Callable[..., Any], marked: Marked) -> Handler:
        """Register a method."""
        handler = build_handler(
            fn, Kind.ENTITY, marked.options, service=self.name, mode=marked.mode, state_model=self.state
        )
        _check_method(handler, marked.label)
        return default_registry().add(handler)

    def __repr__(self) -> str:
        return f"<EntityType {self.name}>"


class Entity:
    """What `agnt5.entity` is.

    - `ChatAgent = entity("ChatAgent", state=Model)` makes a type, whose `.write` and `.read` decorate its methods.
    - `@entity`, or `@entity(name=..., state=...)`, on a class makes it a type, named after the class. Its methods
      bear `@entity.write` or `@entity.read`; a nested `class State(BaseModel)` is its state model. Each call gets a
      fresh instance, made without arguments: what lasts belongs into the state.
    - `@entity.write` on a function of a module makes it a method of the type that is named after the module:
      `UserProfile` in `user_profile.py`.
    """

    def __init__(self) -> None:
        self.write = MethodDecorator("write", "@entity.write", _accept_bare)
        self.read = MethodDecorator("read", "@entity.read", _accept_bare)
        self.method = MethodDecorator("write", "@entity.method", _accept_bare)

    @overload
    def __call__(self, target: C, /) -> C: ...
    @overload
    def __call__(self, target: str, /, *, state: type[BaseModel] | None = None) -> EntityType: ...
    @overload
    def __call__(self, /, *, name: str | None = None, state: type[BaseModel] | None = None) -> Callable[[C], C]: ...
    def __call__(self, target: Any = None, /, *, name: str | None = None, state: type[BaseModel] | None = None) -> Any:
        """Make a type of entities. Raises `ConfigurationError` where it is written when something is wrong."""
        if isinstance(target, str) and name is None:
            return EntityType(target, state)
        if isinstance(target, type):
            return _define(target, name, state)
        if target is not None:
            raise ConfigurationError(
                f'entity: expected a class or the name of a type, as in entity("ChatAgent"), found {target!r}; '
                "functions are decorated with @entity.write or @entity.read"
            )
        return lambda cls: _define(cls, name, state)

    def __repr__(self) -> str:
        return "<agnt5.entity>"


def type_name(target: Any) -> str:
    """The name of a type of entities, given as its name, `EntityType`, or decorated class.

    Raises `InvalidInputError` for anything else.
    """
    if isinstance(target, str):
        return check_name(target, "entity type")
    found = vars(target).get(_TYPE) if isinstance(target, type) else target
    if isinstance(found, EntityType):
        return found.name
    raise InvalidInputError(
        f"{getattr(target, '__qualname__', None) or repr(target)} is no type of entities: "
        "give its name, what entity(...) returned, or a class that is decorated with @entity"
    )


def methods_of(name: str) -> dict[str, Handler]:
    """The methods of a type that are known to this process, by name."""
    return {h.name: h for h in default_registry() if h.service == name and h.kind is Kind.ENTITY}


def check_model(model: Any, where: str) -> type[BaseModel]:
    """A state model, or `ConfigurationError`: a new entity has no state, so that every field needs a default."""
    from pydantic import BaseModel, RootModel  # noqa: PLC0415 - who has a model has loaded it

    if not isinstance(model, type) or not issubclass(model, BaseModel) or issubclass(model, RootModel):
        raise ConfigurationError(
            f"{where}: state: expected a pydantic model (a subclass of BaseModel), found {model!r}"
        )
    if bare := [name for name, field in model.model_fields.items() if field.is_required()]:
        raise ConfigurationError(
            f"{where}: field {bare[0]!r} of the state model {model.__qualname__} has no default; "
            "a new entity has no state yet, so give each field one"
        )
    if model.model_config.get("extra") == "allow":
        raise ConfigurationError(
            f"{where}: the state model {model.__qualname__} allows extra fields, which would not be stored; "
            "leave extra='allow' out, and keep free keys in a field that is a dict"
        )
    return model


def _accept_bare(fn: Callable[..., Any], marked: Marked) -> None:
    """In the body of a class the class decorator does the rest."""
    if in_class_body(fn):
        mark(fn, marked)
        return
    where = place_of(fn)
    try:
        service = default_service(fn)
    except ConfigurationError:
        raise ConfigurationError(
            f"{where}: the name of the module {fn.__module__!r} makes no entity type; "
            'write X = entity("X") and decorate with @X.write'
        ) from None
    name = "".join(part[:1].upper() + part[1:] for part in service.replace("-", "_").split("_"))
    known = next(iter(methods_of(name).values()), None)
    own = EntityType(name, None if known is None else known.state_model)
    fn.__agnt5__ = own.add(fn, marked)  # type: ignore[attr-defined]


def _define(cls: type, name: str | None, state: type[BaseModel] | None) -> type:
    if not isinstance(cls, type):
        raise ConfigurationError(f"@entity(...): expected a class, found {cls!r}; functions bear @entity.write")
    where = f"{cls.__module__}.{cls.__qualname__}"
    model = model_in(cls, state, where)
    own = EntityType(cls.__name__ if name is None else name, model)
    methods = marked_methods(cls, where)
    if not methods:
        raise ConfigurationError(
            f"{where}: an entity without methods; decorate them with @entity.write or @entity.read"
        )
    for attribute, (fn, marked) in methods.items():
        handler = own.add(bound(cls, attribute, fn), marked)
        if attribute in vars(cls):
            fn.__agnt5__ = handler  # type: ignore[attr-defined]
    setattr(cls, _TYPE, own)
    return cls


def _check_method(handler: Handler, label: str) -> None:
    where, name = handler.place, handler.name
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ConfigurationError(
            f"{where}: {label}: method name {name!r}: it is called as .{name}(...), so it has to be a Python name "
            "that does not begin with _; give another one with name=..."
        )
    for other in methods_of(handler.service).values():
        if not _same_model(other.state_model, handler.state_model):
            raise ConfigurationError(
                f"{where}: entity type {handler.service!r} has {_called(handler.state_model)} here and "
                f"{_called(other.state_model)} in {other.place}; a type has one state model"
            )


def _same_model(one: type | None, other: type | None) -> bool:
    """The same class, maybe loaded again: by reload, or once as `__main__` and once by its name."""
    if one is None or other is None or one.__qualname__ != other.__qualname__:
        return one is other
    return one.__module__ == other.__module__ or _file_of(one) == _file_of(other)


def _file_of(model: type) -> str | None:
    return getattr(sys.modules.get(model.__module__), "__file__", None) or model.__module__


def _called(model: type | None) -> str:
    return "no state model" if model is None else f"the state model {model.__module__}.{model.__qualname__}"


entity = Entity()
"""Defines types of entities; see `Entity`."""

"""The state of one entity as one call of it sees and changes it: a buffer over what is committed.

Values are JSON from the moment they are set: what code does to an object after `set`, or to one that it got from
`get`, changes nothing. The object of a state model is the exception: it is looked at again when the call ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError

from agnt5 import codec
from agnt5.contracts.errors import ConfigurationError, InvalidInputError, PayloadTooLargeError, WrongContextError
from agnt5.signatures import faults

if TYPE_CHECKING:
    from pydantic import BaseModel

KEY_LIMIT = 200
"""Characters of a state key."""

_BAD_IN_KEY = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class StateBuffer:
    """What is committed of an entity's state, and on top of it what one call has written.

    `committed` is JSON by state key, `what` the entity as `Type/key`, for errors. `limit` bounds the bytes of one
    value, `total_limit` those of the whole state with its keys.

    With a `model` the keys are its fields. Each write validates the whole state at once; changes of attributes of
    `state` are validated when they are committed, so that several fields that depend on each other are changed there.
    Of an attribute's change and a `set` of the same field the later one counts; `set` renews the attribute.
    """

    def __init__(
        self,
        committed: Mapping[str, bytes],
        *,
        writable: bool,
        model: type[BaseModel] | None,
        limit: int,
        total_limit: int,
        what: str,
    ) -> None:
        self._committed = dict(committed)
        self._written: dict[str, bytes | None] = {}
        self._writable = writable
        self._limit = limit
        self._total_limit = total_limit
        self._what = what
        self._form = None if model is None else _Form(model, what)
        self._object: BaseModel | None = None
        self._loaded: dict[str, bytes] = {}
        self._checked = True

    def get(self, key: str, default: Any = None) -> Any:
        """A copy of a value in its JSON form, or `default` where the key is not set."""
        self._check_key(key)
        self._take_in()
        data = self._written[key] if key in self._written else self._committed.get(key)
        return default if data is None else codec.loads(data)

    def set(self, key: str, value: Any) -> None:
        """Write a value as it is now.

        Raises `SerializationError` for what has no JSON form, `PayloadTooLargeError` for what is over the limit,
        with a model `InvalidInputError` for what does not fit it, `WrongContextError` in a read method.
        """
        self._may_write(f"ctx.set({key!r}, ...)")
        self._check_key(key)
        data = codec.dumps(value, what=f"{self._what}: state {key!r}")
        self._check_size(key, data)
        self._take_in()
        self._apply({key: data})

    def delete(self, key: str) -> None:
        """Remove a key; nothing happens if it is not set."""
        self._may_write(f"ctx.delete({key!r})")
        self._check_key(key)
        self._take_in()
        self._apply({key: None})

    def clear(self) -> None:
        """Remove all keys."""
        self._may_write("ctx.clear()")
        self._take_in()
        self._apply(dict.fromkeys([*self._overlaid(), *self._fields()]))

    def keys(self) -> list[str]:
        """The keys that are set, sorted."""
        self._take_in()
        return sorted(self._overlaid())

    @property
    def state(self) -> Any:
        """The state as one object of the model, always the same one; fields that are not set have their defaults.

        Raises `InvalidInputError` that names the field when what is stored does not fit the model.
        """
        if self._form is None:
            raise ConfigurationError(
                f"{self._what}: ctx.state needs a model of the state, as in entity({_type_of(self._what)!r}, "
                "state=Model); without one use ctx.get and ctx.set"
            )
        if self._object is None:
            self._object = self._form.build(self._overlaid(), "the stored state")
            self._loaded = self._form.dump(self._object)
        return self._object

    def changes(self) -> tuple[dict[str, bytes], list[str]]:
        """What differs from the committed state: values by key, and the keys to remove, sorted.

        Raises `InvalidInputError` for attributes of `state` that do not fit the model, `PayloadTooLargeError` for a
        state that is over its limit, and `WrongContextError` when a read method changed an attribute.
        """
        self._settle()
        sets = {key: data for key, data in self._written.items() if data is not None}
        return sets, sorted(key for key, data in self._written.items() if data is None)

    def after(self) -> dict[str, bytes]:
        """The whole state as it is after the changes. Raises as `changes` does."""
        self._settle()
        return self._overlaid()

    def among(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Committed values of these keys, of those that are not removed: to be written once more as they are."""
        whole = self._overlaid()
        return {key: whole[key] for key in keys if key in whole}

    # ---- inside

    def _overlaid(self, more: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
        merged = {**self._committed, **self._written, **(more or {})}
        return {key: data for key, data in merged.items() if data is not None}

    def _fields(self) -> list[str]:
        return [] if self._form is None else self._form.fields

    def _apply(self, writes: Mapping[str, bytes | None]) -> None:
        """Write, with a model only if the whole state fits it then; renews the attributes of what was written."""
        if self._form is None:
            self._write(writes)
            return
        fresh = self._form.build(self._overlaid(writes), "the new state")
        normal = self._form.dump(fresh)
        self._write({key: None if data is None else normal.get(key, data) for key, data in writes.items()})
        if self._object is not None:
            self._form.copy(fresh, self._object, [key for key in writes if key in normal])
            self._loaded |= {key: normal[key] for key in writes if key in normal}

    def _write(self, writes: Mapping[str, bytes | None]) -> None:
        for key, data in writes.items():
            if self._committed.get(key) == data:
                self._written.pop(key, None)
            else:
                self._written[key] = data

    def _take_in(self) -> None:
        """Write what the code changed on the model's object since it was last looked at."""
        if self._form is None or self._object is None:
            return
        now = self._form.dump(self._object)
        changed = {key: now.get(key) for key in {**self._loaded, **now} if now.get(key) != self._loaded.get(key)}
        if not changed:
            return
        for key, data in changed.items():
            self._may_write(f"a change of ctx.state.{key}")
            self._check_size(key, data or b"")
        self._write(changed)
        self._loaded = now
        self._checked = False

    def _settle(self) -> None:
        self._take_in()
        if not self._checked and self._form is not None:
            normal = self._form.dump(self._form.build(self._overlaid(), "the new state"))
            self._write({key: normal.get(key, data) for key, data in self._written.items() if data is not None})
            self._checked = True
        self._check_total()

    # ---- checks

    def _may_write(self, called: str) -> None:
        if not self._writable:
            raise WrongContextError(
                f"{self._what}: {called}: a read method may not write; make it @{_type_of(self._what)}.write"
            )

    def _check_key(self, key: Any) -> None:
        if not isinstance(key, str) or not key:
            raise InvalidInputError(f"{self._what}: a state key is a non-empty string, found {key!r}")
        if len(key) > KEY_LIMIT:
            raise InvalidInputError(
                f"{self._what}: state key {key[:40]!r}... has {len(key)} characters, at most {KEY_LIMIT} are allowed"
            )
        if bad := _BAD_IN_KEY.search(key):
            raise InvalidInputError(f"{self._what}: state key {key!r}: the character {bad.group()!r} is not allowed")
        if self._form is not None and key not in self._form.fields:
            raise InvalidInputError(
                f"{self._what}: {key!r} is no field of the state model {self._form.name}; "
                f"there are {', '.join(self._form.fields) or 'none'}"
            )

    def _check_size(self, key: str, data: bytes) -> None:
        if len(data) > self._limit:
            raise PayloadTooLargeError(
                f"{self._what}: state {key!r} has {len(data):,} bytes of JSON, at most {self._limit:,} are allowed; "
                "keep large data in a file, object store or database and its address in the state"
            )

    def _check_total(self) -> None:
        """A state that was over the limit before (it was lowered) may shrink."""
        total, before = _size(self._overlaid()), _size(self._committed)
        if total > self._total_limit and total > before:
            raise PayloadTooLargeError(
                f"{self._what}: the whole state would have {total:,} bytes, at most {self._total_limit:,} are allowed "
                f"(before this call it had {before:,}); delete keys, or keep large data outside and its address here"
            )


class _Form:
    """A state model: builds its object from JSON by field, and writes it back."""

    def __init__(self, model: type[BaseModel], what: str) -> None:
        self._model = model
        self._what = what
        self.name = model.__qualname__
        self.fields = list(model.model_fields)

    def build(self, data: Mapping[str, bytes], called: str) -> BaseModel:
        """The object. Keys that are no fields are passed along, so that the model may read its older form."""
        from pydantic import ValidationError  # noqa: PLC0415 - loaded on first use

        parts = (codec.dumps(key, what="key") + b":" + value for key, value in data.items())
        try:
            return self._model.model_validate_json(b"{" + b",".join(parts) + b"}", by_alias=True, by_name=True)
        except ValidationError as error:
            found = faults("state", error, called)
            raise InvalidInputError(f"{self._what}: {found}; its model is {self.name}") from None

    def dump(self, state: BaseModel) -> dict[str, bytes]:
        """Its fields as JSON."""
        try:
            data = state.model_dump(mode="json", warnings=False)
        except (PydanticSerializationError, ValueError, RecursionError):
            data = state.__dict__  # the codec says which part it is
        names = [name for name in self.fields if name in data]
        return {name: codec.dumps(data[name], what=f"{self._what}: ctx.state.{name}") for name in names}

    def copy(self, source: BaseModel, target: BaseModel, names: list[str]) -> None:
        """Give `target` these fields of `source`, also where it is frozen."""
        for name in names:
            target.__dict__[name] = source.__dict__[name]


def _size(state: Mapping[str, bytes]) -> int:
    return sum(len(key.encode()) + len(data) for key, data in state.items())


def _type_of(what: str) -> str:
    """The type in `Type/key`."""
    return what.partition("/")[0].rpartition(" ")[2]

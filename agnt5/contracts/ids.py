"""Run ids, child ids, handler addresses and shards."""

from __future__ import annotations

import hashlib
import re
import uuid
from binascii import crc_hqx

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.masking import MASKER, masked

CHILD = "~"
"""Separates a child's own part from its parent's id; refused in ids that users give."""

CALL = "~@"
"""Separates an entity (`type/key`) from the part of a call's id that is its own; no child's key begins with @."""

ID_LIMIT = 200
_UNMISTAKABLE = 12
_BAD_IN_ID = re.compile(r"[\s\x00-\x1f\x7f~{}|\"\\]")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]*$")


def new_run_id() -> str:
    """A fresh run id: a random UUID, as Celery's task ids are."""
    return str(uuid.uuid4())


def check_id(value: object, what: str = "run id") -> str:
    """Return `value`, or raise `InvalidInputError` that says which character is refused."""
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what}: a non-empty string is needed, found {value!r}")
    if len(value) > ID_LIMIT:
        raise InvalidInputError(f"{what}: {len(value)} characters, at most {ID_LIMIT} are allowed: {value[:40]!r}...")
    if bad := _BAD_IN_ID.search(value):
        raise InvalidInputError(
            f"{what} {value!r}: the character {bad.group()!r} is not allowed"
            ' (no spaces, control characters or ~ { } | " \\)'
        )
    return check_open(value, what)


def check_open(value: str, what: str) -> str:
    """`value`, which will be shown and compared everywhere, unless it holds a secret: `InvalidInputError` then."""
    if (name := MASKER.secret_in(value, least=_UNMISTAKABLE)) is not None:
        raise InvalidInputError(
            f"{what} {masked(value)!r} holds the secret {name}; it is stored and shown as it is, so take another one"
        )
    return value


def root_of(run_id: str) -> str:
    """The root of the tree that a run belongs to."""
    return run_id.partition(CHILD)[0]


def parent_of(run_id: str) -> str | None:
    """The parent's id; None for a root, and for a call of an entity, whose id does not tell who called."""
    parent, found, own = run_id.rpartition(CHILD)
    return parent if found and not own.startswith(CALL[1]) else None


def first_of(run_id: str) -> str:
    """The root of the family that Celery is told of: a call of an entity is one, whoever called."""
    entity, found, rest = run_id.partition(CALL)
    return call_id(entity, rest.partition(CHILD)[0]) if found else root_of(run_id)


def child_id(parent: str, part: int | str, *, generation: int = 0, redo: int = 0) -> str:
    """A child's id: its parent's id, `~`, and its command number or key.

    A later generation (`continue_as_new`) or a redone child (a function's next attempt) is marked, so
    that no two children ever share an id: `order-17~3`, `order-17~2.3`, `order-17~item-9`, `order-17~3!1`.
    """
    own = f"{generation}.{part}" if generation else str(part)
    return f"{parent}{CHILD}{own}" + (f"!{redo}" if redo else "")


def entity_name(entity_type: str, key: str) -> str:
    """An entity as one name, `type/key`. Raises `InvalidInputError` for a type or key of the wrong form."""
    name = f"{check_name(entity_type, 'entity type')}/{check_id(key, 'entity key')}"
    if len(name) > ID_LIMIT:
        raise InvalidInputError(
            f"entity {name[:40]!r}...: type and key have {len(name)} characters, at most {ID_LIMIT}"
        )
    return name


def call_id(entity: str, operation: str) -> str:
    """The run id of a call of an entity, `Counter/c-1~@3f9a`: it lives in the entity's shard."""
    return f"{entity}{CALL}{operation}"


def call_operation(caller: str, generation: int, place: str) -> str:
    """The own part of the id of a call that a run makes: the same for the same place of the same run."""
    return hashlib.blake2b(f"{caller}#{generation}.{place}".encode(), digest_size=8).hexdigest()


def entity_of(run_id: str) -> str | None:
    """The entity that a run is a call of, or None: children of a call are ordinary runs."""
    entity, found, own = run_id.partition(CALL)
    return entity if found and CHILD not in own else None


def shard_of(run_id: str, shards: int) -> int:
    """The shard that holds a run's whole tree. CRC16 (XMODEM), as Redis Cluster uses for slots."""
    return crc_hqx(root_of(run_id).encode(), 0) % shards


def split_address(address: str) -> tuple[str, str]:
    """`service.handler` as its two parts; raises `InvalidInputError` for any other form."""
    service, dot, name = address.partition(".")
    if not dot or not _NAME.match(service) or not _NAME.match(name):
        raise InvalidInputError(f"handler address {address!r}: expected 'service.handler', for example 'orders.fulfil'")
    return service, name


def check_name(value: object, what: str) -> str:
    """Return a service or handler name, or raise `InvalidInputError` with the rule."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise InvalidInputError(f"{what} {value!r}: letters, digits, _ and - are allowed, and a letter or _ first")
    return value


def queue_of(service: str) -> str:
    """The Celery queue of a service."""
    return f"agnt5.{service}"

"""Values of users, sealed on their way into the store and opened on their way out of it.

Where: the store's verbs seal (`Store`), whoever reads raw entries opens; journal, machine, codec and limits see plain
JSON only. What: each field of an event that is not in `CLEAR`, ends of runs, chunks, entity state, `trouble`.
Form: `{"$sealed": "<key id>.<base64>"}`, a JSON value in the place of the value, so that Lua and other readers go on
with opaque JSON. The blank behind the colon tells it from any value of a user: the codec writes compact JSON, and
inside of text a quote is escaped, so that no value needs an escape and none is opened that was not sealed here.
Bound to a place, which is no secret: the run tree, because scripts copy ends from children to parents and nothing
else between runs; of an entity's state the entity and the key. A ciphertext that was moved elsewhere does not open.
Kept in clear: what scripts, indexes and doctors need to know. Without a codec bytes pass through unchanged.
Errors leave a run untouched: a worker parks it until a worker starts that has the key.
"""

from __future__ import annotations

import hashlib
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from pydantic_core import from_json, to_json

from agnt5.contracts.errors import SealedPayloadError
from agnt5.contracts.ids import first_of

MARK = b'{"$sealed": "'
"""How a sealed value begins, and nothing else that the store holds."""

CLEAR = frozenset(
    {
        "approver", "assignees", "at", "attempt", "change", "deadline", "decision", "due_ms", "e", "generation",
        "handler", "headers", "holds", "host", "id", "kind", "name", "op", "parent", "priority", "queue", "quorum",
        "requester", "required_roles", "retry_at_ms", "root", "self_approval", "seq", "took_ms", "target",
        "traceparent", "why",
    }
)  # fmt: skip
"""Fields of journal entries that are never sealed. All others are, also those that a later release adds."""

Opened = Callable[[bytes, str], bytes]
"""What opens a sealed entry of a run."""

GROWTH = 4 / 3
"""How much longer a sealed value is than a plain one."""

_END = b'"}'
_VERSION = b"agnt5 payload v1\0"
_SETTINGS = "AGNT5_PAYLOAD_KEYS (or AGNT5_PAYLOAD_KEYS_FILE, or the payload_codec)"


class PayloadCodec(Protocol):
    """What seals and opens. Called on event loops, thousands of times a second: it must not wait for a network.

    For a key service: let it wrap a data key at start, and use that here. Key ids have letters, digits, `_` and `-`.
    """

    @property
    def key_id(self) -> str:
        """The key that seals now."""

    def seal(self, plain: bytes, place: bytes) -> tuple[str, bytes]:
        """The id of the key, and the ciphertext. `place` is associated data: to be authenticated, not stored."""

    def open(self, key_id: str, sealed: bytes, place: bytes) -> bytes:
        """The plain bytes. Raises `KeyError` for a key that is not known, `ValueError` for what does not fit."""

    def digests(self, data: bytes) -> Sequence[str]:
        """Keyed digests, each as `<key id>:<text>`: that of the key which seals now, then those of the older keys."""


class Sealer:
    """Seals and opens for one process. Without a codec it passes on what is plain and refuses what is sealed."""

    def __init__(self, codec: PayloadCodec | None = None) -> None:
        self.codec = codec

    # ---- sealing

    def value(self, data: bytes, run_id: str) -> bytes:
        """The JSON of one value of a run."""
        return data if self.codec is None else self._seal(data, _tree(run_id))

    def values(self, data: Iterable[bytes], run_id: str) -> list[bytes]:
        """The JSON of several values of a run."""
        return list(data) if self.codec is None else [self.value(one, run_id) for one in data]

    def body(self, data: bytes, run_id: str) -> bytes:
        """A journal body: all of its fields that are not in `CLEAR`."""
        if self.codec is None:
            return data
        event = from_json(data)
        secret = [name for name in event if name not in CLEAR]
        if not secret:
            return data
        place = _tree(run_id)
        members = [b',"%s":%s' % (name.encode(), self._seal(to_json(event.pop(name)), place)) for name in secret]
        return to_json(event)[:-1] + b"".join(members) + b"}"

    def bodies(self, data: Iterable[bytes], run_id: str) -> list[bytes]:
        """Several journal bodies."""
        return list(data) if self.codec is None else [self.body(one, run_id) for one in data]

    def members(self, data: bytes, run_id: str) -> bytes:
        """Members of a JSON object with a comma before each, as scripts add them to an entry."""
        if self.codec is None:
            return data
        sealed = self.body(b"{" + data[1:] + b"}", run_id)[1:-1]
        return sealed if sealed.startswith(b",") else b"," + sealed

    def state(self, data: bytes, entity: str, key: str) -> bytes:
        """The JSON of one value of an entity's state."""
        return data if self.codec is None else self._seal(data, _state(entity, key))

    def line(self, data: bytes, run_id: str) -> bytes:
        """A log line that is kept with a run: all but the place before its bar."""
        if self.codec is None:
            return data
        place, bar, told = data.partition(b"|")
        return place + bar + self._seal(told, _tree(run_id))

    def _seal(self, data: bytes, place: bytes) -> bytes:
        assert self.codec is not None
        key_id, sealed = self.codec.seal(data, place)
        return b'{"$sealed": "%s.%s"}' % (key_id.encode(), b2a_base64(sealed, newline=False))

    def text(self, text: str, run_id: str) -> str:
        """Text of a run's record."""
        return text if self.codec is None else self.value(to_json(text), run_id).decode()

    # ---- opening

    def open(self, data: bytes, run_id: str) -> bytes:
        """An entry, a value or a chunk of a run as it was before it was sealed. Raises `SealedPayloadError`."""
        return self._open(data, _tree(run_id), f"run {run_id}") if is_sealed(data) else data

    def open_state(self, data: bytes, entity: str, key: str) -> bytes:
        """A value of an entity's state as it was before it was sealed. Raises `SealedPayloadError`."""
        if not is_sealed(data):
            return data
        return self._open(data, _state(entity, key), f"entity {entity}, state {key!r}")

    def shown(self, data: bytes, run_id: str) -> bytes:
        """`open` for lists: what cannot be opened becomes text that says so, and the rest is told."""
        try:
            return self.open(data, run_id)
        except SealedPayloadError:
            return _covered(data)

    def shown_state(self, data: bytes, entity: str, key: str) -> bytes:
        """`open_state` for lists."""
        try:
            return self.open_state(data, entity, key)
        except SealedPayloadError:
            return _covered(data)

    def shown_text(self, text: str, run_id: str) -> str:
        """What `text` sealed, as `shown` does it."""
        data = text.encode()
        return str(from_json(self.shown(data, run_id))) if data.startswith(MARK) else text

    def _open(self, data: bytes, place: bytes, where: str) -> bytes:
        parts, at = [], 0
        for start, end, key_id, text in _sealed_in(data):
            parts += [data[at:start], self._unseal(key_id, text, place, where)]
            at = end
        return b"".join([*parts, data[at:]])

    def _unseal(self, key_id: str, text: bytes, place: bytes, where: str) -> bytes:
        if self.codec is None:
            raise _unknown(key_id, where)
        try:
            return self.codec.open(key_id, a2b_base64(text, strict_mode=True), place)
        except KeyError:
            raise _unknown(key_id, where) from None
        except (ValueError, Base64Error):
            raise SealedPayloadError(
                f"{where}: a value sealed with key {key_id!r} does not open: it was changed, or brought here from"
                " another place, or another key has this id; restore the store from a backup, or set the right key in "
                + _SETTINGS,
                key_id=key_id,
            ) from None

    # ---- keys

    def is_stale(self, data: bytes) -> bool:
        """Whether a stored value is to be sealed anew: it is plain, or an older key sealed it."""
        return self.codec is not None and key_ids(data) != {self.codec.key_id}

    def digest(self, data: bytes) -> str:
        """What tells whether a run was started with the input `data`: keyed, so that nobody else can try inputs."""
        return hashlib.blake2b(data, digest_size=8).hexdigest() if self.codec is None else self.codec.digests(data)[0]

    def knows(self, digest: str, data: bytes) -> bool:
        """Whether `digest` is one of `data`, made with any key or without one.

        Raises `SealedPayloadError` where a key made the digest that is not known here.
        """
        key_id, keyed, _ = digest.partition(":")
        if not keyed:
            return digest == hashlib.blake2b(data, digest_size=8).hexdigest()
        known = [] if self.codec is None else list(self.codec.digests(data))
        if not any(one.startswith(f"{key_id}:") for one in known):
            raise _unknown(key_id, "the input of the run that has this id")
        return digest in known


def key_ids(data: bytes) -> set[str]:
    """The ids of the keys that sealed what is in `data`."""
    return {key_id for _, _, key_id, _ in _sealed_in(data)} if is_sealed(data) else set()


def is_sealed(data: bytes) -> bool:
    """Whether there is a sealed value in `data`. The rare character is looked for first: that costs next to nothing."""
    return b"$" in data and MARK in data


def in_clear(entry: bytes) -> bool:
    """Whether a journal entry, as it is stored, has a user's value in clear."""
    return not is_sealed(entry) and any(name not in CLEAR for name in from_json(entry))


def _sealed_in(data: bytes) -> Iterator[tuple[int, int, str, bytes]]:
    """The sealed values in `data`: where each begins and ends, its key's id, its base64."""
    end = 0
    while (start := data.find(MARK, end)) >= 0:
        close = data.find(_END, start)
        end = len(data) if close < 0 else close + len(_END)
        key_id, _, text = data[start + len(MARK) : close].partition(b".")
        yield start, end, key_id.decode(errors="replace"), text


def _covered(data: bytes) -> bytes:
    """`data` with text in the place of sealed values, which says so."""
    parts, at = [], 0
    for start, end, key_id, _ in _sealed_in(data):
        parts += [data[at:start], to_json(f"(sealed with key {key_id})")]
        at = end
    return b"".join([*parts, data[at:]])


def _unknown(key_id: str, where: str) -> SealedPayloadError:
    return SealedPayloadError(
        f"{where}: a value is sealed with key {key_id!r}, which this process does not have; add it to {_SETTINGS}",
        key_id=key_id,
    )


def _tree(run_id: str) -> bytes:
    return _VERSION + b"run\0" + first_of(run_id).encode()


def _state(entity: str, key: str) -> bytes:
    return _VERSION + b"state\0" + entity.encode() + b"\0" + key.encode()

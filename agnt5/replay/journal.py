"""Events as bytes and back, and the command events that record commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from agnt5.contracts.approvals import ApprovalTerms
from agnt5.contracts.errors import Agnt5Error, SerializationError
from agnt5.contracts.masking import masked_json
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev

KINDS: dict[str, type[ev.Event]] = {
    name: kind
    for name, kind in vars(ev).items()
    if isinstance(kind, type) and issubclass(kind, ev.Event) and kind is not ev.Event
}
"""Every event class by the name that stands in the journal."""

_FIELDS: dict[type[ev.Event], tuple[tuple[str, Any], ...]] = {
    kind: tuple(
        (field.name, field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default)
        for field in dataclasses.fields(kind)
        if field.name != "at"
    )
    for kind in KINDS.values()
}


_GIVEN = frozenset({"input", "headers", "options", "result", "error", "payload", "form", "comment", "data", "reason"})
"""Fields that users fill. The others say what an event is about and are compared with what the code asks."""


def encode(event: ev.Event, what: str = "") -> bytes:
    """An event as one JSON object, without `at`: the store writes `{"at":<ms>,` + `body[1:]`.

    Known secrets are masked in what users gave; the warning of that calls the value `what`.

    Fields with their default value are left out. Raises `SerializationError` for a value without JSON form.
    """
    fields = _FIELDS.get(type(event))
    if fields is None:
        raise Agnt5Error(f"{event!r} is no event of a journal")
    body: dict[str, Any] = {"e": type(event).__name__}
    for name, default in fields:
        value = getattr(event, name)
        if value is not default and value != default:
            body[name] = value
    try:
        return masked_json(to_json(body), what or type(event).__name__, only=_GIVEN)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise SerializationError(f"{type(event).__name__}: a value of it has no JSON form: {error}") from None


def decode(entry: bytes | str) -> ev.Event:
    """A journal entry as its event; `Agnt5Error` says what is wrong with one that cannot be read."""
    try:
        body = from_json(entry)
        kind = KINDS[body.pop("e")]
        return kind(**body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(entry, error) from None


def event_of(command: cmd.Command) -> ev.Event | None:
    """The event that records a command; None for those that are not journaled when they are asked."""
    make = _RECORDS.get(type(command))
    return None if make is None else make(command)


def encode_command(command: cmd.Command) -> bytes | None:
    """`encode(event_of(command))`, or None."""
    event = event_of(command)
    return None if event is None else encode(event)


def terms_data(terms: ApprovalTerms) -> dict[str, Any]:
    """The terms of an approval as fields of the event that records it."""
    return {name: getattr(terms, name) for name in _TERMS}


def terms_of(event: ev.ApprovalRequested) -> ApprovalTerms:
    """The terms that an event records."""
    return ApprovalTerms(**{name: getattr(event, name) for name in _TERMS})


_TERMS = tuple(item.name for item in dataclasses.fields(ApprovalTerms))

_RECORDS: dict[type[cmd.Command], Callable[[Any], ev.Event]] = {
    cmd.StartTask: lambda c: ev.TaskScheduled(seq=c.seq, handler=c.handler, id=c.id),
    cmd.CancelTask: lambda c: ev.TaskCancelRequested(seq=c.seq, target=c.target),
    cmd.StartTimer: lambda c: ev.TimerStarted(seq=c.seq, due_ms=c.due_ms, name=c.name),
    cmd.AwaitSignal: lambda c: ev.SignalAwaited(seq=c.seq, name=c.name),
    cmd.EmitSignal: lambda c: ev.SignalEmitted(seq=c.seq, name=c.name, target=c.target, payload=c.payload),
    cmd.RequestApproval: lambda c: ev.ApprovalRequested(seq=c.seq, **terms_data(c.terms)),
    cmd.MarkPatch: lambda c: ev.PatchMarked(seq=c.seq, change=c.change),
    cmd.RecordConfig: lambda c: ev.ConfigRead(seq=c.seq, key=c.key, value=c.value, unit=c.unit),
}


def _unreadable(entry: bytes | str, error: Exception) -> Agnt5Error:
    text = entry if isinstance(entry, str) else bytes(entry).decode(errors="replace")
    shown = text[:120] + ("..." if len(text) > 120 else "")  # noqa: PLR2004
    try:
        body = from_json(entry)
    except ValueError:
        return Agnt5Error(f"journal entry {shown!r}: no JSON ({error})")
    if not isinstance(body, dict):
        return Agnt5Error(f"journal entry {shown!r}: a JSON object is needed")
    name = body.get("e")
    if not isinstance(name, str) or name not in KINDS:
        return Agnt5Error(
            f"journal entry {shown!r}: {name!r} is no event of this release; a newer one may have written it"
        )
    known = {field.name: field for field in dataclasses.fields(KINDS[name])}
    if unknown := sorted(set(body) - set(known) - {"e"}):
        return Agnt5Error(f"journal entry {shown!r}: {name} has no field {', '.join(unknown)} in this release")
    missing = [
        key
        for key, field in known.items()
        if key not in body and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return Agnt5Error(f"journal entry {shown!r}: {name} needs {', '.join(missing)}")

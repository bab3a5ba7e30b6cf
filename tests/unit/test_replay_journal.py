"""Journal entries as bytes."""

from __future__ import annotations

import pytest

from agnt5.contracts.errors import Agnt5Error, SerializationError
from agnt5.replay import commands as cmd
from agnt5.replay import events as ev
from agnt5.replay.journal import KINDS, decode, encode, encode_command, event_of


def stored(event: ev.Event, at: int = 7) -> bytes:
    """What the store makes of an encoded event."""
    return b'{"at":%d,' % at + encode(event)[1:]


def test_fields_with_their_default_are_left_out_and_at_is_the_stores():
    assert encode(ev.TaskCompleted(at=9, seq=3)) == b'{"e":"TaskCompleted","seq":3}'
    assert decode(stored(ev.TaskCompleted(seq=3))) == ev.TaskCompleted(at=7, seq=3)
    assert decode('{"at":7,"e":"HostLost"}') == ev.HostLost(at=7)


@pytest.mark.parametrize("result", [0, False, "", [], {}, 0.0, None, 2**70, -1.5, "ü\u2028", {"a": [1, None]}])
def test_values_come_back_as_they_were(result):
    back = decode(stored(ev.TaskCompleted(seq=1, result=result))).result
    assert back == result
    assert type(back) is type(result)


def test_a_dict_that_is_a_default_is_not_shared():
    one, two = decode(stored(ev.RunStarted(handler="a.b", kind="workflow"))), ev.RunStarted(handler="a.b", kind="x")
    assert one.headers == {} == two.headers
    assert one.headers is not two.headers


@pytest.mark.parametrize("value", [object(), "\ud800", {1, object()}])
def test_a_value_without_json_form_is_refused(value):
    with pytest.raises(SerializationError, match="StepCompleted: a value of it has no JSON form"):
        encode(ev.StepCompleted(seq=1, name="s", result=value))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (b"{", "no JSON"),
        (b"[1]", "a JSON object is needed"),
        (b'{"at":1}', "None is no event of this release"),
        (b'{"e":"TaskVanished","seq":1}', "'TaskVanished' is no event of this release; a newer one"),
        (b'{"e":"Event"}', "'Event' is no event"),
        (b'{"e":["TaskFailed"]}', "is no event of this release"),
        (b'{"e":"TaskFailed","seq":1}', "TaskFailed needs error"),
        (b'{"e":"TaskFailed"}', "TaskFailed needs seq, error"),
        (b'{"e":"TimerFired","seq":1,"color":2}', "TimerFired has no field color"),
    ],
)
def test_what_cannot_be_read_is_told(entry, message):
    with pytest.raises(Agnt5Error, match=message):
        decode(entry)


def test_every_event_class_has_a_name_in_the_journal():
    assert len(KINDS) == 28
    assert all(kind.__name__ == name for name, kind in KINDS.items())
    with pytest.raises(Agnt5Error, match="no event of a journal"):
        encode(ev.Event())


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (
            cmd.StartTask(seq=1, handler="a.b", id="r~1", input={"big": 1}),
            ev.TaskScheduled(seq=1, handler="a.b", id="r~1"),
        ),
        (cmd.CancelTask(seq=2, target=1, id="r~1"), ev.TaskCancelRequested(seq=2, target=1)),
        (cmd.StartTimer(seq=3, due_ms=5, name="n"), ev.TimerStarted(seq=3, due_ms=5, name="n")),
        (cmd.AwaitSignal(seq=4, name="n"), ev.SignalAwaited(seq=4, name="n")),
        (
            cmd.EmitSignal(seq=5, name="n", target="t", payload=[1]),
            ev.SignalEmitted(seq=5, name="n", target="t", payload=[1]),
        ),
        (cmd.MarkPatch(seq=6, change="c"), ev.PatchMarked(seq=6, change="c")),
        (
            cmd.RecordConfig(seq=8, key="k", value=[1], unit="u"),
            ev.ConfigRead(seq=8, key="k", value=[1], unit="u"),
        ),
        (cmd.CancelTimer(seq=3), None),
        (cmd.RunStep(seq=7, name="s", fn=int), None),
        (cmd.CancelStep(seq=7), None),
    ],
)
def test_each_command_has_its_event_or_none(command, event):
    assert event_of(command) == event
    assert encode_command(command) == (None if event is None else encode(event))


def test_every_command_is_decided():
    kinds = {k for k in vars(cmd).values() if isinstance(k, type) and issubclass(k, cmd.Command) and k != cmd.Command}
    assert len(kinds) == 12

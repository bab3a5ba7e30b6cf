"""Sealed values: any value comes back, nothing of it shows, and what was changed or moved does not open."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnt5 import codec
from agnt5.app import create_app
from agnt5.contracts.errors import ConfigurationError, SealedPayloadError
from agnt5.contracts.settings import Settings
from agnt5.payload_keys import AesGcmCodec, sealer_of
from agnt5.replay import journal
from agnt5.replay.events import RunStarted, SignalReceived, StepCompleted, TaskFailed
from agnt5.sealing import CLEAR, MARK, Sealer, key_ids

OLD, NEW = os.urandom(32), os.urandom(32)
SEALER = Sealer(AesGcmCodec({"k2": NEW, "k1": OLD}))
BEFORE = Sealer(AesGcmCodec({"k1": OLD}))

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
        st.characters(exclude_categories=["Cs"])
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        TEXTS | st.sampled_from(["$sealed", "e"]), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip
LOOKALIKES: list[Any] = [
    {"$sealed": "k2.AAAA"},
    {"$sealed": "k9.AAAA"},
    [{"$sealed": "k2.AAAA"}],
    '{"$sealed": "k2.AAAA"}',
    '"}{"$sealed": "k2.AAAA"}',
    {'{"$sealed": "k2.AAAA"}': '{"$sealed": "k2.AAAA"}'},
    "\\" + '{"$sealed": "k2.AAAA"}',
]


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


# ---- values


@given(VALUES)
def test_any_value_comes_back_and_its_text_does_not_show(value):
    body = journal.encode(StepCompleted(seq=7, name="s", result={"secret-member": value}, took_ms=3))
    sealed = SEALER.body(body, "r~1")
    assert b"secret-member" not in sealed
    assert SEALER.open(sealed, "r~1") != sealed
    assert journal.decode(b'{"at":5,' + SEALER.open(sealed, "r")[1:]) == journal.decode(b'{"at":5,' + body[1:])
    data = codec.dumps(value, what="value")
    assert SEALER.open(SEALER.value(data, "r"), "r") == data
    assert codec.loads(SEALER.value(data, "r")).keys() == {"$sealed"}


@pytest.mark.parametrize("value", LOOKALIKES)
def test_a_value_that_looks_sealed_is_a_value(value):
    data = codec.dumps(value, what="value")
    assert MARK not in data
    for sealer in (SEALER, Sealer()):
        stored = sealer.body(journal.encode(SignalReceived(name="n", payload=value)), "r")
        assert journal.decode(sealer.open(stored, "r")).payload == value


@pytest.mark.parametrize("value", LOOKALIKES)
def test_a_value_that_was_written_without_keys_is_read_with_them(value):
    body = journal.encode(SignalReceived(name="n", payload=value))
    assert SEALER.open(body, "r") == body


def test_deep_values_and_long_numbers_come_back():
    deep: Any = 10**4000
    for _ in range(140):
        deep = [deep]
    body = journal.encode(StepCompleted(seq=1, name="s", result=deep))
    assert journal.decode(SEALER.open(SEALER.body(body, "r"), "r")).result == deep


def test_two_seals_of_one_value_differ():
    assert SEALER.value(b'"yes"', "r") != SEALER.value(b'"yes"', "r")


def test_what_has_nothing_of_a_user_is_not_touched():
    body = b'{"e":"TimerStarted","seq":1,"due_ms":5,"name":"t"}'
    assert SEALER.body(body, "r") is body


def test_each_field_of_an_event_is_known_to_be_clear_or_not():
    sealed = {"comment", "data", "error", "form", "input", "key", "options", "payload", "reason", "result"}
    sealed |= {"unit", "value"}
    fields = {item.name for kind in journal.KINDS.values() for item in dataclasses.fields(kind)}
    assert fields - CLEAR == sealed, "a field is new: is it a user's value, or does a script or a doctor need it?"


def test_text_in_options_is_sealed():
    body = journal.encode(RunStarted(handler="s.h", kind="function", options={"refusal": "card: found '4111'"}))
    assert b"4111" not in SEALER.body(body, "r")


def test_members_are_sealed_one_by_one():
    sealed = SEALER.members(b',"comment":"fine","data":{"a":1}', "r")
    assert sealed.startswith(b',"comment":{')
    assert b"fine" not in sealed
    whole = SEALER.open(b'{"e":"ApprovalDecided","seq":1,"approver":"ann","decision":"approved"' + sealed + b"}", "r")
    assert json.loads(whole)["data"] == {"a": 1}


def test_a_kept_log_line_is_sealed_behind_its_place():
    line = b'w1.000000007|{"level":"INFO","message":"card 4111"}'
    sealed = SEALER.line(line, "r")
    assert sealed.startswith(b'w1.000000007|{"$sealed": "')
    assert b"4111" not in sealed
    assert SEALER.open(sealed, "r") == line
    assert key_ids(sealed) == {SEALER.codec.key_id}
    assert Sealer().line(line, "r") is line


# ---- places


def test_scripts_copy_ends_between_the_runs_of_a_tree_and_nowhere_else():
    end = SEALER.value(b'{"n":1}', "order-1~3.2~item")
    assert SEALER.open(b'{"e":"TaskCompleted","seq":3,"result":' + end + b"}", "order-1").endswith(b'{"n":1}}')
    with pytest.raises(SealedPayloadError, match="run order-2: .*'k2'.*another place"):
        SEALER.open(end, "order-2")
    call = SEALER.value(b"1", "Counter/c~@op")
    assert SEALER.open(call, "Counter/c~@op~1") == b"1"
    with pytest.raises(SealedPayloadError):
        SEALER.open(call, "Counter/c~@other")


def test_a_value_of_a_state_opens_at_its_own_key_only():
    sealed = SEALER.state(b"100", "Account/a", "balance")
    assert SEALER.open_state(sealed, "Account/a", "balance") == b"100"
    for entity, name in (("Account/b", "balance"), ("Account/a", "limit")):
        with pytest.raises(SealedPayloadError, match="does not open"):
            SEALER.open_state(sealed, entity, name)
    with pytest.raises(SealedPayloadError):
        SEALER.open(sealed, "Account/a~@op")


def test_no_byte_of_a_sealed_value_can_be_changed():
    sealed = SEALER.value(b'"yes"', "r")
    text = sealed[len(MARK) + 3 : -2]
    raw = base64.b64decode(text)
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(SealedPayloadError, match="does not open") as caught:
            SEALER.open(sealed.replace(text, base64.b64encode(changed)), "r")
        assert caught.value.key_id == "k2"


@pytest.mark.parametrize("token", [b'"k2.!!"', b'"k2."', b'"k2"', b'""', b'"k2.AAAA', b'"k2.A"', b'"k2.AAAA=="'])
def test_a_cut_value_is_an_error_and_never_a_users_dict(token):
    with pytest.raises(SealedPayloadError):
        SEALER.open(b'{"e":"RunCompleted","result":{"$sealed": ' + token + b"}}", "r")


def test_lists_say_what_they_cannot_open():
    entry = SEALER.body(journal.encode(TaskFailed(seq=1, error={"type": "E", "message": "m"})), "r")
    assert json.loads(BEFORE.shown(entry, "r"))["error"] == "(sealed with key k2)"
    assert Sealer().shown_text(SEALER.text("why", "r"), "r") == "(sealed with key k2)"
    assert SEALER.shown_text(SEALER.text("why", "r"), "r") == "why"
    assert SEALER.shown_text("as it was", "r") == "as it was"
    assert json.loads(Sealer().shown_state(SEALER.state(b"1", "A/b", "k"), "A/b", "k")) == "(sealed with key k2)"


# ---- keys


def test_the_first_key_seals_and_all_of_them_open():
    earlier = BEFORE.value(b"1", "r")
    assert SEALER.open(earlier, "r") == b"1"
    assert key_ids(SEALER.value(b"1", "r") + earlier) == {"k1", "k2"}
    assert (SEALER.is_stale(earlier), SEALER.is_stale(b"1"), SEALER.is_stale(SEALER.value(b"1", "r"))) == (1, 1, 0)
    assert not Sealer().is_stale(b"1")


@pytest.mark.parametrize("sealer", [BEFORE, Sealer()])
def test_a_missing_key_is_named_with_its_setting(sealer):
    with pytest.raises(
        SealedPayloadError, match="run r: .*'k2', which this process does not have.*AGNT5_PAYLOAD_KEYS"
    ) as got:
        sealer.open(SEALER.value(b"1", "r"), "r")
    assert got.value.key_id == "k2"


def test_another_key_of_the_same_id_does_not_open():
    wrong = Sealer(AesGcmCodec({"k2": OLD}))
    with pytest.raises(SealedPayloadError, match="another key has this id"):
        wrong.open(SEALER.value(b"1", "r"), "r")


def test_the_digest_of_a_start_tells_nothing_without_the_key_and_outlives_rotation():
    plain = hashlib.blake2b(b'"yes"', digest_size=8).hexdigest()
    earlier, now = BEFORE.digest(b'"yes"'), SEALER.digest(b'"yes"')
    assert plain not in earlier + now
    assert earlier.partition(":")[2] != hashlib.blake2b(b'"yes"', key=OLD, digest_size=16).hexdigest()
    assert all(SEALER.knows(digest, b'"yes"') for digest in (earlier, now, plain))
    assert not any(SEALER.knows(digest, b'"no"') for digest in (earlier, now, plain))
    assert Sealer().digest(b'"yes"') == plain
    with pytest.raises(SealedPayloadError, match="'k2'"):
        BEFORE.knows(now, b'"yes"')


# ---- settings


def test_keys_come_from_a_variable_or_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"k3:{key(3)}\n\nk1:{key(1)}\n")
    both = sealer_of(Settings.from_env({"AGNT5_PAYLOAD_KEYS": f"k2:{key(2)}", "AGNT5_PAYLOAD_KEYS_FILE": str(file)}))
    assert both.codec is not None
    assert both.codec.key_id == "k2"
    assert [one.partition(":")[0] for one in both.codec.digests(b"")] == ["k2", "k3", "k1"]
    alone = sealer_of(Settings.from_env({"AGNT5_PAYLOAD_KEYS_FILE": str(file)}))
    assert alone.codec is not None
    assert alone.codec.key_id == "k3"
    assert sealer_of(Settings()).codec is None


def test_urlsafe_base64_is_read_as_well():
    raw = bytes(range(224, 256))
    text = base64.urlsafe_b64encode(raw).decode()
    assert Settings.from_env({}, payload_keys=f"k:{text}").payload_keys == (("k", raw),)


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("SECRETSECRET", "key 1: an id of its own"),
        (f"k1:{key(1)},k1:{key(2)}", "key 2: an id of its own"),
        ("k1:SECRET!SECRET", r"key 1: base64"),
        ("k1:U0VDUkVUU0VDUkVU", r"key 1: 32 bytes are needed, found 12"),
        (",", "there is no key"),
        (b"SECRET", r"found '\*\*\*'"),
    ],
)
def test_wrong_keys_are_told_without_showing_them(written, wrong):
    with pytest.raises(ConfigurationError, match=wrong) as caught:
        Settings.from_env({}, payload_keys=written)
    assert "SECRET" not in str(caught.value)
    assert "U0VD" not in str(caught.value)


def test_keys_show_nowhere():
    settings = Settings.from_env({}, payload_keys=f"k1:{key(65)}")
    for text in (repr(settings), repr(sealer_of(settings).codec)):
        assert key(65) not in text
        assert "AAAAA" not in text


def test_a_file_of_keys_that_cannot_be_used_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="AGNT5_PAYLOAD_KEYS_FILE: .*nowhere.*cannot be read"):
        sealer_of(Settings.from_env({}, payload_keys_file=str(tmp_path / "nowhere")))
    (tmp_path / "bad").write_text("k1:SECRET!")
    with pytest.raises(ConfigurationError, match="base64") as caught:
        sealer_of(Settings.from_env({}, payload_keys_file=str(tmp_path / "bad")))
    assert "SECRET" not in str(caught.value)


def test_one_id_is_one_key(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"k1:{key(1)}")
    given = {"payload_keys": f"k1:{key(2)}", "payload_keys_file": str(file)}
    with pytest.raises(ConfigurationError, match="another key 'k1' than AGNT5_PAYLOAD_KEYS"):
        sealer_of(Settings.from_env({}, **given))
    assert sealer_of(Settings.from_env({}, **given | {"payload_keys": f"k1:{key(1)}"})).codec


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ConfigurationError, match=r"agnt5-celery\[encryption\]"):
        AesGcmCodec({"k1": OLD})


class Reversing:
    """A codec of a user's own."""

    key_id = "rev"

    def seal(self, plain: bytes, place: bytes) -> tuple[str, bytes]:
        return self.key_id, (place + plain)[::-1]

    def open(self, key_id: str, sealed: bytes, place: bytes) -> bytes:
        {"rev": 1}[key_id]
        if not sealed.endswith(place[::-1]):
            raise ValueError(place)
        return sealed[::-1][len(place) :]

    def digests(self, data: bytes) -> list[str]:
        return ["rev:" + hashlib.sha256(data + b"pepper").hexdigest()]


MADE = Reversing()


@pytest.mark.parametrize("given", [Reversing(), f"{__name__}:MADE", f"{__name__}:Reversing"])
def test_a_codec_of_a_users_own_takes_the_place_of_keys(given):
    app = create_app(payload_codec=given)
    sealer = app.agnt5.sealer
    sealed = sealer.value(b'"plain text"', "r")
    assert b"plain text" not in sealed
    assert sealer.open(sealed, "r") == b'"plain text"'
    with pytest.raises(SealedPayloadError, match="another place"):
        sealer.open(sealed, "q")
    with pytest.raises(SealedPayloadError, match="'k2'"):
        sealer.open(SEALER.value(b"1", "r"), "r")


@pytest.mark.parametrize(
    "given",
    [
        object(),
        "no module",
        "agnt5.nowhere:codec",
        "agnt5.codec:nothing",
        "os:path",
        "os:sep",
        "json:loads",
        "agnt5.payload_keys:AesGcmCodec",
        "builtins:dict",
    ],
)
def test_a_codec_that_is_none_is_told(given):
    with pytest.raises(ConfigurationError, match=r"payload_codec|AGNT5_PAYLOAD_CODEC"):
        sealer_of(Settings.from_env({}, payload_codec=given))


def test_events_show_values_unless_they_are_sealed_or_as_it_is_set():
    assert Settings().shows_values
    assert not Settings.from_env({}, payload_keys=f"k1:{key(1)}").shows_values
    assert Settings.from_env({}, payload_keys=f"k1:{key(1)}", event_values="shown").shows_values
    assert not Settings.from_env({}, event_values="hidden").shows_values


def test_nothing_is_loaded_before_there_is_a_key():
    code = "import sys, agnt5.client, agnt5.payload_keys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

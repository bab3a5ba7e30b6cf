"""Known secrets are masked in text and data in every form in which they turn up, and nothing else is."""

from __future__ import annotations

import base64
import json
import logging
import random
import re
import string
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import secret_values

from agnt5 import InvalidInputError, codec
from agnt5.contracts.errors import StepFailedError, error_data, from_data
from agnt5.contracts.ids import check_id
from agnt5.contracts.masking import MASKER, MOST, SHORTEST, Masker
from agnt5.replay import events as ev
from agnt5.replay import journal

KEY = secret_values.made("masking", 'sk-"quoted"\\back/slash+\u00fcml\u00e4ut%20 .*[a-z]$')
PEM = "-----BEGIN PRIVATE KEY-----\n{0}A\n{0}B\n{0}C==\n-----END PRIVATE KEY-----\n".format(
    secret_values.made("pem") * 2
)
LABEL = "[secret:key]"


@pytest.fixture
def masker() -> Masker:
    masker = Masker()
    masker.learn("key", KEY)
    return masker


@pytest.fixture
def known():
    """What the process knows during one test."""
    before = dict(MASKER._values)
    yield MASKER
    MASKER.forget()
    MASKER.learn_all((name, value) for value, name in before.items())


FORMS = {
    "raw": lambda v: v,
    "json": json.dumps,
    "json with all characters": lambda v: json.dumps(v, ensure_ascii=False),
    "json in json": lambda v: json.dumps({"a": json.dumps({"b": v})}),
    "repr": repr,
    "repr of a dict": lambda v: repr({"a": [v]}),
    "repr of bytes": lambda v: repr(v.encode()),
    "url": lambda v: "https://host/?k=" + quote(v, safe="") + "&x=1",
    "path": lambda v: "https://host/" + quote(v),
    "form": quote_plus,
    "lower case url": lambda v: re.sub("%..", lambda hit: hit[0].lower(), quote(v, safe="")),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_value_is_masked(masker, form):
    text = "before " + FORMS[form](KEY) + " after"
    found = masker.masked(text)
    assert LABEL in found
    assert not secret_values.found_in(found)
    assert found.startswith("before ") and found.endswith(" after")


@pytest.mark.parametrize("before", range(5))
@pytest.mark.parametrize("urlsafe", [False, True])
def test_a_value_inside_longer_base64_is_masked_wherever_it_begins(masker, before, urlsafe):
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    header = "Authorization: Basic " + encode(("user:"[:before] + KEY + ":more").encode()).decode()
    assert LABEL in masker.masked(header)
    assert not secret_values.found_in(masker.masked(header))


def test_the_lines_of_a_key_file_are_masked_and_its_frame_is_not():
    masker = Masker()
    masker.learn("pem", PEM)
    for line in PEM.splitlines()[1:-1]:
        assert masker.masked(f"> {line}") == "> [secret:pem]"
    assert masker.masked("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"
    assert masker.masked(PEM.strip()) == "[secret:pem]"
    assert json.loads(masker.masked_json(json.dumps({"pem": PEM}).encode())) == {"pem": "[secret:pem]"}


def test_of_values_that_overlap_nothing_is_left():
    masker = Masker()
    masker.learn_all([("short", "abcdefgh"), ("long", "abcdefghijkl"), ("other", "ijklmnop")])
    assert masker.masked("abcdefghijkl.") == "[secret:long]."
    assert masker.masked("abcdefgh.") == "[secret:short]."
    assert masker.masked("_abcdefghijklmnop_") == "_[secret:long]_"
    assert masker.masked("ijklmnopabcdefgh") == "[secret:other][secret:short]"


def test_short_values_stay_and_are_warned_of_once(caplog):
    masker = Masker()
    with caplog.at_level(logging.WARNING, "agnt5.secrets"):
        assert masker.learn("pin", "12345") is False
        assert masker.learn("pin", "12345") is False
    assert masker.masked("12345") == "12345"
    (record,) = caplog.records
    assert f"the secret pin has fewer than {SHORTEST} characters" in record.getMessage()
    assert "12345" not in record.getMessage()
    assert masker.learn("none", "") is False
    assert len(caplog.records) == 1


def test_digits_are_masked_as_a_number_but_not_within_a_longer_one():
    masker = Masker()
    masker.learn("pin", "123456")
    data = json.dumps({"n": 123456, "t": 1123456789, "text": "pin 123456.", "long": "41234567", "f": 0.123456}).encode()
    assert json.loads(masker.masked_json(data)) == {
        "n": "[secret:pin]", "t": 1123456789, "text": "pin [secret:pin].", "long": "41234567", "f": 0.123456,
    }  # fmt: skip


def test_what_follows_a_backslash_in_json_does_not_break_it():
    masker = Masker()
    masker.learn("word", "nabcdefgh")
    data = json.dumps({"a": "\nabcdefgh", "b": "nabcdefgh"}).encode()
    assert json.loads(masker.masked_json(data)) == {"a": "\nabcdefgh", "b": "[secret:word]"}


def test_keys_and_nested_values_are_masked_and_numbers_keep_their_digits(masker):
    value = {KEY: [1, 2.5, -0.0, 10**30, {"deep": [f"x{KEY}y", None, True]}]}
    found = codec.loads(masker.masked_json(codec.dumps(value, what="v")))
    assert found == {LABEL: [1, 2.5, -0.0, 10**30, {"deep": [f"x{LABEL}y", None, True]}]}


def test_data_without_secrets_is_the_same_object(masker):
    data = json.dumps({"a": "b" * 5000}).encode()
    assert masker.masked_json(data) is data
    text = "nothing " * 1000
    assert masker.masked(text) is text
    assert Masker().masked_json(data) is data


def test_a_value_that_was_rotated_away_stays_masked(masker):
    new = secret_values.made("rotated")
    masker.learn("key", new)
    assert masker.masked(f"{KEY} {new}") == f"{LABEL} {LABEL}"


def test_what_is_known_is_bounded():
    masker = Masker()
    masker.learn_all((f"k{n}", f"value-number-{n:05}-of-many") for n in range(MOST + 50))
    assert len(masker._values) == MOST
    assert masker.masked("value-number-00000-of-many") == "value-number-00000-of-many"
    assert masker.masked(f"value-number-{MOST + 49:05}-of-many") == f"[secret:k{MOST + 49}]"


def test_threads_learn_and_mask_side_by_side():
    masker = Masker()
    values = [secret_values.made(f"thread-{n}") for n in range(40)]
    wrong = []

    def work(mine):
        for value in mine:
            masker.learn("t", value)
            if secret_values.found_in(masker.masked(f"a {value} b")):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=[values[at::4]]) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not secret_values.found_in(masker.masked(" ".join(values)))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=SHORTEST, max_size=60).filter(
    lambda text: len(text.strip()) >= SHORTEST and not text.isdigit() and "[secret:" not in text
)


@given(
    values=st.lists(TEXTS, min_size=1, max_size=4),
    around=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
def test_any_value_is_found_in_any_text_and_json_stays_json(values, around):
    masker = Masker()
    masker.learn_all((f"{at}", value) for at, value in enumerate(values))
    for value in values:
        text = f"{around}{value}{around}"
        shown = masker.masked(text)
        assert value not in shown.replace("[secret:", "") or value in around
        data = codec.dumps({around: [text, {"x": value}]}, what="v")
        freed = codec.loads(masker.masked_json(data))
        (parts,) = freed.values()
        assert parts[1]["x"] != value
        assert parts[0] == shown


@given(text=st.text(string.ascii_letters + " ", max_size=200))
def test_text_without_secrets_is_left_alone(text):
    masker = Masker()
    masker.learn("key", "x9-" + "q7" * 12)
    assert masker.masked(text) == text


def test_the_price_hardly_depends_on_how_many_are_known():
    """Counted, not timed: of a kilobyte 64 blocks are looked up, and nothing else happens."""
    masker = Masker()
    random_ = random.Random(1)
    masker.learn_all((f"k{n}", "sk-" + "".join(random_.choices(string.ascii_letters, k=40))) for n in range(20))
    assert masker._known is not None
    (blocks,) = masker._known._by_blocks
    assert (blocks._size, blocks._every) == (8, 2)
    assert masker._known._short == ()


# ---- where it is used


def test_errors_are_masked_in_all_their_parts(known):
    known.learn("key", KEY)
    try:
        raise ValueError("bad", {"token": KEY}, KEY)  # noqa: TRY301
    except ValueError as error:
        data = error_data(error, where=f"step {KEY}")
    assert not secret_values.found_in(json.dumps(data))
    assert data["message"].count(LABEL) == 2
    assert "ValueError: ('bad'" in data["traceback"]
    again = error_data(StepFailedError(KEY, type="E", traceback=KEY, where=KEY, details={"a": [KEY]}))
    assert again["details"] == {"a": [LABEL]}
    assert not secret_values.found_in(repr(again))
    assert not secret_values.found_in(str(from_data(again)))


def test_a_secret_at_the_cut_of_a_long_traceback_is_masked_whole(known):
    known.learn("key", KEY)
    for padding in range(len(KEY)):
        try:
            raise ValueError(KEY + "x" * (16_384 - len("\n") - padding))  # noqa: TRY301
        except ValueError as error:
            assert KEY[-6:] not in error_data(error)["traceback"]


def test_events_are_masked_where_users_fill_them_and_nowhere_else(known, caplog):
    known.learn("key", KEY)
    plain = KEY.translate({ord(c): "_" for c in '"\\/+%. *[]$'})
    known.learn("plain", plain)
    with caplog.at_level(logging.WARNING, "agnt5.secrets"):
        body = journal.encode(
            ev.StepCompleted(seq=1, name=plain, key=plain, result={"got": KEY}), "result of step (run r-1)"
        )
        journal.encode(ev.StepCompleted(seq=2, name="x", result=KEY), "result of step (run r-1)")
    event = journal.decode(body)
    assert (event.name, event.key, event.result) == (plain, plain, {"got": LABEL})
    (record,) = caplog.records
    assert record.getMessage().startswith("result of step (run r-1) holds the secret key, which was masked in it")
    for event in (
        ev.RunStarted(handler="a.b", kind="function", input={"k": KEY}, headers={"x": KEY}),
        ev.SignalReceived(name="s", payload=KEY),
        ev.SignalEmitted(seq=1, name="s", target="t", payload=[KEY]),
        ev.ApprovalRequested(seq=1, name="n", payload={"k": KEY}, form={"title": KEY}),
        ev.StepFailed(seq=1, name="n", error={"message": KEY}),
        ev.CancelRequested(reason=KEY),
    ):
        assert not secret_values.found_in(journal.encode(event)), event


def test_the_codec_masks_and_says_where_once(known, caplog):
    known.learn("key", KEY)
    with caplog.at_level(logging.WARNING, "agnt5.secrets"):
        for _ in range(3):
            assert codec.loads(codec.dumps({"k": KEY}, what="input of a.b")) == {"k": LABEL}
    assert len(caplog.records) == 1
    assert "input of a.b holds the secret key" in caplog.text


def test_ids_that_hold_a_secret_are_refused_without_showing_it(known):
    known.learn("plain", plain := secret_values.made("id"))
    with pytest.raises(InvalidInputError, match=r"run id 'order-\[secret:plain\]' holds the secret plain") as refused:
        check_id(f"order-{plain}")
    assert not secret_values.found_in(str(refused.value))

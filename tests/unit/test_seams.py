"""Values that are split over texts that follow one another are masked as in the whole text, wherever they are split."""

from __future__ import annotations

import base64
import json
import logging
import re
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import secret_values

from agnt5.contracts.beginnings import FREE
from agnt5.contracts.masking import Masker
from agnt5.contracts.seams import Seams

KEY = secret_values.made("seams", '/"q\\+\u00fc')
LABEL = "[secret:k]"


def knowing(*values: str, name: str = "k") -> Masker:
    masker = Masker()
    masker.learn_all((name.format(at), value) for at, value in enumerate(values))
    return masker


def through(seams: Seams, texts: list[str]) -> list[str]:
    """All texts, each of which comes once, in order, and never before its turn."""
    found: list[str] = []
    for count, text in enumerate(texts, 1):
        found += seams.add(text)
        assert len(found) <= count
    found += seams.end()
    assert len(found) == len(texts)
    return found


ALPHABETS = st.sampled_from(["ab", "ab1", "12", 'ab\\"\u00e9', "abcd %\n"])


@st.composite
def split_texts(draw) -> tuple[list[str], list[str]]:
    """Values of few letters, so that they overlap and repeat, and a text of their forms and parts of them, split."""
    letters = draw(ALPHABETS)
    values = draw(st.lists(st.text(letters, min_size=6, max_size=14), min_size=1, max_size=3))
    values += draw(st.sampled_from([[], [values[0] + letters * 2], [values[0][-4:] + letters * 3]]))
    known = knowing(*values)._known
    forms = st.sampled_from(sorted(known.labels) if known else values)
    cut = st.builds(lambda form, start, end: form[start:end], forms, st.integers(0, 3), st.integers(1, 30))
    text = "".join(draw(st.lists(st.one_of(forms, cut, st.text(letters, max_size=4)), max_size=7)))
    places = draw(st.lists(st.integers(0, len(text)), max_size=30).map(sorted))
    every = range(1, len(text)) if draw(st.booleans()) else places
    return values, [text[start:end] for start, end in zip([0, *every], [*every, len(text)], strict=True)]


@given(split_texts())
def test_any_split_of_any_text_gives_what_masking_the_whole_gives(drawn):
    values, texts = drawn
    masker = knowing(*values, name="k{}")
    assert "".join(through(Seams("s", masker, free=0), texts)) == masker.masked("".join(texts))

    masker = knowing(*values)
    whole = masker.masked("".join(texts))
    shown = rf"(?:.{{0,{FREE}}}{re.escape(LABEL)})+"  # the characters that do not wait; each of values that overlap
    expected = shown.join(re.escape(part) for part in whole.split(LABEL))
    assert re.fullmatch(expected, "".join(through(Seams("s", masker), texts)), re.DOTALL)


@given(st.lists(st.text(string.ascii_letters + string.digits + " \n\u00e9", max_size=20), max_size=20))
def test_a_text_that_ends_as_no_value_begins_is_given_at_once_as_it_is(texts):
    seams = Seams("s", knowing("~" + secret_values.made("tilde")))
    for text in texts:
        (same,) = seams.add(text)
        assert same == text


def test_nothing_waits_and_nothing_is_kept_where_nothing_is_known():
    seams = Seams("s", Masker())
    for text in (KEY[:9], KEY[9:], ""):
        assert seams.add(text) == [text]
        assert len(seams._text) <= 1
    assert seams.end() == []


FORMS = {
    "raw": lambda v: v,
    "json": lambda v: json.dumps({"a": v}),
    "repr of bytes": lambda v: repr(v.encode()),
    "url": lambda v: "?key=" + quote(v, safe=""),
    "basic": lambda v: "Basic " + base64.b64encode(f"user:{v}:x".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_each_form_is_found_in_pieces_of_any_size(form, size):
    text = f"before {FORMS[form](KEY)} after"
    texts = [text[at : at + size] for at in range(0, len(text), size)]
    found = "".join(through(Seams("s", knowing(KEY)), texts))
    assert LABEL in found
    assert not secret_values.found_in(found)
    assert found.startswith("before ") and found.endswith(" after")


def test_only_what_may_be_split_waits_and_the_label_stands_where_the_value_begins():
    masker = knowing("correct-horse")
    seams = Seams("s", masker)
    assert seams.add("it is ") == ["it is "]
    assert seams.add("a correct-") == []
    assert seams.add("ho") == []
    assert seams.add("rse, so") == ["a [secret:k]", "", ", so"]
    assert seams.add("a correct-") == []
    assert seams.add("ion") == ["a correct-", "ion"]
    assert seams.add("two correct-horses: correct-horse") == [f"two {LABEL}s: {LABEL}"]


def test_the_first_characters_do_not_wait_and_what_follows_is_masked():
    seams = Seams("s", knowing("correct-horse"))
    assert seams.add("a co") == ["a co"]
    assert seams.add("rrect-") == []
    assert seams.add("horse.") == [LABEL, "."]
    short = Seams("s", knowing("horses"))
    assert short.add("h") == ["h"]  # a quarter of it, and not more
    assert short.add("o") == []
    assert short.add("rses") == [LABEL, ""]


def test_what_waits_is_given_at_the_end_and_what_follows_that_is_another_text():
    seams = Seams("s", knowing("correct-horse"))
    assert seams.add("a correct-") == []
    assert seams.end() == ["a correct-"]
    assert seams.add("horse") == ["horse"]
    assert seams.end() == []


def test_a_value_that_a_longer_one_begins_with_waits_for_it():
    seams = Seams("s", knowing("correct", "correct-horse", name="k{}"))
    assert seams.add("correct") == []
    assert seams.add("-horse") == ["[secret:k1]", ""]
    assert seams.add("correct") == []
    assert seams.add("ed") == ["[secret:k0]", "ed"]


def test_values_that_overlap_are_one_as_in_the_whole():
    texts = ["correct-ho", "rse", "", "venteen"]
    exact = Seams("s", knowing("correct-horse", "horseventeen-and", "seventeen", name="k{}"), free=0)
    assert through(exact, texts) == ["[secret:k0]", "", "", ""]
    assert through(exact, ["correct", "-horse", "venteen-and"]) == ["[secret:k1]", "", ""]
    seams = Seams("s", knowing("correct-horse", "seventeen", name="k{}"))
    assert [seams.add(text) for text in texts] == [[], ["[secret:k0]", ""], [""], [""]]


def test_digits_wait_for_what_tells_that_the_number_ends():
    seams = Seams("s", knowing("123456"))
    assert seams.add("123456") == []
    assert seams.add("7") == ["123456", "7"]
    assert seams.add(" 123456") == []
    assert seams.add("!") == [f" {LABEL}", "!"]
    texts = ["21", "2", "12", "1", "21", "2122121 yMT", "!"]
    assert through(Seams("s", knowing("12122121", "2121212212"), free=0), texts) == texts
    assert through(seams, list("9123456 123456")) == [*"9123456 1", LABEL, *[""] * 4]


def test_a_value_that_becomes_known_in_between_is_masked_from_then_on():
    masker = knowing("correct-horse")
    seams = Seams("s", masker)
    assert seams.add("battery") == ["battery"]
    masker.learn("k", "battery-staple")
    assert seams.add("-staple battery-") == []
    assert seams.add("staple") == [f"-staple {LABEL}", ""]


def test_little_is_kept_of_long_texts_and_of_many_values():
    seams = Seams("s", knowing("correct-horse"))
    kept = 0
    for at in range(2000):
        seams.add(("correct-horse" * 2)[at * 7 % 13 :][:7])
        kept = max(kept, len(seams._text))
    assert kept < 60


def test_a_split_value_is_warned_of_once(caplog):
    seams = Seams("stream of a.b", knowing(KEY))
    with caplog.at_level(logging.WARNING, "agnt5.secrets"):
        through(seams, [KEY[:9], KEY[9:], KEY[:9], KEY[9:]])
    (record,) = caplog.records
    assert record.getMessage().startswith("stream of a.b holds the secret k, which was masked in it")

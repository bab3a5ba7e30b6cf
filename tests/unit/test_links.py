"""Links that let one named person decide one approval."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agnt5.contracts.errors import ConfigurationError, InvalidInputError
from agnt5.links import DecisionLinks, LinkError

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECRET = "long enough to be a secret"
LINKS = DecisionLinks(SECRET)


def token(**changed) -> str:
    given = {"approver": "ann", "roles": ["admin"], "expires_at": NOW + timedelta(hours=1)} | changed
    return LINKS.make("order-17", "deploy", "0.3", **given)


def test_a_link_says_who_may_decide_what_and_until_when():
    link = LINKS.read(token(), now=NOW)
    assert (link.run_id, link.name, link.ref) == ("order-17", "deploy", "0.3")
    assert (link.approver, link.roles, link.expires_at) == ("ann", ("admin",), NOW + timedelta(hours=1))


def test_it_fits_into_a_url_as_it_is():
    strange = LINKS.make("a/b?c=d&ü", "näme/?", "0.1", approver="Ann & Söhne", expires_at=NOW + timedelta(1))
    assert all(char.isalnum() or char in "-_." for char in strange)
    assert LINKS.read(strange, now=NOW).approver == "Ann & Söhne"


def test_it_ends():
    with pytest.raises(LinkError, match="valid until 2026-06-01 13:00 UTC"):
        LINKS.read(token(), now=NOW + timedelta(hours=1))
    with pytest.raises(LinkError, match="valid until"):
        LINKS.read(token(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert LINKS.read(token(expires_at=datetime.now(UTC) + timedelta(minutes=1))).approver == "ann"


def test_every_changed_or_missing_character_is_noticed():
    whole = token()
    for at in range(len(whole)):
        # the last character of base64 has bits that mean nothing, which the signer compares all the same
        other = whole[:at] + ("A" if whole[at] != "A" else "B") + whole[at + 1 :]
        with pytest.raises(LinkError, match="not valid"):
            LINKS.read(other, now=NOW)
        with pytest.raises(LinkError, match="not valid"):
            LINKS.read(whole[:at], now=NOW)


@pytest.mark.parametrize("forged", ["", ".", "x", "e30.x", "ü", "a" * 10_000])
def test_what_was_never_issued_is_refused(forged):
    with pytest.raises(LinkError):
        LINKS.read(forged, now=NOW)


def test_another_secret_makes_other_links():
    with pytest.raises(LinkError):
        DecisionLinks("another secret altogether").read(token(), now=NOW)


def test_without_a_secret_it_says_which_setting_is_missing():
    with pytest.raises(ConfigurationError, match=r"AGNT5_LINK_SECRET \(link_secret\)"):
        DecisionLinks("")


def test_the_secret_is_shown_nowhere():
    assert SECRET not in repr(LINKS) + token() + str(vars(LINKS).keys())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"approver": ""}, "approver: expected a person's name"),
        ({"approver": "a\nb"}, "not allowed"),
        ({"roles": "admin"}, "roles: expected a list"),
        ({"expires_at": NOW.replace(tzinfo=None)}, "expires_at: expected a time with a time zone"),
    ],
)
def test_a_link_to_nobody_in_particular_is_not_made(changed, says):
    with pytest.raises(InvalidInputError, match=says):
        token(**changed)
